"""The federation's loop: select, send, wait, check, aggregate, publish, tell."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors import SafetensorError

from server.aggregate import rule_state, step
from server.events import Answered, Asked, Event, RoundReport
from server.inbox import Inbox
from server.registry import Registry
from server.replies import Answer, judge
from server.suspicion import copied, figures
from shared.adapter import norm, subtract
from shared.errors import BudgetSpent, QuorumLost, RoundError, UpdateCopied
from shared.protocol import AdapterUpdate, Reply, RoundPlan
from shared.sealing import metric_bytes, update_bytes
from shared.wire import pack_plan, size, with_witness
from shared.witness import Witness

SPENT = BudgetSpent.__name__
Nodes = Mapping[
    int, str
]  # Flower's node id -> name; names are empty in Ray's simulation


def run(
    plans: Sequence[RoundPlan],
    grid: Grid,
    rule: Strategy,
    registry: Registry,
    watch: Callable[[Event], None],
) -> None:
    """Carry out ``plans`` in order; each round ends as a version in the registry.

    A site whose budget is spent is not asked again. ``watch`` hears of every event.

    Raises:
        QuorumLost: If a round has too few sites; what was published stays.
        RoundError: If a version cannot be written; the same stays.
    """
    spent: dict[int, str] = {}
    for plan in plans:
        begun = time.monotonic()
        _, adapter = registry.current()
        nodes = select(grid, plan, spent, everyone=plan is plans[0])
        content = pack_plan(plan, adapter)
        seen = registry.witnesses(plan.sites)
        watch(_asked(plan, nodes, spent))
        answers = ask(grid, nodes, content, plan, seen, watch)
        replies, faults = count(answers)
        with written(plan, registry):
            registry.keep_witnesses([reply.witness for reply in replies])
        updates = [reply.update for reply in replies]
        refused = absent(plan, nodes, spent, updates) | faults
        require_quorum(plan, len(updates), refused)
        after = step(rule, plan.number, adapter, updates)
        received = {reply.update.site: _received(reply) for reply in replies}
        sizes = {answer.site: answer.size for answer in answers}
        name = type(rule).__name__
        with written(plan, registry):
            registry.publish(plan, after, name, rule_state(rule), received)
        beside = figures(updates)
        watch(
            RoundReport(
                number=plan.number,
                seconds=round(time.monotonic() - begun, 3),
                sites_ok=tuple(received),
                refused=refused,
                update_norm=norm(subtract(after, adapter)),
                bytes_up={site: sizes[site] for site in received},
                bytes_down=size(content),
                metrics={
                    reply.update.site: {reply.metric.name: reply.metric.value}
                    for reply in replies
                    if reply.metric
                },
                norms=beside.norms,
                cosines=beside.cosines,
                outliers=beside.outliers,
            )
        )
        spent |= {a.node: a.site for a in answers if refused.get(a.site) == SPENT}


def select(
    grid: Grid, plan: RoundPlan, spent: Mapping[int, str], *, everyone: bool
) -> Nodes:
    """Return the nodes to ask: the plan's sites that are online and have budget left.

    Waits, at most the plan's deadline, for every site or else for a quorum. No site is
    asked, and so none is charged, when the quorum is out of reach.

    Raises:
        QuorumLost: If fewer than a quorum could answer.
    """
    willing = len(set(plan.sites) - set(spent.values()))
    enough = willing if everyone else plan.quorum
    nodes: Nodes = {}
    for _ in ticks(plan.deadline_s if willing >= plan.quorum else 0):
        nodes = _online(grid, plan, spent)
        if len(nodes) >= enough:
            break
    require_quorum(plan, min(len(nodes), willing), absent(plan, nodes, spent))
    return nodes


def ask(
    grid: Grid,
    nodes: Nodes,
    content: RecordDict,
    plan: RoundPlan,
    seen: Mapping[str, Witness],
    watch: Callable[[Event], None] = lambda _: None,
) -> list[Answer]:
    """Send the instruction to each node and judge the replies of the deadline.

    A named node is told as well which end of its ledger the server has seen.
    ``watch`` hears of each answer when it comes.
    """
    messages = [
        Message(
            with_witness(content, seen.get(name)),
            node,
            "train",
            ttl=plan.deadline_s,
            group_id=str(plan.number),
        )
        for node, name in nodes.items()
    ]
    sent = zip(grid.push_messages(messages), nodes, strict=True)
    pending = {message: node for message, node in sent if message}  # "" was not taken
    answers, inbox = [], Inbox(grid)
    for _ in ticks(plan.deadline_s):
        for reply in inbox.pull(list(pending)):
            node = pending.pop(reply.metadata.reply_to_message_id, None)
            if node is None:  # a second reply to the same question
                continue
            answer = judge(reply, plan, node, nodes[node], seen)
            answers.append(answer)
            watch(_answered(plan, answer))
        if not pending:
            break
    silent = nodes.keys() - {answer.node for answer in answers}
    return answers + [Answer.silence(node, nodes[node]) for node in sorted(silent)]


def count(answers: Sequence[Answer]) -> tuple[list[Reply], dict[str, str]]:
    """Return the replies that count, sorted by site, and why others do not.

    Of a site for which two nodes answer nothing counts: no one can say which of them
    is the site; nor do updates count of which one is a copy.
    """
    told = Counter(answer.site for answer in answers)
    once = [answer for answer in answers if told[answer.site] == 1]
    faults = {answer.site: answer.reason for answer in once if not answer.reply}
    faults |= dict.fromkeys((s for s in told if told[s] > 1), RoundError.__name__)
    replies = [answer.reply for answer in once if answer.reply]
    copies = copied([reply.update for reply in replies])
    faults |= dict.fromkeys(copies, UpdateCopied.__name__)
    replies = [reply for reply in replies if reply.update.site not in copies]
    return sorted(replies, key=lambda reply: reply.update.site), faults


def absent(
    plan: RoundPlan,
    nodes: Nodes,
    spent: Mapping[int, str],
    updates: Sequence[AdapterUpdate] = (),
) -> dict[str, str]:
    """Return why each of the plan's sites does not count that no answer names."""
    here = {*nodes.values(), *(update.site for update in updates)}
    why = "NotOnline" if all(nodes.values()) else "NoAnswer"
    missing = {site: why for site in plan.sites if site not in here}
    return missing | dict.fromkeys(spent.values(), SPENT)


