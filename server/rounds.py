"""The federation's loop: select, send, wait, check, aggregate, publish, tell."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors import SafetensorError

from server.aggregate import rule_state, step
from server.broadcast import Broadcast, advance, broadcast
from server.events import Answered, Asked, Event, RoundReport
from server.inbox import Inbox
from server.intake import Kept, count, keep
from server.registry import Registry, with_residual
from server.replies import Answer, judge
from server.spool import Spool
from server.suspicion import figures
from shared.adapter import norm, subtract
from shared.errors import BudgetSpent, QuorumLost, RoundError, VersionMissing
from shared.packing import Step
from shared.protocol import RoundPlan
from shared.wire import with_witness
from shared.witness import Witness

SPENT, MISSING = BudgetSpent.__name__, VersionMissing.__name__
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
    newest: Step | None = None  # the version that the last round published
    holders: tuple[str, ...] = ()  # of the version before that
    for plan in plans:
        begun = time.monotonic()
        _, adapter = registry.current()
        nodes = select(grid, plan, spent, everyone=plan is plans[0])
        content = broadcast(plan, adapter, newest, holders)
        seen = registry.witnesses(plan.sites)
        watch(_asked(plan, nodes, spent))
        with written(plan, registry):
            spool = Spool(registry.root, plan.shapes)
        with closing(spool):
            asked = ask(grid, nodes, content, plan, seen, watch)
            answers, kept = collect(asked, spool, plan, registry)
            with written(plan, registry):
                good, faults = count(
                    answers, kept, spool, noised=plan.mechanism.sigma > 0
                )
                registry.keep_witnesses([one.witness for one in good])
            refused = absent(plan, nodes, spent, [one.site for one in good]) | faults
            require_quorum(plan, len(good), refused)
            with written(plan, registry):
                rows = [one.row for one in good]
                moved = step(rule, plan.number, adapter, spool, rows)
                beside = figures(spool, rows)
        after, residual, newest = advance(
            plan.wire, adapter, moved, registry.residual()
        )
        received = {one.site: one.received for one in good}
        holders = tuple(received)
        sizes = {answer.site: answer.size for answer in answers}
        name = type(rule).__name__
        with written(plan, registry):
            memory = with_residual(rule_state(rule), residual)
            registry.publish(plan, after, name, memory, received)
        watch(
            RoundReport(
                number=plan.number,
                seconds=round(time.monotonic() - begun, 3),
                sites_ok=tuple(received),
                refused=refused,
                update_norm=norm(subtract(after, adapter)),
                bytes_up={site: sizes[site] for site in received},
                bytes_down=content.mean_size(nodes.values()),
                metrics={
                    one.site: {one.metric.name: one.metric.value}
                    for one in good
                    if one.metric
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
    content: Broadcast,
    plan: RoundPlan,
    seen: Mapping[str, Witness],
    watch: Callable[[Event], None] = lambda _: None,
) -> Iterator[Answer]:
    """Send the instruction to each node and judge each reply as it comes.

    What is silent at the deadline comes last. A named node is told as well which end of
    its ledger the server has seen. One that lacks the version of a step is sent the
    whole, once, while there is time. ``watch`` hears of each answer when it comes.
    """
    first = {node: content.to(name) for node, name in nodes.items()}
    stepped = {node for node, sent in first.items() if sent is not content.whole}
    pending = _send(grid, nodes, first, plan, seen, plan.deadline_s)
    until = time.monotonic() + plan.deadline_s
    silent, inbox = set(nodes), Inbox(grid)
    for _ in ticks(plan.deadline_s):
        for reply in inbox.pull(list(pending)):
            node = pending.pop(reply.metadata.reply_to_message_id, None)
            if node is None:  # a second reply to the same question
                continue
            answer = judge(reply, plan, node, nodes[node], seen)
            left = until - time.monotonic()
            if answer.reason == MISSING and node in stepped and left > 0:
                stepped.discard(node)
                again = {node: content.whole}
                pending |= _send(grid, nodes, again, plan, seen, left)
                continue
            silent.discard(node)
            watch(_answered(plan, answer))
            yield answer
        if not pending:
            break
    yield from (Answer.silence(node, nodes[node]) for node in sorted(silent))


def _send(
    grid: Grid,
    nodes: Nodes,
    contents: Mapping[int, RecordDict],
    plan: RoundPlan,
    seen: Mapping[str, Witness],
    left_s: float,
) -> dict[str, int]:
    """Send each node its instruction; return the messages that Flower took."""
    messages = [
        Message(
            with_witness(content, seen.get(nodes[node])),
            node,
            "train",
            ttl=left_s,
            group_id=str(plan.number),
        )
        for node, content in contents.items()
    ]
    sent = zip(grid.push_messages(messages), contents, strict=True)
    return {message: node for message, node in sent if message}  # "" was not taken


def collect(
    asked: Iterable[Answer], spool: Spool, plan: RoundPlan, registry: Registry
) -> tuple[list[Answer], list[Kept]]:
    """Return the answers without their updates, and what is kept of those.

    Guarantee: what stays in memory of an answer does not grow with the adapter.
    """
    answers, kept = list[Answer](), list[Kept]()
    for answer in asked:
        if answer.reply:
            with written(plan, registry):
                kept.append(keep(answer.reply, spool))
        answers.append(replace(answer, reply=None))
    return answers, kept


def absent(
    plan: RoundPlan,
    nodes: Nodes,
    spent: Mapping[int, str],
    counted: Collection[str] = (),
) -> dict[str, str]:
    """Return why each of the plan's sites does not count that no answer names."""
    here = {*nodes.values(), *counted}
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
        pause = min(2 * pause, 0.25)
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
