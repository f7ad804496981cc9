"""Privacy loss distributions of many kinds of steps, composed once and kept.

Every loss is rounded up, so whatever is returned is an upper bound. Equal kinds are
composed in the same tree whatever their order, and one more kind changes only the few
nodes above it. An interval, and so a call, costs some seconds at most.
"""

import hashlib
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from threading import Lock
from typing import Any, Literal

Relation = Literal["add_remove", "replace_one"]
Kind = tuple[float, float, int]  # (q, sigma, steps)
Kinds = tuple[Kind, ...]  # in the order of their coins, no two (q, sigma) equal

FINE, COARSE = 1e-4, 1e-3  # discretisation of the privacy loss: to report, to search
FINEST = 1e-9  # no loss is so faint that it needs less
MANY_KINDS = 8  # above this many (q, sigma) the coarse one is reported (PRIVACY 3.2)

# Points of a discretised loss: each MOST bounds the time of one call to some seconds.
MOST_MADE = 2e6  # made one by one, over all kinds: 4 microseconds each
MOST_COMPOSED = 4e6  # in one composition by FFT: 0.2 microseconds each
MOST_KEPT = 12_000_000  # of all distributions kept for the next call: about 100 MB

ROUNDING = 4e-16  # of delta, lost by FFT in each step; measured up to 0.9e-16


def merged(steps_of: Iterable[Kind]) -> Kinds:
    """Add up the steps of equal (q, sigma): splitting and order then cannot matter."""
    steps: Counter[tuple[float, float]] = Counter()
    for q, sigma, more in steps_of:
        steps[float(q), float(sigma)] += more
    return tuple(sorted(((*kind, steps[kind]) for kind in steps), key=_coins))


def affordable(kinds: Kinds, interval: float) -> float:
    """Widen the interval where losses span far, narrow it where they are faint.

    Any interval is sound. Every one is ``interval`` times a power of two, so that a
    growing history seldom changes it, and what is composed can be kept.
    """
    if len(kinds) > MANY_KINDS:
        interval = max(interval, COARSE)
    count = sum(steps for _, _, steps in kinds)
    faint = math.sqrt(sum(steps * (q / s) ** 2 for q, s, steps in kinds) / count) / 8
    made = sum(_span(q, sigma) for q, sigma, _ in kinds) / MOST_MADE
    composed = sum(_width(*kind) for kind in kinds) / MOST_COMPOSED
    wanted = max(min(interval, max(faint, 10 * made)), made, composed, FINEST)
    return interval * 2.0 ** math.ceil(math.log2(wanted / interval))


def _span(q: float, sigma: float) -> float:
    """Return how far the losses of one step reach, ten standard deviations included."""
    reach = (10 + 0.5 / sigma) / sigma
    down = reach if q == 1 else min(reach, -math.log1p(-q))
    return reach + math.log(q + (1 - q) * math.exp(-reach)) + down


def _width(q: float, sigma: float, steps: int) -> float:
    """Return about how wide the loss of ``steps`` steps is when it is composed.

    dp-accounting bounds it by Chernoff, at mass 1e-15 and orders from 1 to 20 over the
    span; the second moment of a step's loss stands for its moments.
    """
    inverse, span = sigma**-2, max(_span(q, sigma), FINEST)
    square = min(q * math.expm1(min(inverse, 50)), inverse + inverse**2 / 4) * q
    spread = steps * max(min(square, span**2), 1e-99)
    order = min(max(math.sqrt(70 / spread), 1 / span), 20 / span)
    return spread * order + 70 / order


@lru_cache(maxsize=256)
def composed_epsilon(
    kinds: Kinds, delta: float, relation: Relation, interval: float
) -> float:
    """Return the pessimistic epsilon of all kinds; inf where there is no answer.

    What FFT may have rounded away is taken off delta, and is at most half of it.
    """
    import numpy as np  # noqa: PLC0415

    certain = delta - ROUNDING * sum(steps for _, _, steps in kinds)
    if certain < delta / 2:
        return math.inf
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            whole = _composed(kinds, relation, interval)
            return float(whole.get_epsilon_for_delta(certain))
    except ArithmeticError:
        return math.inf


def _composed(kinds: Kinds, relation: Relation, interval: float) -> Any:
    """Return the PLD of all kinds together, from the ones kept where it can."""
    return _kept.get(
        (kinds, relation, interval), lambda: _compose(kinds, relation, interval)
    )


def _compose(kinds: Kinds, relation: Relation, interval: float) -> Any:
    """Compose two halves, or the steps of one kind, or make the PLD of one step."""
    from dp_accounting import NeighboringRelation  # noqa: PLC0415
    from dp_accounting.pld.privacy_loss_distribution import (  # noqa: PLC0415
        from_gaussian_mechanism,
    )

    if len(kinds) > 1:
        one, other = (_composed(half, relation, interval) for half in _halves(kinds))
        return one.compose(other)
    q, sigma, steps = kinds[0]
    if steps > 1:
        return _composed(((q, sigma, 1),), relation, interval).self_compose(steps)
    neighbours = {
        "add_remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace_one": NeighboringRelation.REPLACE_ONE,
    }
    return from_gaussian_mechanism(
        sigma,
        sampling_prob=q,
        value_discretization_interval=interval,
        neighboring_relation=neighbours[relation],
    )


def _halves(kinds: Kinds) -> tuple[Kinds, Kinds]:
    """Split at the first coin that is not the same for all.

    Which side a kind falls on depends on the kind alone. So the same kinds are always
    composed in the same tree, and one more changes only the few nodes above it.
    """
    bit = (_coins(kinds[0]) ^ _coins(kinds[-1])).bit_length() - 1
    first = sum(not _coins(kind) >> bit & 1 for kind in kinds)
    return kinds[:first], kinds[first:]


def _coins(kind: Kind) -> int:
    """Return 256 coins that are fixed for a kind, however many its steps."""
    return int.from_bytes(hashlib.sha256(repr(kind[:2]).encode()).digest())


class _Kept:
    """The distributions used last, by what they compose, up to a bound on memory."""

    def __init__(self, most: int) -> None:
        self._most = most  # points in all
        self._points = 0
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what is kept under ``key``, or make and keep it."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._lock:
            self._points += 0 if key in self._found else _points(made)
            self._found[key] = made
            while self._points > self._most:
                self._points -= _points(self._found.popitem(last=False)[1])
        return made


def _points(pld: Any) -> int:
    """Return the points of both of its distributions."""
    return int(pld._pmf_remove.size + pld._pmf_add.size)  # noqa: SLF001 - not public


_kept = _Kept(MOST_KEPT)
