"""The guard before Flower's SuperNode, driven through Flower's own functions."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.cli.install import install_from_fab
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as flower
from flwr.supernode.nodestate import NodeStateFactory

from client import node
from client.approval import approve, revoke, waiting
from client.node import empty_apps, guard, require_flower
from client.site import Site
from shared.bundle import bundle_digest
from shared.errors import ConfigError
from shared.signing import make_key
from simulations.grid import enter_run
from tests.factories import write_site
from tests.shared.checkouts import built, tiny_checkout

RUN = 77
INVALID_FAB = 7  # the code of Flower's own error


class Ended(Exception):
    """The test has seen enough of Flower's endless loop."""


class World:
    """A SuperLink that asks one site to run one bundle, and the node's memory."""

    def __init__(self, content: bytes, **of_run: object) -> None:
        factory = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
        self.factory, self.state = factory, factory.state()
        self.state.set_node_id(5)
        self.store = factory.objectstore_factory.store()
        digest = bundle_digest(content)
        self.fab = Fab(digest, content, {})
        self.run = Run.create_empty(RUN)
        named = {"fab_id": "tacit/tacit", "fab_version": "0.1.0", "fab_hash": digest}
        for name, value in (named | of_run).items():
            setattr(self.run, name, value)
        self.asked: list[str] = []
        self.objects: dict[str, InflatableObject] = {}

    def receive(self) -> tuple[Message, Any]:
        """The next instruction of the run."""
        group = str(len(self.asked) + 1)
        message = Message(RecordDict(), 5, "train", group_id=group)
        message.metadata.__dict__["_run_id"] = RUN
        message.metadata.__dict__["_message_id"] = message.object_id
        self.asked.append(message.object_id)
        self.objects = get_all_nested_objects(message)
        return message, get_object_tree(message)

    def pull(self) -> int | None:
        """One pull of Flower's, as its loop does it."""
        return flower._pull_and_store_message(
            state=self.state,
            object_store=self.store,
            node_config={},
            receive=self.receive,
            get_run=lambda _: self.run,
            get_fab=lambda *_: self.fab,
            pull_object=lambda _, name: self.objects[name].deflate(),
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )

    def replies(self) -> list[Message]:
        return list(self.state.get_messages_legacy(is_reply=True))

    def holds(self) -> bool:
        """Whether the node keeps the bundle, and would hand it to an app's process."""
        kept = self.state.get_fab(self.fab.hash_str) is not None
        return kept and self.state.get_run(RUN) is not None


@pytest.fixture(autouse=True)
def _unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower as it was before, and after each test again."""
    enter_run()
    own = flower._pull_and_store_message
    monkeypatch.setattr(flower, "_pull_and_store_message", own)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_checkout(tmp_path / "source")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose node is guarded, with nothing approved."""
    made = write_site(tmp_path / "site")
    make_key(made.folder / "site.key")
    guard(made.folder)
    return made


def test_flower_alone_keeps_any_bundle(source: Path) -> None:
    """What the guard is for; if this fails, Flower has changed."""
    world = World(built(source))

    assert world.pull() == RUN

    assert world.holds()


def test_an_approved_bundle_is_kept_and_its_run_is_known(
    site: Site, source: Path
) -> None:
    world = World(built(source))
    approve(site, built(source), source)

    assert world.pull() == RUN

    assert world.holds()
    context = world.state.get_run_series_context(world.run.series_id)
    assert context is not None
    assert context.run_config["federation.rounds"] == 10
    assert world.replies() == []


