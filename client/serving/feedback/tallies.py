"""The tallies that serving may read: noised sums, charged and sealed, and no others.

    serving/tallies.safetensors    the newest release of ``tacit site tune``

A file that the site's ledger did not seal for this purpose is refused: exact counts
over users never shape what another user is served.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.numpy

from client.account import verified
from client.serving.feedback.arms import NAMES
from client.serving.feedback.segments import SEGMENTS
from client.serving.feedback.thompson import Floats
from client.site import LEDGER
from shared.errors import LedgerBroken
from shared.protocol import Array

FILE: Final = "serving/tallies.safetensors"
PURPOSE: Final = "serving"  # of its charge in the ledger
SHAPE: Final = (len(SEGMENTS), len(NAMES), 2)  # segment, level, won and lost


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tallies:
    """What was released so far; all of it noised or public.

    Attributes:
        number: Of the release, from 1.
        time: When it was made, epoch seconds.
        votes: Won and lost by each level in each segment, ``SHAPE``, float32; what was
            released earlier counts by half at every release.
        noise: Variance of the noise in each cell of ``votes``.
        groups: Tastes of groups, noised, float32 [cells]; empty where a site has none.
        groups_noise: Standard deviation of the noise in each cell of ``groups``.
        layout: What the cells of ``groups`` stand for.
    """

    number: int
    time: int
    votes: Array
    noise: float
    groups: Array
    groups_noise: float
    layout: str

    def of_segment(self, segment: str) -> Floats:
        """Return won and lost by each level in a segment, [levels, 2]."""
        return np.asarray(self.votes[SEGMENTS.index(segment)], np.float64)

    def to_bytes(self) -> bytes:
        """Return the bytes that are sealed and kept."""
        said = {
            "number": self.number,
            "time": self.time,
            "noise": self.noise,
            "groups-noise": self.groups_noise,
            "layout": self.layout,
        }
        return safetensors.numpy.save(
            {"votes": self.votes, "groups": self.groups},
            metadata={"tallies": json.dumps(said, sort_keys=True)},
        )


TENSORS: Final = ("groups", "votes")


def read_tallies(folder: Path) -> Tallies | None:
    """Return the newest tallies of the site in ``folder``, or None before the first.

    Guarantee: what is returned was charged to the site's ledger and sealed there.

    Raises:
        LedgerBroken: If the file is not what the ledger sealed, or the ledger cannot be
            believed.
    """
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    if not is_sealed(folder / LEDGER, content):
        raise LedgerBroken(
            f"{folder / FILE} is not what the ledger sealed: restore it, or delete it "
            "and serve as if nothing was learned from feedback"
        )
    return tallies_from(content)


def is_sealed(ledger: Path, content: bytes) -> bool:
    """Return whether the ledger charged these very bytes for serving.

    Raises:
        LedgerBroken: If the ledger cannot be believed.
    """
    entries, digest = verified(ledger).entries, hashlib.sha256(content).hexdigest()
    return any(
        entry.state == "sealed"
        and entry.body["sha256"] == digest
        and entries[entry.body["planned"]].body["what"] == PURPOSE
        for entry in reversed(entries)
    )


def tallies_from(content: bytes) -> Tallies:
    """Rebuild tallies from their sealed bytes."""
    size = int.from_bytes(content[:8], "little")
    said = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["tallies"])
    tensors = safetensors.numpy.load(content)
    return Tallies(
        number=said["number"],
        time=said["time"],
        votes=tensors["votes"],
        noise=said["noise"],
        groups=tensors["groups"],
        groups_noise=said["groups-noise"],
        layout=said["layout"],
    )
