"""Limits: what a charge may ask for, and that a ledger's line says all of it."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.accounting import GaussianEvent
from shared.errors import ConfigError
from shared.limits import EVERYBODY, PURPOSES, Limits

LIMITS = Limits(
    epsilon=3.0,
    max_q=0.5,
    max_steps=20,
    max_clip=0.3,
    min_sigma_training=1.5,
    min_sigma_popularity=4.0,
    min_sigma_metrics=6.0,
    policy="ab" * 32,
    min_sigma_serving=3.0,
    min_sigma_cooccurrence=0.7,
)
EDGE = {  # the most that each purpose may ask for: q, sigma, steps, clip
    "training": (0.5, 1.5, 20, 0.3),
    "popularity": (1.0, 4.0, 20, 1.0),
    "metrics": (0.5, 6.0, 20, 1.0),
    "serving": (1.0, 3.0, 20, 1.0),
    "cooccurrence": (1.0, 0.7, 20, 1.0),
}


def faults(what: str, q: float, sigma: float, steps: int, clip: float) -> list[str]:
    return LIMITS.passed_by(what, GaussianEvent(q=q, sigma=sigma, steps=steps), clip)


@pytest.mark.parametrize("what", PURPOSES)
def test_the_edge_of_every_limit_is_allowed_and_a_step_beyond_it_is_named(
    what: str,
) -> None:
    q, sigma, steps, clip = EDGE[what]
    less = math.nextafter(sigma, 0)
    longer = math.nextafter(clip, 2)

    assert faults(what, q, sigma, steps, clip) == []
    assert faults(what, q, less, steps, clip) == [
        f"{what} sigma={less} is under {sigma}"
    ]
    assert faults(what, q, sigma, 21, clip) == [f"{what} steps=21 is over 20"]
    assert faults(what, q, sigma, steps, longer) == [
        f"{what} clip={longer} is over {clip}"
    ]


@pytest.mark.parametrize("what", ["training", "metrics"])
def test_only_a_release_that_says_so_may_take_every_user(what: str) -> None:
    _, sigma, steps, clip = EDGE[what]

    assert faults(what, 0.51, sigma, steps, clip) == [f"{what} q=0.51 is over 0.5"]
    assert [faults(all_, 1.0, 4.0, 1, 1.0) for all_ in EVERYBODY] == [[], [], []]


def test_every_limit_that_is_passed_is_named_at_once() -> None:
    assert len(faults("training", 1.0, 0.5, 1000, math.nan)) == 4


positive = st.floats(0, exclude_min=True, allow_infinity=False)


@given(
    made=st.builds(
        Limits,
        epsilon=positive | st.just(math.inf),
        max_q=positive,
        max_steps=st.integers(1, 10**9),
        max_clip=positive,
        min_sigma_training=positive,
        min_sigma_popularity=positive,
        min_sigma_metrics=positive,
        policy=st.text(),
        min_sigma_serving=positive,
    )
)
def test_limits_come_back_from_a_line_as_they_were(made: Limits) -> None:
    line = json.dumps(made.to_body(), allow_nan=False)

    assert Limits.from_body(json.loads(line)) == made


def test_limits_of_a_ledger_that_is_older_than_serving_are_read() -> None:
    body = LIMITS.to_body()
    del body["min-sigma-serving"]

    assert Limits.from_body(body) == replace(LIMITS, min_sigma_serving=1.0)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0 must be above 0"),
        ({"epsilon": math.nan}, "epsilon=nan must be above 0"),
        ({"epsilon": math.inf}, "an infinite epsilon is written as null"),
        ({"epsilon": ...}, "missing key 'epsilon'"),
        ({"max-q": ...}, "missing key 'max-q'"),
        ({"max-q": None}, "max-q=None is not float"),
        ({"max-q": -1.0}, "max-q=-1.0 must be finite and above 0"),
        ({"max-steps": 1.5}, "max-steps=1.5 is not int"),
        ({"max-clip": math.inf}, "max-clip=inf must be finite and above 0"),
        ({"min-sigma-metrics": 0}, "min-sigma-metrics=0.0 must be finite"),
        ({"min-sigma-serving": 0}, "min-sigma-serving=0.0 must be finite"),
        ({"policy": 7}, "policy=7 is not str"),
        ({"max_q": 0.5}, "unknown key 'max_q'"),
    ],
)
def test_a_line_that_says_no_limits_is_refused(
    changes: dict[str, Any], fault: str
) -> None:
    changed = {**LIMITS.to_body(), **changes}
    body = {name: value for name, value in changed.items() if value is not ...}

    with pytest.raises(ConfigError, match=fault):
        Limits.from_body(body)
