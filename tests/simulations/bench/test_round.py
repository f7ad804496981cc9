"""The parts of a round add up to it, and no later round loads anything again."""

import json
import time
from pathlib import Path

import pytest

from simulations.bench.round import (
    PARTS,
    TRAINING,
    WEIGHTS,
    Stopwatch,
    laps,
    lines,
    measure,
)
from simulations.bench.site import Size

SMALL = Size(items=144, users=40)


class Pausing:
    """Two calls, one inside the other."""

    def outer(self) -> str:
        time.sleep(0.02)
        return self.inner()

    def inner(self) -> str:
        time.sleep(0.05)
        return "done"


def test_a_part_is_timed_without_the_parts_that_it_calls() -> None:
    watch, pausing = Stopwatch(), Pausing()

    with watch.on("outer", Pausing, "outer"), watch.on("inner", Pausing, "inner"):
        said = pausing.outer()
        pausing.inner()
    lap = watch.lap()

    assert said == "done"
    assert lap.calls == {"outer": 1, "inner": 2}
    assert lap.parts["inner"] >= 0.1
    assert 0.02 <= lap.parts["outer"] < 0.05
    assert lap.seconds >= lap.parts.total()


def test_what_was_timed_is_as_it_was_before_even_after_an_error() -> None:
    original, watch = Pausing.inner, Stopwatch()

    with pytest.raises(TypeError), watch.on("inner", Pausing, "inner"):
        Pausing().inner("one too many")  # type: ignore[call-arg]

    assert Pausing.inner is original
    assert watch.lap().calls["inner"] == 1
    assert not watch.lap().calls


def test_every_part_is_met_and_later_rounds_load_nothing(tmp_path: Path) -> None:
    first, second = laps(tmp_path, "tiny", SMALL, sites=2, rounds=2)

    assert {part for part, _, _ in PARTS} == first.calls.keys() | {WEIGHTS}
    assert first.calls[TRAINING] == second.calls[TRAINING] == 2
    assert first.calls[WEIGHTS] <= 1  # none, if this process has read them before
    assert second.calls[WEIGHTS] == second.imports == 0
    for lap in (first, second):
        assert lap.parts.total() <= lap.seconds
        assert 0 < lap.overhead < lap.seconds


@pytest.mark.slow
def test_the_figures_of_a_round_are_plain_and_said_in_words() -> None:
    figures = measure("tiny", rounds=3)

    assert json.loads(json.dumps(figures)) == figures
    assert figures["encoder_loads_later_rounds"] == 0
    assert figures["data_loads_first_round"] == figures["sites"]
    assert min(figures["overhead_s_each"]) <= figures["overhead_s"]
    assert 0 < figures["overhead_s"] <= max(figures["overhead_s_each"])
    assert any(f"{figures['overhead_s']:.3f} s" in line for line in lines(figures))
