"""A site's own rules: what they add to scores, and how many of a kind a list may hold.

It refuses a rule on an attribute that the catalogue does not have.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from client.serving.model import Ints, Served
from client.serving.settings import Rule
from shared.errors import ConfigError
from shared.protocol import Array


def rule_scores(model: Served, rules: Sequence[Rule]) -> Array:
    """Return what the rules add to each item's score, [n].

    Raises:
        ConfigError: If the catalogue lacks an attribute; all faults at once.
    """
    check_rules(model, rules)
    added = np.zeros(len(model), np.float32)
    for rule in rules:
        if rule.add:
            added[places_with(model, rule)] += np.float32(rule.add)
    return added


def check_rules(model: Served, rules: Sequence[Rule]) -> None:
    """Refuse rules on attributes that the catalogue does not have."""
    known = model.catalogue.attributes
    faults = [
        f"rule on attribute {rule.attribute!r}, of which the catalogue knows nothing"
        for rule in rules
        if rule.attribute not in known
    ]
    if faults:
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError("\n  ".join([*faults, f"it has: {names}"]))


def places_with(model: Served, rule: Rule) -> Ints:
    """Return the places of the items that a rule on one value is about."""
    return model.attributes[rule.attribute].get(rule.value, np.zeros(0, np.int64))


class Caps:
    """Counts what a list holds, and tells which items may come no more.

    Guarantee: if the places that ``take`` returns are left out from then on, no list
    holds more items of a value than a rule's ``most``.
    """

    def __init__(self, model: Served, rules: Sequence[Rule]) -> None:
        self._model = model
        self._caps = [rule for rule in rules if rule.most]
        self._counts: Counter[tuple[int, str]] = Counter()

    def take(self, place: int) -> Iterator[Ints]:
        """Count one more item; yield the places of each kind that is now full."""
        for number, cap in enumerate(self._caps):
            values = self._model.catalogue.attributes[cap.attribute][place]
            for value in set(values):
                if cap.value not in ("", value):
                    continue
                self._counts[number, value] += 1
                if self._counts[number, value] >= cap.most:
                    yield self._model.attributes[cap.attribute][value]
