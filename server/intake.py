"""What is kept of the answers of a round: small facts in memory, updates in a spool."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from server.replies import Answer
from server.spool import Row, Spool
from server.suspicion import copied
from shared.errors import RoundError, UpdateCopied
from shared.protocol import MetricRelease, Reply
from shared.sealing import metric_bytes, update_bytes
from shared.witness import Witness


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What stays in memory of a reply.

    Attributes:
        site: Whose it is.
        row: Where its update lies.
        received: SHA-256 of each thing that the site released in it.
        metric, witness: As they came.
    """

    site: str
    row: Row
    received: tuple[str, ...]
    metric: MetricRelease | None
    witness: Witness


def keep(reply: Reply, spool: Spool) -> Kept:
    """Write the update of ``reply`` to ``spool`` and return the rest."""
    update = reply.update
    return Kept(
        site=update.site,
        row=spool.append(update.site, update.delta),
        received=_received(reply),
        metric=reply.metric,
        witness=reply.witness,
    )


def count(
    answers: Sequence[Answer], kept: Sequence[Kept], spool: Spool, *, noised: bool
) -> tuple[list[Kept], dict[str, str]]:
    """Return what counts of ``kept``, sorted by site, and why other sites do not.

    Of a site for which two nodes answer nothing counts: no one can say which of them
    is the site; nor do updates count of which one is a copy, which ``noised`` decides.
    """
    told = Counter(answer.site for answer in answers)
    faults = {a.site: a.reason for a in answers if told[a.site] == 1 and a.reason}
    faults |= dict.fromkeys((s for s in told if told[s] > 1), RoundError.__name__)
    once = sorted((k for k in kept if told[k.site] == 1), key=lambda one: one.site)
    copies = copied(spool, [one.row for one in once], noised=noised)
    faults |= dict.fromkeys(copies, UpdateCopied.__name__)
    return [one for one in once if one.site not in copies], faults


def _received(reply: Reply) -> tuple[str, ...]:
    """Return the SHA-256 of everything that a site released in a reply."""
    sent = [update_bytes(reply.update)]
    sent += [metric_bytes(reply.metric)] if reply.metric else []
    return tuple(hashlib.sha256(content).hexdigest() for content in sent)
