"""Flower's Grid over worker processes: what LocalGrid answers, from elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode

from simulations import crew as module
from simulations.crew import Crew
from simulations.crew_grid import CrewGrid

APP = """
    import os
    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message, context):
        word = message.content["given"]["word"]
        if word == "raise":
            raise ValueError("so it is told")
        if word == "die" and context.node_config["site"] == "b":
            os._exit(7)
        times = context.state.get("seen", {"times": 0})["times"] + 1
        context.state["seen"] = ConfigRecord({"times": times})
        site = context.node_config["site"]
        said = {"site": site, "times": times, "word": word, "process": os.getpid()}
        return Message(RecordDict({"said": ConfigRecord(said)}), reply_to=message)
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrewGrid]:
    monkeypatch.setattr(module, "PRELOADED", "shared.errors")
    (tmp_path / "an_app.py").write_text(dedent(APP))
    monkeypatch.syspath_prepend(tmp_path)
    with Crew(2) as crew:
        yield CrewGrid(crew, {n: {"site": n} for n in "abc"}, app="an_app:app")


def ask(grid: CrewGrid, word: str) -> list[Message]:
    content = RecordDict({"given": ConfigRecord({"word": word})})
    messages = [Message(content, node, "train") for node in grid.get_node_ids()]
    replies = list(grid.send_and_receive(messages))
    return sorted(replies, key=lambda reply: reply.metadata.src_node_id)


def said(reply: Message) -> ConfigRecord:
    record = reply.content["said"]
    assert isinstance(record, ConfigRecord)
    return record


def test_sites_answer_from_processes_of_their_own_and_keep_their_state(
    grid: CrewGrid,
) -> None:
    ask(grid, "hello")

    replies = [said(reply) for reply in ask(grid, "again")]

    assert [reply["site"] for reply in replies] == ["a", "b", "c"]
    assert [reply["times"] for reply in replies] == [2, 2, 2]
    assert [reply["word"] for reply in replies] == ["again"] * 3
    assert replies[0]["process"] == replies[2]["process"] != replies[1]["process"]
    assert os.getpid() not in {reply["process"] for reply in replies}


def test_replies_come_one_by_one_each_to_its_message_and_once(grid: CrewGrid) -> None:
    content = RecordDict({"given": ConfigRecord({"word": "hello"})})
    messages = [Message(content, node, "train") for node in grid.get_node_ids()]
    ids = list(grid.push_messages(messages))

    pulled = [list(grid.pull_messages([each])) for each in reversed(ids)]

    assert [[r.metadata.reply_to_message_id for r in each] for each in pulled] == [
        [each] for each in reversed(ids)
    ]
    assert list(grid.pull_messages(ids)) == []


def test_an_exception_becomes_an_error_reply_as_in_flower(grid: CrewGrid) -> None:
    replies = ask(grid, "raise")

    codes = {reply.error.code for reply in replies}
    assert codes == {ErrorCode.CLIENT_APP_RAISED_EXCEPTION}
    assert "so it is told" in str(replies[0].error.reason)


def test_a_worker_that_dies_is_an_error_reply_of_its_site_alone(grid: CrewGrid) -> None:
    lost = ask(grid, "die")

    assert [reply.has_error() for reply in lost] == [False, True, False]
    assert lost[1].error.code == ErrorCode.CLIENT_APP_CRASHED
    assert [said(reply)["times"] for reply in ask(grid, "back")] == [2, 1, 2]
