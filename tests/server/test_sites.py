"""Who may take part: invited, admitted, expelled; and the commands that say so."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from server import flower
from server.commands import setup as commands_setup
from server.flower import Node
from server.operator import Operator, ServerSettings, open_operator
from server.setup import init, kept_bundle
from server.sites import admit, admitted, admitted_at, expel, invite
from shared.encoder import base_digest
from shared.errors import ConfigError, ServerUnreachable
from shared.identity import Identity, to_text
from shared.invitation import fingerprint, invitation_from
from tests.shared.papers import an_identity
from tests.standin import key_of

NOW = datetime.now(UTC)
RUNNER = CliRunner()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    settings = ServerSettings(
        addresses=("tacit.example.org",), base="tiny", max_steps=33, max_q=0.3
    )
    return init(tmp_path / "op", settings, NOW)


def pub(identity: Identity) -> str:
    """The site's own ``site.pub``."""
    return to_text(identity, key_of(identity.site))


def test_an_invitation_says_what_a_site_must_know(operator: Operator) -> None:
    invitation = invitation_from(invite(operator, "north"))

    assert invitation.site == "north"
    assert invitation.address == "tacit.example.org:9443"
    assert invitation.ca == operator.ca.read_text()
    assert invitation.operator == operator.public_key()
    assert invitation.base == base_digest("tiny")
    assert invitation.bundle == kept_bundle(operator)
    assert (invitation.max_steps, invitation.max_q) == (33, 0.3)


def test_an_invitation_holds_no_secret(operator: Operator) -> None:
    text = invite(operator, "north")

    secrets = [*operator.folder.rglob("*.key"), operator.secret]
    lines = {line for path in secrets for line in path.read_text().splitlines()}
    assert len(secrets) == 4
    assert [line for line in lines if "-----" not in line and line in text] == []
    assert "PRIVATE" not in text


def test_a_site_is_invited_by_a_name_that_may_name_a_file(operator: Operator) -> None:
    with pytest.raises(ConfigError, match="must be 1 to 64 letters"):
        invite(operator, "../north")


def test_sites_are_admitted_and_listed_by_name(operator: Operator) -> None:
    north, south = an_identity("north"), an_identity("south")
    begun = datetime.now(UTC)

    assert admit(operator, pub(south)) == south
    assert admit(operator, pub(north)) == north

    assert admitted(operator) == [north, south]
    assert (operator.sites / "north.pub").read_text() == pub(north)
    since = admitted_at(operator, "north") - begun
    assert timedelta(seconds=-1) < since < timedelta(seconds=60)


def test_the_same_identity_once_more_changes_nothing(operator: Operator) -> None:
    admit(operator, pub(an := an_identity()))
    before = admitted_at(operator, "north")

    admit(operator, pub(an))

    assert admitted_at(operator, "north") == before


def test_another_identity_under_the_same_name_is_refused(operator: Operator) -> None:
    admit(operator, pub(first := an_identity()))

    with pytest.raises(ConfigError, match=r"has that name.*tacit server expel north"):
        admit(operator, pub(an_identity()))

    assert admitted(operator) == [first]


def test_a_node_key_belongs_to_one_site(operator: Operator) -> None:
    admit(operator, pub(north := an_identity()))

    with pytest.raises(ConfigError, match="its node key is that of 'north'"):
        admit(operator, pub(an_identity("south", node=north.node)))

    assert admitted(operator) == [north]


def test_a_ledger_belongs_to_one_site(operator: Operator) -> None:
    admit(operator, pub(north := an_identity()))
    clone = replace(an_identity("south"), ledger=north.ledger)

    with pytest.raises(ConfigError, match="its ledger key is that of 'north'"):
        admit(operator, to_text(clone, key_of("north")))

    assert admitted(operator) == [north]


def test_what_is_no_identity_is_not_admitted(operator: Operator) -> None:
    forged = pub(an_identity()).replace('site = "north"', 'site = "south"')

    with pytest.raises(ConfigError, match="changed on its way"):
        admit(operator, forged)

    assert admitted(operator) == []


def test_an_expelled_site_is_forgotten_and_may_come_back(operator: Operator) -> None:
    admit(operator, pub(an_identity()))

    expel(operator, "north")

    assert admitted(operator) == []
    assert admit(operator, pub(an_identity())).site == "north"


