"""What an operator published, what is in force, and how it goes to the sites."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from typer.testing import CliRunner

from server.commands.releases import app as commands
from server.delivery import deliver
from server.operator import Operator, open_operator
from server.registry import Registry
from server.releases import (
    find,
    in_force,
    pointers,
    releases,
    rollback,
    set_current,
    unreadable,
)
from shared.errors import ConfigError, ModelError
from shared.pointer import pointer_from
from shared.release import WEIGHTS
from shared.wire import open_release, pack_refusal
from simulations.grid import LocalGrid
from tests.server.premises import an_operator, publish
from tests.standin import node_configs


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: spring of three rounds, autumn of one."""
    made = an_operator(tmp_path_factory.mktemp("published") / "operator")
    publish(made, "spring", 3)
    publish(made, "autumn", 1)
    return made.folder


@pytest.fixture
def operator(published: Path, tmp_path: Path) -> Operator:
    """The same, to be changed."""
    return open_operator(shutil.copytree(published, tmp_path / "operator"))


def damage(registry: Registry, number: int) -> None:
    path = registry.folder(number) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def test_every_version_of_every_run_is_a_release(operator: Operator) -> None:
    names = [release.name for release in releases(operator.folder)]

    assert sorted(names) == ["autumn/1", "spring/1", "spring/2", "spring/3"]
    assert unreadable(operator.folder) == {}


def test_a_release_is_found_by_its_name_and_verified(operator: Operator) -> None:
    assert find(operator.folder, "spring/2").name == "spring/2"

    damage(publish(operator, "spring", 3), 2)
    with pytest.raises(ModelError, match=f"damaged: {WEIGHTS} changed"):
        find(operator.folder, "spring/2")


@pytest.mark.parametrize("name", ["spring/4", "winter/1"])
def test_what_was_never_published_is_not_found(operator: Operator, name: str) -> None:
    with pytest.raises(ConfigError, match=f"no release is called {name}"):
        find(operator.folder, name)


def test_what_another_key_signed_is_listed_as_no_release(
    operator: Operator, tmp_path: Path
) -> None:
    stranger = publish(an_operator(tmp_path / "stranger"), "spring", 1)
    root = operator.runs / "winter" / "registry"
    root.mkdir(parents=True)
    stranger.folder(1).rename(root / "round-0001")

    assert [*unreadable(operator.folder)] == ["winter/1"]
    assert "not by the operator's" in unreadable(operator.folder)["winter/1"]
    assert len(releases(operator.folder)) == 4


def test_the_newest_version_of_a_finished_run_comes_into_force_once(
    operator: Operator,
) -> None:
    first = set_current(operator.folder, "spring")

    assert first is not None
    assert (first.release.name, first.pointer.number) == ("spring/3", 1)
    assert in_force(operator.folder) == first
    assert set_current(operator.folder, "spring") is None


def test_asking_again_does_not_undo_a_later_run_or_a_rollback(
    operator: Operator,
) -> None:
    """The server asks for every finished run, again and again."""
    for run in ("spring", "autumn"):
        set_current(operator.folder, run)
    back = rollback(operator.folder, "spring/2")

    for run in ("spring", "autumn", "spring"):
        assert set_current(operator.folder, run) is None
    assert in_force(operator.folder) == back


def test_a_run_that_goes_on_brings_its_next_release_into_force(
    operator: Operator,
) -> None:
    set_current(operator.folder, "spring")
    publish(operator, "spring", 4)

    now = set_current(operator.folder, "spring")

    assert now is not None
    assert (now.release.name, now.pointer.number) == ("spring/4", 2)


def test_nothing_is_in_force_before_a_run_ends(operator: Operator) -> None:
    assert in_force(operator.folder) is None
    assert set_current(operator.folder, "winter") is None


def test_going_back_is_a_newer_pointer_and_the_old_ones_are_kept(
    operator: Operator,
) -> None:
    set_current(operator.folder, "spring")

    back = rollback(operator.folder, "spring/1")

    assert back.pointer.number == 2
    assert [one.release for one in pointers(operator)] == ["spring/3", "spring/1"]
    line = (operator.releases / "current.json").read_text("utf-8")
    assert pointer_from(line, operator.public_key()) == back.pointer


def test_a_damaged_release_is_not_put_in_force(operator: Operator) -> None:
    before = set_current(operator.folder, "spring")
    damage(publish(operator, "spring", 3), 1)

    with pytest.raises(ModelError, match="damaged"):
        rollback(operator.folder, "spring/1")

    assert in_force(operator.folder) == before


def test_a_pointer_that_was_changed_by_hand_is_not_believed(operator: Operator) -> None:
    set_current(operator.folder, "spring")
    path = operator.releases / "current.json"
    said = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**said, "release": "spring/1"}), "utf-8")

    with pytest.raises(ModelError, match="not signed by the operator's key"):
        in_force(operator.folder)


