"""The way of a release to the sites: sent to each, answered with one word.

A site believes none of it; what comes back is ``Kept`` or the class name of an error.
"""

from collections.abc import Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from server.inbox import Inbox
from server.releases import InForce
from server.rounds import ticks
from shared.errors import RoundError, TacitError
from shared.wire import open_refusal, pack_release


def deliver(
    grid: Grid, release: InForce, sites: Sequence[str], deadline_s: float
) -> dict[str, str]:
    """Send the release in force to each site that is online.

    Args:
        grid: Where the sites are; by their names, as in a deployment.
        release: What they shall keep.
        sites: Whom to send it to.
        deadline_s: Longest wait for their answers.

    Returns:
        Site -> ``Kept``, the class name of why not, ``NotOnline`` or ``NoAnswer``.
    """
    nodes = {n.node_id: n.name for n in grid.get_nodes() if n.name in sites}
    content = pack_release(release.release, release.pointer)
    messages = [
        Message(content, node, "query.release", ttl=deadline_s) for node in nodes
    ]
    sent = zip(grid.push_messages(messages), nodes.values(), strict=True)
    pending = {message: name for message, name in sent if message}  # "" was not taken
    online = dict.fromkeys(nodes.values(), "NoAnswer")
    told = dict.fromkeys(sites, "NotOnline") | online
    inbox = Inbox(grid)
    for _ in ticks(deadline_s):
        for reply in inbox.pull(list(pending)):
            name = pending.pop(reply.metadata.reply_to_message_id)
            told[name] = _word(reply, name)
        if not pending:
            break
    return told


def _word(reply: Message, name: str) -> str:
    """Return what a site answers; of anything else, what is wrong with it."""
    if reply.has_error():
        return f"FlowerError{reply.error.code}"
    try:
        answer = open_refusal(reply.content)
    except TacitError as error:
        return type(error).__name__
    if answer is None or answer[0] != name:
        return RoundError.__name__
    return answer[1]
