"""Answers that are there, that come later, and that never come whole."""

import time
from collections.abc import Iterable
from threading import Event

import pytest
from flwr.app import Message, RecordDict

from server.inbox import Inbox
from simulations.grid import LocalGrid, enter_run


class SlowGrid(LocalGrid):
    """A grid whose call for some answers returns only when the rest has come."""

    def __init__(self, stuck: Iterable[str] = ()) -> None:
        enter_run()
        self.rest = {message: Event() for message in stuck}
        self.calls: list[str] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (message,) = message_ids
        self.calls.append(message)
        if message in self.rest:
            self.rest[message].wait()
        if message == "broken":
            raise ConnectionError(message)
        return [Message(RecordDict(), 1, "train", group_id=message)]


def groups(messages: Iterable[Message]) -> list[str]:
    return [message.metadata.group_id for message in messages]


def test_answers_come_in_the_order_in_which_they_are_asked_for() -> None:
    assert groups(Inbox(SlowGrid()).pull(["c", "a", "b"])) == ["c", "a", "b"]


def test_an_answer_that_never_comes_whole_delays_no_other() -> None:
    inbox, begun = Inbox(SlowGrid(["a"]), 0.2), time.monotonic()

    assert groups(inbox.pull(["a", "b"])) == ["b"]

    assert time.monotonic() - begun < 2


def test_an_answer_on_its_way_is_asked_for_once_and_comes_later() -> None:
    grid = SlowGrid(["a"])
    inbox = Inbox(grid, 0.05)
    assert groups(inbox.pull(["a"])) == groups(inbox.pull(["a"])) == []

    grid.rest["a"].set()

    assert groups(Inbox(grid, 5).pull(["b"]) + inbox.pull(["a"])) == ["b", "a"]
    assert grid.calls.count("a") == 1


def test_what_goes_wrong_in_a_call_is_raised() -> None:
    with pytest.raises(ConnectionError):
        Inbox(SlowGrid()).pull(["broken"])
