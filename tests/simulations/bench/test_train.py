"""The figures of training are all there, hang together, and name their limits."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from simulations.bench import limits as measured
from simulations.bench.site import Size
from simulations.bench.train import LIMITS, in_turn, lines, measure

SMALL = Size(items=40, users=30, likes=8)


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "SHAPES", ((64, 64, 64),))
        patch.setattr(measured, "BUFFER", {"cpu": 1 << 20})
        yield measure(device="cpu", base="tiny", repetitions=2, size=SMALL)


@pytest.mark.slow
def test_every_figure_of_the_issue_is_there_with_its_limit(
    figures: dict[str, Any],
) -> None:
    assert json.loads(json.dumps(figures)) == figures
    assert figures["limits"] == LIMITS
    for name in (*LIMITS, "users_per_s", "plain_users_per_s"):
        assert figures[name] > 0, name


@pytest.mark.slow
def test_ratios_are_those_of_the_seconds_beside_them(figures: dict[str, Any]) -> None:
    said = figures
    users, step_s = said["users_per_step"], said["step_ms"] / 1000

    assert said["users_per_s"] == pytest.approx(users / step_s, rel=0.01)
    assert said["dp_tax"] == pytest.approx(
        said["step_ms"] / said["unprotected_step_ms"], rel=0.01
    )
    assert said["vs_plain_fp32"] == pytest.approx(
        said["plain_step_s"] / step_s, rel=0.01
    )
    assert said["vs_plain_bf16"] == pytest.approx(
        said["plain_step_s"] / (said["step_ms_bf16"] / 1000), rel=0.01
    )
    assert said["copy_fraction_of_step"] <= said["copy_fraction"]
    assert said["gemm_fraction_of_step"] <= said["gemm_fraction"]


@pytest.mark.slow
def test_people_read_each_limit_beside_its_figure(figures: dict[str, Any]) -> None:
    said = lines(figures)

    for line, (name, limit) in zip(said, LIMITS.items(), strict=False):
        assert line.startswith(name)
        assert f"{limit:g})" in line
        assert ("at most" in line) == (name == "dp_tax")


def test_runs_take_turns() -> None:
    ran: list[str] = []
    runs = [(name, lambda name=name: ran.append(name)) for name in ("a", "b", "plain")]

    taken = in_turn(runs, 2)

    assert ran == ["a", "b", "a", "b", "plain", "a", "b", "plain"]
    assert {name: len(times) for name, times in taken.items()} == {
        "a": 2,
        "b": 2,
        "plain": 2,
    }
