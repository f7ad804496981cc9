"""Flower's Grid in this process: real apps, no daemon, the same answer every time."""

import copy
from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Scalar = bool | int | float | str
Turn = Callable[[Message, Message], Message]  # what was asked, honest reply -> sent
_APP_RAISED = 2  # Flower's code for "the ClientApp raised an exception"


def enter_run() -> None:
    """Let this process build messages, as inside a run. Private API: only here."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def answered(app: ClientApp, message: Message, context: Context) -> Message:
    """Return what the app answers; an exception becomes an error reply."""
    try:
        return app(message, context)
    except Exception as error:  # noqa: BLE001 - as Flower does
        text = f"{type(error)}:<'{error}'>"
        return Message(Error(_APP_RAISED, text), reply_to=message)


class LocalGrid(Grid):
    """Sites in this process; a message is answered while it is pushed.

    Args:
        app: The ClientApp that every site runs.
        sites: Name of the site -> its node config.
        named: Whether nodes show the names of their sites, as in a deployment; the Ray
            simulation shows none.
        hold: Says of a reply whether it is late; it is held back, to rehearse a
            straggler.
        turns: Name of a hostile site -> what it sends instead of its honest reply.
    """

    def __init__(
        self,
        app: ClientApp,
        sites: Mapping[str, Mapping[str, Scalar]],
        *,
        named: bool = True,
        hold: Callable[[Message], bool] = lambda _reply: False,
        turns: Mapping[str, Turn] | None = None,
    ) -> None:
        enter_run()
        self._app = app
        self._named = named
        self._hold = hold
        self._turns = turns or {}
        self._names = dict(enumerate(sites, start=1))
        self._contexts = {
            node: Context(1, node, dict(sites[name]), RecordDict(), {})
            for node, name in self._names.items()
        }
        self._replies: dict[str, Message] = {}

    @property
    def run(self) -> Run:
        """There is no run: nothing of ours reads it."""
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        """There is no run: nothing of ours sets it."""
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message; deprecated by Flower, abstract all the same."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes, numbered from 1 in the order of the sites."""
        return list(self._names)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes with their names."""
        if not self._named:
            return super().get_nodes()
        return [NodeInfo(node_id=node, name=name) for node, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let each site answer now; return the ids to pull the replies by."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid4().hex
            ids.append(message.metadata.message_id)
            self._replies[ids[-1]] = self._answer(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there and not held."""
        ready = [
            message_id
            for message_id in message_ids
            if message_id in self._replies and not self._hold(self._replies[message_id])
        ]
        return [self._replies.pop(message_id) for message_id in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then pull once: ``timeout`` has nothing to wait for."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        """Run the app on its own copy of the message."""
        context = self._contexts[message.metadata.dst_node_id]
        reply = answered(self._app, copy.deepcopy(message), context)
        return self._as_sent(message, reply)

    def _as_sent(self, message: Message, reply: Message) -> Message:
        """Return what the site sends: its honest reply, unless it is hostile."""
        turn = self._turns.get(self._names[message.metadata.dst_node_id])
        return turn(message, reply) if turn else reply
