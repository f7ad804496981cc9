"""Flower's Grid over worker processes: the same apps, sites side by side.

What crosses to a worker and back are Flower's own serialised messages and contexts. A
message is made into bytes when its turn comes, and a reply is forgotten once pulled, so
a thousand sites take no more memory than a few.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from importlib import import_module
from pathlib import Path
from typing import cast
from uuid import uuid4

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto

from shared.errors import WorkerLost
from simulations.crew import Crew, Worker
from simulations.grid import LocalGrid, Scalar, Turn, answered, enter_run

APP = "client.app:app"


class CrewGrid(LocalGrid):
    """Sites at the workers of a crew, each always at the same one.

    Args:
        crew: Of two workers or more.
        sites: Name of the site -> its node config, with its folder under ``site``.
        app: Module and name of the ClientApp that every site runs.
        turns: Name of a hostile site -> what it sends instead of its honest reply.
    """

    def __init__(
        self,
        crew: Crew,
        sites: Mapping[str, Mapping[str, Scalar]],
        *,
        app: str = APP,
        turns: Mapping[str, Turn] | None = None,
    ) -> None:
        super().__init__(_app(app), sites, turns=turns)
        self._path = app
        self._worker = {
            node: crew.at(Path(str(context.node_config["site"])))
            for node, context in self._contexts.items()
        }
        self._waiting: dict[str, Future[Message]] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand each message to its site's worker; return the ids of the replies."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid4().hex
            ids.append(message.metadata.message_id)
            worker = self._worker[message.metadata.dst_node_id]
            self._waiting[ids[-1]] = worker.submit(self._carried, worker, message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Wait for the first of these replies, and return all that are there."""
        asked = {
            self._waiting[message_id]: message_id
            for message_id in message_ids
            if message_id in self._waiting
        }
        done = wait(asked, return_when=FIRST_COMPLETED).done
        return [self._waiting.pop(asked[future]).result() for future in done]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then wait for all replies, at most ``timeout`` seconds."""
        ids = self.push_messages(messages)
        wait([self._waiting[message_id] for message_id in ids], timeout)
        done = [one for one in ids if self._waiting[one].done()]
        return self.pull_messages(done) if done else []

    def _carried(self, worker: Worker, message: Message) -> Message:
        """Let the site's process answer; if it dies, that is an error reply."""
        node = message.metadata.dst_node_id
        sent = message_to_proto(message).SerializeToString()
        context = context_to_proto(self._contexts[node]).SerializeToString()
        try:
            reply, context = worker.call(answer, self._path, sent, context)
        except WorkerLost as lost:
            return Message(
                Error(ErrorCode.CLIENT_APP_CRASHED, str(lost)), reply_to=message
            )
        self._contexts[node] = context_from_proto(ContextProto.FromString(context))
        honest = message_from_proto(MessageProto.FromString(reply))
        return self._as_sent(message, honest)


def answer(app: str, message: bytes, context: bytes) -> tuple[bytes, bytes]:
    """Return a site's reply and its context afterwards, in the process that runs it."""
    enter_run()
    asked = message_from_proto(MessageProto.FromString(message))
    state = context_from_proto(ContextProto.FromString(context))
    reply = message_to_proto(answered(_app(app), asked, state)).SerializeToString()
    return reply, context_to_proto(state).SerializeToString()


def _app(path: str) -> ClientApp:
    module, _, name = path.partition(":")
    return cast("ClientApp", getattr(import_module(module), name))
