"""Two rankings as one list, so that one user's choice compares them fairly.

Team-draft interleaving (Radlinski, Kurup and Joachims, CIKM 2008): as captains choose
players, the ranking with fewer items so far chooses next, a coin where both have as
many; it takes its best item that is not there yet. Which items a user then likes says
which ranking is better, wherever the user looks.
"""

import numpy as np

from client.serving.model import Ints


def interleave(
    first: Ints, second: Ints, k: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Return up to ``k`` items of both rankings, and which of the two gave each.

    Guarantee: no item twice; each team's items in its ranking's own order; whoever
    chooses, the other has at most one item more, as long as both have items left.

    Args:
        first: Places of items, best first, each once.
        second: The same of the other ranking.
        k: Length of the list.
        rng: Its coins; they need not be secret.

    Returns:
        Places, and their teams: 0 for ``first``, 1 for ``second``.
    """
    left = [first.tolist()[::-1], second.tolist()[::-1]]  # the best one is last
    taken: dict[int, int] = {}
    counts = [0, 0]
    while len(taken) < k:
        for items in left:
            while items and items[-1] in taken:
                items.pop()
        if not any(left):
            break
        team = _next(counts, left, rng)
        taken[left[team].pop()] = team
        counts[team] += 1
    return np.array(list(taken), np.int64), np.array(list(taken.values()), np.int64)


def _next(counts: list[int], left: list[list[int]], rng: np.random.Generator) -> int:
    """Return the team that chooses next; one that has nothing left does not."""
    if not all(left):
        return 0 if left[0] else 1
    if counts[0] == counts[1]:
        return int(rng.integers(2))
    return int(counts[1] < counts[0])
