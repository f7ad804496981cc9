"""Segments of users, by how much a site knows of their taste and by nothing else."""

from typing import Final

_FROM: Final = {"new": 0, "few": 1, "some": 5, "many": 20}  # likes
SEGMENTS: Final = tuple(_FROM)


def segment_of(likes: int) -> str:
    """Return the segment of a user with so many likes."""
    return [name for name, fewest in _FROM.items() if likes >= fewest][-1]