def require_quorum(plan: RoundPlan, given: int, refused: Mapping[str, str]) -> None:
    """Raise unless ``given`` sites are enough for ``plan``."""
    if given < plan.quorum:
        reasons = ", ".join(f"{site}: {why}" for site, why in sorted(refused.items()))
        raise QuorumLost(
            f"round {plan.number}: {given} of {len(plan.sites)} sites count, quorum is"
            f" {plan.quorum} ({reasons}); bring sites back and go on with --resume"
        )


@contextmanager
def written(plan: RoundPlan, registry: Registry) -> Iterator[None]:
    """Say of a disk that is full, or fails, what to do about it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RoundError(
            f"round {plan.number} cannot be written to {registry.root}: {error}; make"
            " room, and go on with --resume"
        ) from error


def ticks(limit_s: float) -> Iterator[None]:
    """Yield now and again until ``limit_s`` is over: quickly at first."""
    until, pause = time.monotonic() + limit_s, 0.01
    yield
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, 1.0)
        yield


def _asked(plan: RoundPlan, nodes: Nodes, spent: Mapping[int, str]) -> Asked:
    """Return the event of sending; in Ray's simulation nodes have no names yet."""
    names = tuple(name for name in nodes.values() if name) or plan.sites
    return Asked(number=plan.number, sites=names, absent=absent(plan, nodes, spent))


def _answered(plan: RoundPlan, answer: Answer) -> Answered:
    return Answered(
        number=plan.number, site=answer.site, reason=answer.reason, bytes=answer.size
    )


def _online(grid: Grid, plan: RoundPlan, spent: Mapping[int, str]) -> Nodes:
    """Return the plan's nodes by name; all nodes if none is named."""
    names = {node.node_id: node.name for node in grid.get_nodes()}
    named = any(names.values())
    return {
        node: name
        for node, name in sorted(names.items())
        if (name in plan.sites or not named)
        and node not in spent
        and name not in spent.values()
    }


def _received(reply: Reply) -> list[str]:
    """Return the SHA-256 of everything that a site released in a reply."""
    sent = [update_bytes(reply.update)]
    sent += [metric_bytes(reply.metric)] if reply.metric else []
    return [hashlib.sha256(content).hexdigest() for content in sent]
