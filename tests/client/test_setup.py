"""A partner's first step: a folder from an invitation, and nothing half made."""

import shutil
import stat
import subprocess
import tomllib
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)
from typer import Typer
from typer.testing import CliRunner

from client.commands import join as commands_join
from client.mapping import FILE, read_mapping
from client.policy import Circumstances, require_allowed
from client.setup import init
from client.site import SiteSettings, open_site
from client.units import unit_text
from shared.errors import ConfigError, PolicyRefused
from shared.identity import identity_from
from shared.invitation import Invitation, fingerprint
from shared.protocol import Mechanism
from shared.signing import load_key, public_key
from tests.client.partner import an_invitation, join_text, make_site, make_tls
from tests.standin import a_plan

app = Typer()
app.command()(commands_join.init)


@pytest.fixture(scope="module")
def invitation(tmp_path_factory: pytest.TempPathFactory) -> Invitation:
    return an_invitation(make_tls(tmp_path_factory.mktemp("operator") / "tls"))


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_new_site_is_a_site_with_all_that_it_needs(
    tmp_path: Path, invitation: Invitation
) -> None:
    folder = tmp_path / "north"

    init(folder, join_text(invitation), users=400, base="tiny")

    site = open_site(folder)
    assert site.settings == SiteSettings(name="north", base="tiny")
    assert (site.policy.users, site.policy.epsilon, site.policy.delta) == (400, 8, 1e-5)
    assert site.policy.base == invitation.base
    assert (folder / "join.toml").read_text("utf-8") == join_text(invitation)
    assert everything(folder) == {
        *("site.toml", "policy.toml", "join.toml", "site.pub", "site.key"),
        *("node.key", "node.pub", "data", f"data/{FILE}"),
        *("tacit-site.service", "compose.yaml"),
    }


def test_folder_and_keys_are_their_owners_alone(
    tmp_path: Path, invitation: Invitation
) -> None:
    folder = tmp_path / "north"
    folder.mkdir(mode=0o755)

    init(folder, join_text(invitation), users=400)

    modes = {
        name: stat.S_IMODE((folder / name).stat().st_mode)
        for name in (".", "data", "site.key", "node.key")
    }
    assert modes == {".": 0o700, "data": 0o700, "site.key": 0o600, "node.key": 0o600}


def test_what_goes_to_the_operator_is_signed_and_fits_both_keys(
    tmp_path: Path, invitation: Invitation
) -> None:
    init(tmp_path / "north", join_text(invitation), users=400)

    folder = tmp_path / "north"
    sent = identity_from((folder / "site.pub").read_text("utf-8"))
    node = load_ssh_private_key((folder / "node.key").read_bytes(), None)
    assert isinstance(node, EllipticCurvePrivateKey)
    assert isinstance(node.curve, SECP384R1)
    public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    assert sent.site == "north"
    assert sent.node == public.decode() == (folder / "node.pub").read_text().strip()
    assert sent.ledger == public_key(load_key(folder / "site.key"))


def test_two_sites_of_one_invitation_have_different_keys(
    tmp_path: Path, invitation: Invitation
) -> None:
    for name in ("a", "b"):
        init(tmp_path / name, join_text(invitation), users=400)

    keys = {
        (tmp_path / name / f"{kind}.key").read_bytes()
        for name in ("a", "b")
        for kind in ("site", "node")
    }
    assert len(keys) == 4


def test_the_ledger_begins_with_the_key_that_the_operator_admitted(
    tmp_path: Path, invitation: Invitation
) -> None:
    folder = make_site(tmp_path / "north", invitation)

    opened = open_site(folder).open_ledger().entries()[0]

    sent = identity_from((folder / "site.pub").read_text("utf-8"))
    assert opened.body["key"] == sent.ledger


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"q": 0.3}, "q=0.3 is over 0.2"),
        ({"sigma": 1.0}, "sigma=1.0 is under 1.5"),
        ({"clip": 0.5}, "clip=0.5 is over 0.3"),
        ({"steps": 21}, "steps=21 is over 20"),
        ({"prior_sigma": 3.0}, "prior-sigma=3.0 is under 4.0"),
    ],
)
def test_the_policy_allows_what_the_invitation_says_and_no_more(
    tmp_path: Path, invitation: Invitation, change: dict[str, Any], told: str
) -> None:
    narrow = replace(invitation, max_q=0.2, max_clip=0.3, min_prior_sigma=4.0)
    init(tmp_path / "north", join_text(narrow), users=400, base="tiny")
    policy = open_site(tmp_path / "north").policy
    plan = a_plan(sites=("north", "south"))
    plan = replace(
        plan,
        spec=replace(plan.spec, base=invitation.base),
        mechanism=replace(Mechanism(), **change),
    )
    here = Circumstances(
        site="north", base=invitation.base, code="c" * 64, now=time(12)
    )

    if not told:
        require_allowed(plan, policy, here)
        return
    with pytest.raises(PolicyRefused, match=told):
        require_allowed(plan, policy, here)