def test_nobody_is_expelled_who_is_not_there(operator: Operator) -> None:
    admit(operator, pub(an_identity()))

    with pytest.raises(ConfigError, match=r"no site '\.\./op'.*admitted: north"):
        expel(operator, "../op")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("north", b"x", "not valid TOML"), ("north", b"\xff", "UnicodeDecodeError")],
)
def test_a_damaged_identity_is_named(
    operator: Operator, name: str, content: bytes, told: str
) -> None:
    (operator.sites / f"{name}.pub").write_bytes(content)

    with pytest.raises(ConfigError, match=f"north.pub cannot be used: .*{told}"):
        admitted(operator)


def test_an_identity_under_a_file_of_another_name_is_noticed(
    operator: Operator,
) -> None:
    (operator.sites / "south.pub").write_text(pub(an_identity("north")))

    with pytest.raises(ConfigError, match="holds the identity of 'north'"):
        admitted(operator)


def unreachable(*_: object) -> None:
    raise ServerUnreachable("no SuperLink answers on port 8000")


def said(command: str, *words: str) -> str:
    """What the command prints."""
    app = typer.Typer()
    names = ("init", "invite", "admit", "expel", "sites", "renew", "upgrade")
    for name in names:
        app.command(name)(getattr(commands_setup, name))
    done = RUNNER.invoke(app, [command, *words])
    if done.exception:
        raise done.exception
    assert done.exit_code == 0
    return done.stdout


def test_a_folder_is_made_and_renewed_by_commands(tmp_path: Path) -> None:
    folder = str(tmp_path / "op")
    words = ("--address", "localhost", "--address", "10.0.0.7", "--base", "tiny")

    made = said("init", folder, "--name", "spring", "--public", "[::]:7443", *words)
    renewed = said("renew", folder)

    operator = open_operator(tmp_path / "op")
    assert operator.settings == ServerSettings(
        name="spring",
        addresses=("localhost", "10.0.0.7"),
        public="[::]:7443",
        base="tiny",
    )
    assert fingerprint(operator.public_key()) in made
    assert "localhost:7443" in made
    assert "397 days left" in renewed


def test_an_upgrade_says_what_sites_must_approve(operator: Operator) -> None:
    folder = str(operator.folder)
    same = said("upgrade", folder)
    operator.bundle.write_bytes(b"older")
    old = kept_bundle(operator)

    told = said("upgrade", folder)

    assert "the same as before" in same
    assert old in told
    assert kept_bundle(operator) in told
    assert "tacit site approve" in told


def test_an_invitation_is_written_into_the_folder_or_elsewhere(
    operator: Operator, tmp_path: Path
) -> None:
    folder, out = str(operator.folder), tmp_path / "join.toml"

    told = said("invite", "north", folder)
    said("invite", "south", folder, "--out", str(out))

    assert fingerprint(operator.public_key()) in told
    inside = (operator.invitations / "north.toml").read_text()
    assert invitation_from(inside).site == "north"
    assert invitation_from(out.read_text()).site == "south"
    with pytest.raises(ConfigError, match="cannot be written"):
        said("invite", "west", folder, "--out", str(tmp_path / "no" / "join.toml"))


def test_a_site_is_admitted_listed_and_expelled_while_no_server_runs(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("register_admitted", "expel_node", "nodes"):
        monkeypatch.setattr(flower, name, unreachable)
    folder, file = str(operator.folder), tmp_path / "site.pub"
    file.write_text(pub(north := an_identity()))

    told = said("admit", str(file), folder)
    (row,) = json.loads(said("sites", folder, "--json"))
    table = said("sites", folder)
    gone = said("expel", "north", folder)

    assert fingerprint(north.ledger) in told
    assert "next tacit server start" in told
    assert (row["name"], row["status"]) == ("north", "-")
    assert row["fingerprint"] == fingerprint(north.ledger)
    assert "1 sites" in table
    assert "next tacit server start" in gone
    assert json.loads(said("sites", folder, "--json")) == []


def test_a_running_server_hears_of_it_at_once(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    node = Node(name="north", node_id=1, status="online", last_seen=None)
    monkeypatch.setattr(flower, "nodes", lambda _: [node])
    monkeypatch.setattr(flower, "register_admitted", lambda _: heard.append("admit"))
    monkeypatch.setattr(flower, "expel_node", lambda _, name: heard.append(name))
    folder, file = str(operator.folder), tmp_path / "site.pub"
    file.write_text(pub(an_identity()))

    told = said("admit", str(file), folder)
    table = said("sites", folder)
    said("expel", "north", folder)

    assert "No server" not in told
    assert "online" in table
    assert heard == ["admit", "north"]


def test_a_file_that_cannot_be_read_is_named(operator: Operator) -> None:
    with pytest.raises(ConfigError, match=r"nowhere cannot be read.*site\.pub"):
        said("admit", "nowhere", str(operator.folder))
