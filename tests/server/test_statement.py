"""What a version says of privacy is what its plans cost at least, and no more."""

from dataclasses import replace
from typing import Any

import pytest

from server.statement import DELTA, TRAINING, privacy_after
from shared.accounting import MOST_STEPS, GaussianEvent, epsilon
from shared.protocol import Mechanism

USUAL = Mechanism(q=0.1, sigma=1.0, clip=0.5, steps=5)


def vars_of(mechanism: Mechanism) -> dict[str, Any]:
    """What a statement keeps of a mechanism."""
    return {name: getattr(mechanism, name) for name in TRAINING}


def after(*mechanisms: Mechanism) -> dict[str, Any]:
    """The statement after rounds of these mechanisms."""
    said: dict[str, Any] = {"training": []}
    for mechanism in mechanisms:
        said = privacy_after(said["training"], mechanism)
    return said


def test_rounds_of_one_mechanism_are_composed() -> None:
    said = after(USUAL, USUAL, USUAL)

    assert said["training"] == [
        {"q": 0.1, "sigma": 1.0, "clip": 0.5, "steps": 5, "rounds": 3}
    ]
    whole = GaussianEvent(q=0.1, sigma=1.0, steps=15)
    assert said["epsilon"] == epsilon([whole], DELTA)
    assert "rounds 1 to 3 of this run spent on training in them" in said["statement"]
    assert (
        f"at least epsilon = {said['epsilon']:.4f} at delta = 1e-05"
        in said["statement"]
    )
    assert "the ledger of each site has the whole truth" in said["statement"]


def test_a_mechanism_that_changes_is_counted_as_it_was() -> None:
    louder = replace(USUAL, sigma=2.0)

    said = after(USUAL, louder, louder, USUAL)

    counted = [(part["sigma"], part["rounds"]) for part in said["training"]]
    assert counted == [(1.0, 1), (2.0, 2), (1.0, 1)]
    events = [
        GaussianEvent(q=0.1, sigma=1.0, steps=10),
        GaussianEvent(q=0.1, sigma=2.0, steps=10),
    ]
    assert said["epsilon"] == pytest.approx(epsilon(events, DELTA))


def test_what_is_no_noise_of_training_is_not_in_the_figure() -> None:
    more = replace(USUAL, prior_sigma=1.0, metric_sigma=1.0)

    assert after(more)["epsilon"] == after(USUAL)["epsilon"]


def test_one_round_without_noise_makes_all_that_follows_not_private() -> None:
    bare = replace(USUAL, sigma=0.0, prior_sigma=0.0)

    for said in (after(bare), after(USUAL, bare), after(bare, USUAL)):
        assert said["epsilon"] is None
        assert said["statement"].startswith("NOT PRIVATE")


def test_more_steps_than_can_be_composed_are_called_not_private() -> None:
    asked = replace(USUAL, steps=100_000)
    before = [{**vars_of(asked), "rounds": MOST_STEPS}]

    said = privacy_after(before, asked)

    assert said["epsilon"] is None
    assert said["statement"].startswith("NOT PRIVATE")
