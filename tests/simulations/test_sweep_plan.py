"""What a sweep runs: every arm at every point that it depends on, once."""

import re
from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from simulations.scenario import ARMS
from simulations.scenario_file import read_scenario
from simulations.sweep_plan import BUDGET, WITHOUT_BUDGET, points, read_sweeps

SWEPT: dict[str, list[Any]] = {
    "epsilon": [1, 2.5, 8],
    "delta": [1e-5, 1e-6],
    "recipe.alpha": [0.3, 0.5],
    "partition": ["iid", "size"],
}
some_keys = st.lists(st.sampled_from(sorted(SWEPT)), unique=True)
some_arms = st.lists(st.sampled_from(ARMS), unique=True, min_size=1)
some_seeds = st.integers(1, 3).map(range)


@given(keys=some_keys, arms=some_arms, seeds=some_seeds)
def test_every_arm_meets_every_point_that_it_depends_on_exactly_once(
    keys: list[str], arms: list[str], seeds: range
) -> None:
    swept = {key: SWEPT[key] for key in keys}

    plan = points("some", swept, seeds, arms)

    met = Counter(
        (arm, point.seed, tuple(point.keys.items()))
        for point in plan
        for arm in point.arms
    )
    expected = [
        (arm, seed, tuple(zip(own, values, strict=True)))
        for arm in arms
        for own in [[k for k in keys if k not in BUDGET or arm not in WITHOUT_BUDGET]]
        for seed, values in product(seeds, product(*(swept[key] for key in own)))
    ]
    assert met == Counter(expected)


@given(keys=some_keys, arms=some_arms, seeds=some_seeds)
def test_every_run_has_a_folder_of_its_own_with_a_plain_name(
    keys: list[str], arms: list[str], seeds: range
) -> None:
    plan = points("some", {key: SWEPT[key] for key in keys}, seeds, arms)
    names = [point.name for point in plan]

    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"some-[\w.=-]+", name) for name in names)


def test_arms_without_a_budget_run_once_where_budgets_are_swept() -> None:
    swept = read_sweeps(["epsilon=1,2,4,8"])

    plan = points("some", swept, range(5), ["popularity", "ease", "federated"])

    bare = [point for point in plan if point.arms == ("popularity", "ease")]
    assert [point.keys for point in bare] == [{}] * 5
    assert len(plan) == 5 + 5 * 4


def test_a_point_is_read_as_the_scenario_that_it_names() -> None:
    swept = read_sweeps(["epsilon=1,2", "recipe.alpha=.3,.5", "partition=iid,size"])
    last = points("some", swept, [7], ["federated", "local"])[-1]

    asked = read_scenario(None, {}, last.sets())

    assert asked.simulation.epsilon == 2
    assert asked.simulation.partition == "size"
    assert asked.simulation.seed == 7
    assert asked.simulation.arms == ("federated", "local")
    assert asked.recipe().alpha == 0.5


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("epsilon=1,2.5", [1, 2.5]),
        ("recipe.alpha=.3,.5", [0.3, 0.5]),
        ("partition=iid,size", ["iid", "size"]),
        ('partition="iid"', ["iid"]),
        ("no-dp=true,false", [True, False]),
        ("epsilon=1,1", [1]),
        ("simulation.epsilon=8", [8]),
    ],
)
def test_values_are_numbers_truths_or_words_each_once(
    text: str, values: list[Any]
) -> None:
    (found,) = read_sweeps([text]).values()

    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_everything_that_cannot_be_swept_is_told_at_once() -> None:
    given_ = ["epsilon", "rounds=", "seed=1,2", "workers=1,2", "sites=2", "sites=3"]

    with pytest.raises(ConfigError) as refused:
        read_sweeps(given_)

    said = str(refused.value).splitlines()[1:]
    words = ["epsilon", "rounds=", "--seeds N", "no result", "sites is swept already"]
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))