def test_two_processes_never_sign_one_number(operator: Operator) -> None:
    asked = [
        threading.Thread(target=rollback, args=(operator.folder, f"spring/{number}"))
        for number in (1, 2, 3, 1, 2, 3)
    ]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()

    assert [one.number for one in pointers(operator)] == [1, 2, 3, 4, 5, 6]
    now = in_force(operator.folder)
    assert now is not None
    assert now.pointer.number == 6


def tacit(*words: object) -> str:
    done = CliRunner().invoke(commands, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.output


def test_the_list_marks_the_release_in_force_and_names_what_is_none(
    operator: Operator,
) -> None:
    set_current(operator.folder, "spring")
    registry = publish(operator, "autumn", 1)
    (registry.folder(1) / "manifest.json").write_text("{", "utf-8")

    lines = tacit("list", operator.folder).splitlines()

    assert [line[:10] for line in lines if line.startswith("*")] == ["* spring/3"]
    assert sum("epsilon >= " in line for line in lines) == 3
    assert [line for line in lines if line.startswith("!") and "autumn" in line]
    rows = json.loads(tacit("list", operator.folder, "--json"))
    assert [row["name"] for row in rows["releases"] if row["in_force"]] == ["spring/3"]
    assert [*rows["unreadable"]] == ["autumn/1"]


def test_show_says_where_a_release_comes_from_and_what_it_cost(
    operator: Operator,
) -> None:
    release = find(operator.folder, "spring/2")

    shown = tacit("show", "spring/2", operator.folder)

    for part in ("adapter", "parent", "rule", "key", "digest"):
        assert release.manifest[part] in shown
    assert release.manifest["privacy"]["statement"] in shown
    assert json.loads(tacit("show", "spring/2", operator.folder, "--json")) == (
        release.manifest
    )


def test_verify_fails_where_a_byte_was_changed(operator: Operator) -> None:
    assert "spring/1 holds" in tacit("verify", "spring/1", operator.folder)

    damage(publish(operator, "spring", 3), 1)
    with pytest.raises(ModelError, match="damaged"):
        tacit("verify", "spring/1", operator.folder)


def test_rollback_says_what_is_in_force_and_when_sites_are_told(
    operator: Operator,
) -> None:
    said = tacit("rollback", "spring/1", operator.folder)

    assert "Release spring/1 is in force" in said
    assert "by pointer 1" in said
    assert "tell the sites: tacit server releases send" in said


def sites_that(*words: str) -> ClientApp:
    """Sites that answer a release with these contents, in the order of their names."""
    app = ClientApp()

    @app.query("release")
    def release(message: Message, context: Context) -> Message:
        site = str(context.node_config["site"])
        word = words["abcdef".index(site)]
        if word == "raise":
            raise ValueError("user 17")
        if word == "talk":
            record = ConfigRecord({"site": site, "reason": "Kept", "users": 17})
            return Message(RecordDict({"refusal": record}), reply_to=message)
        if word == "nothing":
            return Message(RecordDict(), reply_to=message)
        if word == "other":
            return Message(pack_refusal("a", "Kept"), reply_to=message)
        open_release(message.content)
        return Message(pack_refusal(site, word), reply_to=message)

    return app


def test_each_site_answers_a_release_with_one_word(operator: Operator) -> None:
    now = set_current(operator.folder, "spring")
    assert now is not None
    app = sites_that("Kept", "ModelError", "raise", "talk", "nothing", "other")

    told = deliver(LocalGrid(app, node_configs(*"abcdef")), now, "abcdefg", 0.5)

    assert told == {
        "a": "Kept",
        "b": "ModelError",
        "c": "FlowerError2",
        "d": "RoundError",
        "e": "RoundError",
        "f": "RoundError",
        "g": "NotOnline",
    }


def test_a_site_that_is_silent_or_not_named_is_not_waited_for(
    operator: Operator,
) -> None:
    now = set_current(operator.folder, "spring")
    assert now is not None
    grid = LocalGrid(
        sites_that("Kept", "Kept", "Kept"),
        node_configs(*"abc"),
        hold=lambda reply: reply.metadata.src_node_id == 2,
    )

    told = deliver(grid, now, ["a", "b"], 0.1)

    assert told == {"a": "Kept", "b": "NoAnswer"}


def test_what_is_delivered_is_the_release_and_its_pointer(operator: Operator) -> None:
    now = set_current(operator.folder, "spring")
    assert now is not None
    seen: list[RecordDict] = []
    app = ClientApp()

    @app.query("release")
    def release(message: Message, context: Context) -> Message:
        seen.append(message.content)
        site = str(context.node_config["site"])
        return Message(pack_refusal(site, "Kept"), reply_to=message)

    deliver(LocalGrid(app, node_configs("a")), now, ["a"], 0.5)

    line, files = open_release(seen[0])
    assert pointer_from(line, operator.public_key()) == now.pointer
    assert files == now.release.files()
