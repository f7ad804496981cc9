"""A site's own rules."""

import numpy as np
import pytest

from client.serving.rules import Caps, rule_scores
from client.serving.settings import Rule
from shared.errors import ConfigError
from tests.client.serving.served import served

MODEL = served(40)


def test_rules_add_where_an_item_has_the_value_and_nowhere_else() -> None:
    rules = [
        Rule(attribute="genres", value="horror", add=-2.0),
        Rule(attribute="maker", value="maker 1", add=0.5),
        Rule(attribute="maker", value="nobody", add=9.0),
    ]

    added = rule_scores(MODEL, rules)

    place = np.arange(40)
    np.testing.assert_array_equal(
        added, -2.0 * (place % 4 == 1) + 0.5 * (place % 10 == 1)
    )


def test_rules_on_unknown_attributes_are_refused_all_at_once() -> None:
    rules = [
        Rule(attribute="colour", value="red", add=1),
        Rule(attribute="size", most=1),
    ]

    with pytest.raises(ConfigError) as refused:
        rule_scores(MODEL, rules)

    assert "'colour'" in str(refused.value)
    assert "'size'" in str(refused.value)
    assert "genres, maker, year" in str(refused.value)


def test_a_cap_on_a_value_closes_that_value_alone_when_it_is_full() -> None:
    caps = Caps(MODEL, [Rule(attribute="genres", value="horror", most=2)])

    assert list(caps.take(0)) == []
    assert list(caps.take(1)) == []
    (full,) = caps.take(5)
    assert full.tolist() == list(range(1, 40, 4))


def test_a_cap_without_a_value_closes_each_value_by_itself() -> None:
    caps = Caps(MODEL, [Rule(attribute="maker", most=1)])

    (full,) = caps.take(13)

    assert full.tolist() == [3, 13, 23, 33]
