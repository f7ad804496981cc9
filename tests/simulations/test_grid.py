"""Flower's Grid in this process."""

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from simulations.grid import LocalGrid


def a_grid(app: ClientApp, *, named: bool = True) -> LocalGrid:
    return LocalGrid(app, {"a": {"site": "a"}, "b": {"site": "b"}}, named=named)


def counting() -> ClientApp:
    """Each site counts the messages that it saw, and spoils what it was given."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        before = context.state.get("seen", ConfigRecord({"times": 0}))
        assert isinstance(before, ConfigRecord)
        times = before["times"]
        assert isinstance(times, int)
        context.state["seen"] = ConfigRecord({"times": times + 1})
        given = message.content.config_records["given"]
        reply = ConfigRecord(
            {
                "site": context.node_config["site"],
                "times": times + 1,
                "word": given["word"],
            }
        )
        given["word"] = "spoilt"
        return Message(RecordDict({"reply": reply}), reply_to=message)

    return app


def instructions(grid: LocalGrid) -> list[Message]:
    content = RecordDict({"given": ConfigRecord({"word": "clean"})})
    return [Message(content, node, "train") for node in grid.get_node_ids()]


def test_nodes_carry_the_names_of_their_sites() -> None:
    nodes = list(a_grid(counting()).get_nodes())

    assert [(node.node_id, node.name) for node in nodes] == [(1, "a"), (2, "b")]


def test_nodes_can_be_nameless_as_under_ray() -> None:
    nodes = list(a_grid(counting(), named=False).get_nodes())

    assert [(node.node_id, node.name) for node in nodes] == [(1, ""), (2, "")]


def test_each_site_has_its_own_state_over_all_messages() -> None:
    grid = a_grid(counting())
    grid.send_and_receive(instructions(grid))

    replies = list(grid.send_and_receive(instructions(grid)))

    said = [reply.content.config_records["reply"] for reply in replies]
    assert [(one["site"], one["times"]) for one in said] == [("a", 2), ("b", 2)]


def test_what_one_site_does_to_its_message_no_other_sees() -> None:
    grid = a_grid(counting())

    replies = grid.send_and_receive(instructions(grid))

    words = [reply.content.config_records["reply"]["word"] for reply in replies]
    assert words == ["clean", "clean"]


def test_a_reply_is_pulled_once_and_by_its_id() -> None:
    grid = a_grid(counting())
    first, second = grid.push_messages(instructions(grid))

    pulled = [list(grid.pull_messages([second])) for _ in range(2)]

    assert [len(replies) for replies in pulled] == [1, 0]
    assert pulled[0][0].metadata.reply_to_message_id == second
    assert first != second


def test_a_held_reply_comes_when_it_is_let_go() -> None:
    held = {"now": True}
    app = counting()
    grid = LocalGrid(app, {"a": {"site": "a"}}, hold=lambda _reply: held["now"])
    ids = list(grid.push_messages(instructions(grid)))

    before = list(grid.pull_messages(ids))
    held["now"] = False
    after = list(grid.pull_messages(ids))

    assert (len(before), len(after)) == (0, 1)


def test_an_exception_becomes_an_error_reply_with_its_text_as_in_flower() -> None:
    app = ClientApp()

    @app.train()
    def train(_message: Message, _context: Context) -> Message:
        raise ValueError("user 17")

    grid = a_grid(app)
    replies = list(grid.send_and_receive(instructions(grid)))

    assert [reply.error.code for reply in replies] == [2, 2]
    assert "user 17" in str(replies[0].error.reason)


def test_there_is_no_run_to_read() -> None:
    with pytest.raises(NotImplementedError):
        _ = a_grid(counting()).run