def test_a_bundle_that_is_not_approved_is_answered_with_flowers_own_error(
    site: Site, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(built(source))

    assert world.pull() == RUN

    (reply,) = world.replies()
    assert reply.error.code == INVALID_FAB
    assert reply.metadata.reply_to_message_id == world.asked[0]
    assert not world.holds()
    noted = waiting(site.folder)
    assert noted is not None
    assert noted.digest == world.fab.hash_str
    assert world.fab.hash_str in caplog.text


def test_a_node_that_refused_a_bundle_runs_it_once_it_is_approved(
    site: Site, source: Path
) -> None:
    world = World(built(source))
    world.pull()
    approve(site, built(source), source)

    world.pull()

    assert [reply.error.code for reply in world.replies()] == [INVALID_FAB]
    assert world.holds()
    assert waiting(site.folder) is None


def test_what_was_revoked_does_not_start_again(site: Site, source: Path) -> None:
    made = approve(site, built(source), source)
    revoke(site, made.bundle)
    world = World(built(source))

    world.pull()

    assert not world.holds()


@pytest.mark.parametrize("place", [0, 40, -900, -1])
def test_one_changed_byte_is_refused_whatever_the_server_calls_it(
    place: int, site: Site, source: Path
) -> None:
    content = bytearray(built(source))
    approve(site, bytes(content), source)
    world = World(bytes(content))
    content[place] ^= 1
    world.fab.content = bytes(content)

    world.pull()

    assert [reply.error.code for reply in world.replies()] == [INVALID_FAB]
    assert not world.holds()


@pytest.mark.parametrize(
    "of_run",
    [
        {"fab_version": "0/../../../../home/site/x"},  # a folder of the server's choice
        {"fab_id": "other/tacit"},
        {"fab_id": "../.."},
        {"fab_hash": "0" * 64},  # a bundle that is approved no longer
        {"primary_task_type": TaskType.AGENT_APP},
    ],
)
def test_a_run_that_names_other_code_than_its_bundle_is_refused(
    of_run: dict[str, object], site: Site, source: Path
) -> None:
    approve(site, built(source), source)
    world = World(built(source), **of_run)

    assert world.pull() == RUN

    assert [reply.error.code for reply in world.replies()] == [INVALID_FAB]
    assert not world.holds()


def test_a_bundle_that_calls_itself_by_another_digest_is_refused(
    site: Site, source: Path
) -> None:
    approve(site, built(source), source)
    world = World(built(source))
    world.fab.hash_str = "0" * 64

    world.pull()

    assert not world.holds()


def test_without_the_sites_key_everything_is_refused_and_the_node_goes_on(
    site: Site, source: Path
) -> None:
    approve(site, built(source), source)
    (site.folder / "site.key").unlink()
    world = World(built(source))

    assert [world.pull(), world.pull()] == [RUN, RUN]

    assert [reply.error.code for reply in world.replies()] == [INVALID_FAB] * 2
    assert not world.holds()


def test_a_refusal_that_cannot_be_noted_is_a_refusal(site: Site, source: Path) -> None:
    (site.folder / "node").touch()  # stands where the folder would be
    world = World(built(source))

    assert world.pull() == RUN

    assert [reply.error.code for reply in world.replies()] == [INVALID_FAB]


def test_flowers_loop_asks_the_site_sends_the_error_and_goes_on(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's own main loop, over a connection that ends after two instructions."""
    world = World(built(source))
    sent: list[Message] = []

    def receive() -> tuple[Message, Any]:
        if len(world.asked) == 2:
            raise Ended
        return world.receive()

    def send(message: Message, *_: object) -> tuple[set[str], str]:
        sent.append(message)
        return set(), "session"

    @contextmanager
    def connection(**_: object) -> Iterator[tuple[object, ...]]:
        calls = (lambda _: world.run, lambda *_: world.fab, *([lambda *_: b""] * 3))
        yield (5, receive, send, *calls)

    monkeypatch.setattr(flower, "_init_connection", connection)
    monkeypatch.setattr(flower, "register_signal_handlers", lambda **_: None)

    with pytest.raises(Ended):
        flower.start_client_internal(
            state_factory=world.factory,
            server_address="127.0.0.1:1",
            node_config={},
            isolation="process",
        )

    assert [message.error.code for message in sent] == [INVALID_FAB] * 2
    assert [message.metadata.reply_to_message_id for message in sent] == world.asked
    assert site.folder / "node" / "refused.json" in (site.folder / "node").iterdir()


def test_an_app_that_lay_unpacked_before_is_not_what_runs(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    content = built(source)
    place = install_from_fab(content, skip_prompt=True)
    reviewed = (place / "client" / "app.py").read_text("utf-8")
    (place / "client" / "app.py").write_text("planted = True\n", "utf-8")
    assert install_from_fab(content, skip_prompt=True) == place
    assert (place / "client" / "app.py").read_text("utf-8") != reviewed  # Flower's way

    empty_apps()

    assert install_from_fab(content, skip_prompt=True) == place
    assert (place / "client" / "app.py").read_text("utf-8") == reviewed


def test_a_link_in_place_of_the_apps_is_removed_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "apps").symlink_to(tmp_path / "elsewhere")

    empty_apps()
    empty_apps()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]
    assert (tmp_path / "elsewhere" / "kept").is_file()


def test_a_node_without_a_folder_of_its_own_empties_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLWR_HOME", raising=False)

    with pytest.raises(ConfigError, match="FLWR_HOME is not set"):
        empty_apps()


def test_another_version_of_flower_is_refused_with_both_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_flower()
    monkeypatch.setattr(node, "version", lambda _: "1.42.0")

    with pytest.raises(
        ConfigError, match=r"flwr 1\.42\.0 .* pip install flwr==1\.41\.0"
    ):
        require_flower()


@pytest.mark.parametrize(
    ("words", "home", "told"),
    [
        pytest.param(
            *(["--version"], "home", "Flower version: 1.41.0"), marks=pytest.mark.slow
        ),
        (["--version"], "", "error: FLWR_HOME is not set"),
    ],
)
def test_the_process_is_flowers_own_with_its_own_options(
    words: list[str], home: str, told: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "client.node", "--approvals", "approved", *words],
        env={**os.environ, "FLWR_HOME": home and str(tmp_path / home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
