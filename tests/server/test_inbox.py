"""Answers that are there, that come later, and that never come whole."""

import time
from collections.abc import Iterable
from threading import Event

import pytest
from flwr.app import Message, RecordDict

from server.inbox import AT_ONCE, Inbox
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

    assert groups(Inbox(grid, 5).pull(["b"])) == ["b"]
    assert groups(inbox.pull(["a"])) == ["a"]
    assert grid.calls.count("a") == 1


def test_what_goes_wrong_in_a_call_is_raised() -> None:
    with pytest.raises(ConnectionError):
        list(Inbox(SlowGrid()).pull(["broken"]))


def test_answers_are_pulled_as_they_are_taken_and_few_ahead() -> None:
    """What is pulled is in memory until it is taken."""
    grid, messages = SlowGrid(), [f"{i:03}" for i in range(100)]

    for taken, _ in enumerate(Inbox(grid).pull(messages), start=1):
        assert len(grid.calls) <= taken + AT_ONCE - 1

    assert sorted(grid.calls) == messages


def test_many_answers_that_never_come_whole_are_waited_for_together() -> None:
    stuck = [f"stuck-{i}" for i in range(3 * AT_ONCE)]
    grid = SlowGrid(stuck)
    inbox, come, looks = Inbox(grid, 0.05), list[str](), 0

    while come != ["a"]:
        come += groups(inbox.pull([*stuck, "a"]))
        looks += 1

    assert looks <= 4
    assert sorted(grid.calls) == ["a", *sorted(stuck)]
