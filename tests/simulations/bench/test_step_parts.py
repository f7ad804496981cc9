"""The parts of a step add up to the step, and none of them is missed."""

import time
from pathlib import Path

from client.noise import insecure_streams
from client.train import train_round
from simulations.bench.step_parts import PARTS, REST, parts_ms
from tests.factories import mechanism, tiny_model, users


def test_the_parts_add_up_to_the_step_and_each_of_them_was_run(tmp_path: Path) -> None:
    model, steps, took = tiny_model(tmp_path), 4, list[float]()

    def one_round() -> None:
        begun = time.perf_counter()
        train_round(
            model,
            users(12),
            mechanism(steps=steps),
            users=12,
            streams=insecure_streams(3),
            key=[1],
        )
        took.append(time.perf_counter() - begun)

    parts = parts_ms(one_round, steps)

    assert set(parts) == {*(name for name, _, _ in PARTS), REST}
    assert all(part > 0 for part in parts.values())
    assert list(parts.values()) == sorted(parts.values(), reverse=True)
    whole = 1000 * took[-1] / steps
    assert abs(sum(parts.values()) - whole) < 0.05 * whole + 0.1


def test_what_was_wrapped_is_as_it_was(tmp_path: Path) -> None:
    before = [vars(owner)[attribute] for _, owner, attribute in PARTS]
    model = tiny_model(tmp_path)

    parts_ms(model.encoded, 1)

    assert [vars(owner)[attribute] for _, owner, attribute in PARTS] == before
