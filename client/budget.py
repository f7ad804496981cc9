"""What is left of a site's privacy budget, and what it still pays for.

Pure computation on what the ledger holds: nothing is read, charged or decided here. An
epsilon that is infinite, because something left without noise, is said as infinite and
never as a number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.accounting import GaussianEvent, epsilon, noise_for, rounds_left
from shared.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A site's budget as it stands; all of it is public.

    Attributes:
        limit: Largest epsilon over the site's whole life; ``inf`` promises nothing.
        delta: The delta that goes with every epsilon here.
        exposed: Whether anything was released without noise.
        spent: Epsilon so far, users added or removed; ``inf`` where exposed.
        spent_replace_one: The same for one user replaced by another.
        left: ``limit - spent``, and never below 0. Epsilons do not add up: what more
            rounds cost is ``next_cost``, not a share of this.
        events: Number of releases charged with noise, sealed or not.
        next_cost: What one upcoming round adds to ``spent``, whether it fits or not;
            None where none was named or the site is exposed.
        rounds_left: How many upcoming rounds fit, counted up to the accountant's
            ``MOST_ROUNDS``; None where none was named or the limit is infinite.
    """

    limit: float
    delta: float
    exposed: bool
    spent: float
    spent_replace_one: float
    left: float
    events: int
    next_cost: float | None
    rounds_left: int | None


def budget(
    events: Sequence[GaussianEvent],
    limit: float,
    delta: float,
    upcoming: GaussianEvent | None,
    *,
    exposed: bool = False,
) -> Budget:
    """Return what was spent, what is left, and how many upcoming rounds it pays for.

    Guarantee: after ``rounds_left`` upcoming rounds the reported epsilon is within the
    limit; one more would pass it.

    Args:
        events: Everything charged with noise.
        limit: The site's budget, above 0; ``inf`` for none.
        delta: The ledger's delta.
        upcoming: The noisy steps of one more round, if any is planned.
        exposed: Whether anything was charged without noise.

    Raises:
        PrivacyError: If an epsilon is infinite although all was noised.
    """
    if not limit > 0:
        raise ConfigError(
            f"{limit=} is not above 0; name the site's budget, or inf for none"
        )
    spent = replaced = math.inf
    cost = None
    if not exposed:
        spent = epsilon(events, delta)
        replaced = epsilon(events, delta, "replace_one")
        cost = epsilon([*events, upcoming], delta) - spent if upcoming else None
    return Budget(
        limit=limit,
        delta=delta,
        exposed=exposed,
        spent=spent,
        spent_replace_one=replaced,
        left=math.inf if math.isinf(limit) else max(0.0, limit - spent),
        events=len(events),
        next_cost=cost,
        rounds_left=_rounds_left(events, limit, delta, upcoming, exposed=exposed),
    )


def noise_for_rounds(  # noqa: PLR0913 - a plan, the ledger and its limit
    events: Sequence[GaussianEvent],
    limit: float,
    delta: float,
    *,
    q: float,
    steps: int,
    rounds: int,
    exposed: bool = False,
) -> float:
    """Return the smallest sigma, in hundredths, for ``rounds`` more rounds.

    Guarantee: when all of them are charged, the reported epsilon is within the limit.

    Args:
        events: Everything charged with noise.
        limit: The site's budget, finite and above 0.
        delta: The ledger's delta.
        q: Probability that a user is drawn in a step.
        steps: Steps of one round.
        rounds: Number of rounds wished for, at least 1.
        exposed: Whether anything was charged without noise.

    Raises:
        ConfigError: If a value is out of range, or no sigma leaves room for the rounds.
    """
    if exposed:
        raise ConfigError(
            "epsilon is infinite for ever, for something was released without noise: "
            f"no noise keeps it within the limit {limit}; let the site take part only "
            "where nothing is promised"
        )
    if not (type(rounds) is int and rounds >= 1):
        raise ConfigError(f"{rounds=!r} is not an integer of at least 1")
    return noise_for(limit, delta, q=q, steps=steps * rounds, others=events)


def _rounds_left(
    events: Sequence[GaussianEvent],
    limit: float,
    delta: float,
    upcoming: GaussianEvent | None,
    *,
    exposed: bool,
) -> int | None:
    """Return how many upcoming rounds fit, None where that is no question."""
    if upcoming is None or math.isinf(limit):
        return None
    if exposed:
        return 0
    return rounds_left(limit, delta, event=upcoming, others=events)