def test_a_folder_that_holds_anything_is_left_as_it_is(
    tmp_path: Path, invitation: Invitation
) -> None:
    folder = make_site(tmp_path / "north", invitation)
    before = {path: path.stat() for path in folder.rglob("*")}

    with pytest.raises(ConfigError, match=r"is not empty.*never made again"):
        init(folder, join_text(invitation), users=400)

    assert {path: path.stat() for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"users": 0}, "users=0 must be at least 1"),
        ({"users": 400, "delta": 0.01}, "delta=0.01 is not in"),
        ({"users": 400, "epsilon": -1.0}, "epsilon=-1.0 must be above 0"),
    ],
)
def test_a_value_out_of_range_is_told_and_nothing_is_made(
    tmp_path: Path, invitation: Invitation, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        init(tmp_path / "north", join_text(invitation), **given)

    assert not (tmp_path / "north").exists()


def test_an_invitation_that_was_changed_makes_no_site(
    tmp_path: Path, invitation: Invitation
) -> None:
    text = join_text(invitation).replace("127.0.0.1:1", "127.0.0.1:2")

    with pytest.raises(ConfigError, match="changed on its way"):
        init(tmp_path / "north", text, users=400)

    assert not (tmp_path / "north").exists()


def test_every_key_of_the_settings_stands_under_a_line_that_explains_it(
    tmp_path: Path, invitation: Invitation
) -> None:
    init(tmp_path / "north", join_text(invitation), users=400)

    for name in ("site.toml", "policy.toml"):
        lines = (tmp_path / "north" / name).read_text("utf-8").splitlines()
        keys = tomllib.loads("\n".join(lines))
        places = [n for n, line in enumerate(lines) if line.split(" = ")[0] in keys]
        assert len(places) == len(keys) > 5
        assert all(lines[n - 1].startswith("# ") for n in places)


def uncommented(text: str, *, database: bool) -> str:
    """The template as a partner would fill it in."""
    lines = [
        line.removeprefix("# ")
        for line in text.splitlines()
        if "=" in line or "# [" in line
    ]
    source = lines.index("[interactions]")
    columns = [line for line in lines[source:] if not (database and "file" in line)]
    return "\n".join([*(lines[:source] if database else []), *columns])


@pytest.mark.parametrize("database", [False, True])
def test_the_data_template_only_needs_its_marks_taken_away(
    tmp_path: Path, invitation: Invitation, *, database: bool
) -> None:
    init(tmp_path / "north", join_text(invitation), users=400)
    data = tmp_path / "north" / "data"
    text = (data / FILE).read_text("utf-8")

    (data / FILE).write_text(uncommented(text, database=database), "utf-8")

    assert (read_mapping(data).source is not None) == database


def test_the_command_shows_the_fingerprint_and_what_comes_next(
    tmp_path: Path, invitation: Invitation
) -> None:
    (tmp_path / "join.toml").write_text(join_text(invitation), "utf-8")
    folder = tmp_path / "north"

    done = CliRunner().invoke(
        app, ["--join", str(tmp_path / "join.toml"), "--users", "400", str(folder)]
    )

    assert done.exit_code == 0
    assert fingerprint(invitation.operator) in done.output
    assert all(f"{step}. " in done.output for step in range(1, 7))
    assert (folder / "site.pub").is_file()


def test_a_site_without_a_declared_number_of_users_is_not_made(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--join", "join.toml", str(tmp_path / "north")])

    assert done.exit_code == 2
    assert "--users" in done.output


def test_the_compose_file_mounts_the_site_and_builds_without_it(
    tmp_path: Path, invitation: Invitation
) -> None:
    init(tmp_path / "north", join_text(invitation), users=400)

    service = yaml.safe_load((tmp_path / "north" / "compose.yaml").read_text())
    (site,) = service["services"].values()
    owner = (tmp_path / "north").stat()
    assert site["build"]["context"].startswith("${TACIT_SOURCE:?")
    assert site["volumes"] == [".:/site"]
    assert site["user"] == f"{owner.st_uid}:{owner.st_gid}"
    assert site["command"] == ["tacit", "site", "join", "/site"]


@pytest.mark.parametrize("name", ["north", 'a "b" 100% $HOME\\n'])
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    unit = tmp_path / "tacit-site.service"
    program = tmp_path / "tacit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    unit.write_text(unit_text("north", folder, program))

    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    newer = ("'RestartSteps'", "'RestartMaxDelaySec'")  # than systemd 254, ignored
    told = [
        line for line in done.stderr.splitlines() if not any(map(line.count, newer))
    ]
    assert (told, done.returncode) == ([], 0)
