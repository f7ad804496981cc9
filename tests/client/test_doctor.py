"""The doctor: a sound site has no fault, and each planted one is named with a remedy.

The server is Flower's own app under TLS, so that what is asked of it is what it really
answers.
"""

import json
import re
import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from flwr.supernode import node_auth_http_interceptor
from typer import Typer
from typer.testing import CliRunner

from client.approval import approve
from client.commands import join as commands_join
from client.doctor import machine, server
from client.doctor.examine import examine
from client.doctor.server import Answer
from client.doctor.verdict import Verdict, checked
from client.setup import make_node_key
from client.site import open_site
from client.standing import leave, pause
from shared.bundle import build_bundle, bundle_digest
from shared.identity import Identity
from shared.identity import to_text as identity_text
from shared.invitation import Invitation
from shared.signing import load_key, public_key
from tests.client.partner import (
    SuperLink,
    an_invitation,
    join_text,
    make_site,
    make_tls,
    superlink,
)

app = Typer()
app.command()(commands_join.doctor)
NOW = datetime.now(UTC)
KEY = "site.key"


@dataclass(frozen=True, slots=True)
class Partner:
    """A sound and admitted site, and the world around it."""

    folder: Path
    invitation: Invitation
    node: int
    link: SuperLink
    elsewhere: Path
    patch: pytest.MonkeyPatch

    def invite(self, **changes: Any) -> None:
        """Put another invitation of the same operator in place."""
        text = join_text(replace(self.invitation, **changes))
        (self.folder / "join.toml").write_text(text, "utf-8")

    def write(self, name: str, old: str, new: str) -> None:
        """Replace a part of a file that must be there."""
        path = self.folder / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tls(tmp_path_factory.mktemp("operator") / "tls")


@pytest.fixture(scope="module")
def link(tls: Path) -> Iterator[SuperLink]:
    with superlink(tls) as running:
        yield running


@pytest.fixture(scope="module")
def sound(
    tmp_path_factory: pytest.TempPathFactory, tls: Path, link: SuperLink
) -> tuple[Path, Invitation, int]:
    """An admitted site with nothing wrong; each test has a copy of its own."""
    bundle = build_bundle()
    invitation = an_invitation(tls, address=link.address, bundle=bundle_digest(bundle))
    folder = make_site(tmp_path_factory.mktemp("sound") / "north", invitation)
    approve(open_site(folder), bundle)
    return folder, invitation, link.admit(folder)


@pytest.fixture
def partner(
    tmp_path: Path,
    sound: tuple[Path, Invitation, int],
    link: SuperLink,
    monkeypatch: pytest.MonkeyPatch,
) -> Partner:
    folder = shutil.copytree(sound[0], tmp_path / "north")
    plenty = SimpleNamespace(free=100 * 2**30, available=100 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: plenty)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: plenty)
    (tmp_path / "elsewhere").mkdir()
    return Partner(folder, *sound[1:], link, tmp_path / "elsewhere", monkeypatch)


def bad(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts if verdict.state != "ok"}


def test_a_sound_site_has_no_fault_and_every_check_was_made(partner: Partner) -> None:
    verdicts = examine(partner.folder)

    assert bad(verdicts) == {}
    assert len({verdict.check for verdict in verdicts}) == len(verdicts) >= 20


def test_nothing_is_changed_here_or_at_the_server(partner: Partner) -> None:
    open_site(partner.folder).open_ledger()
    before = {p: p.read_bytes() for p in partner.folder.rglob("*") if p.is_file()}

    examine(partner.folder)

    after = {p: p.read_bytes() for p in partner.folder.rglob("*") if p.is_file()}
    assert after == before
    assert partner.link.status(partner.node) == "registered"


def another_authority(it: Partner) -> None:
    it.invite(ca=an_invitation(make_tls(it.elsewhere / "tls")).ca)


def nobody_listens(it: Partner) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    it.invite(address=f"127.0.0.1:{port}")


def no_such_name(it: Partner) -> None:
    it.invite(address="tacit.invalid:9443")


def another_name(it: Partner) -> None:
    """All of 127.0.0.0/8 is this machine; the certificate is for 127.0.0.1."""
    it.invite(address=it.link.address.replace("127.0.0.1", "127.0.0.2"))


def unadmitted(it: Partner) -> None:
    """Another key for the node, and papers that fit it."""
    node, ledger = make_node_key(it.folder / "node.key"), load_key(it.folder / KEY)
    made = Identity(site="north", node=node, ledger=public_key(ledger))
    (it.folder / "site.pub").write_text(identity_text(made, ledger), "utf-8")


def clock_ahead(it: Partner) -> None:
    """Both clocks of this machine: the doctor's, and the one that Flower signs by."""

    def fast() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=60)

    it.patch.setattr(server, "utc_now", fast)
    it.patch.setattr(node_auth_http_interceptor, "now", fast)


def other_encoder(it: Partner) -> None:
    it.invite(base="0" * 64)


def bad_row(it: Partner) -> None:
    it.write("data/interactions.csv", "customer-3,sku-3", "customer-3,sku-99")


def no_data(it: Partner) -> None:
    (it.folder / "data" / "data.toml").unlink()


def edited_ledger(it: Partner) -> None:
    open_site(it.folder).open_ledger()
    path = it.folder / "ledger.sqlite"
    path.write_bytes(path.read_bytes().replace(b'"north"', b'"south"'))


def lost_ledger(it: Partner) -> None:
    open_site(it.folder).open_ledger()
    (it.folder / "ledger.sqlite").unlink()


def large_delta(it: Partner) -> None:
    it.write("policy.toml", "delta = 1e-05", "delta = 0.5")


def no_privacy(it: Partner) -> None:
    it.write("policy.toml", "insecure-test-noise = false", "insecure-test-noise = true")


def infinite_epsilon(it: Partner) -> None:
    it.write("policy.toml", "epsilon = 8.0", "epsilon = inf")


def readable_key(it: Partner) -> None:
    (it.folder / "node.key").chmod(0o640)


def readable_folder(it: Partner) -> None:
    it.folder.chmod(0o755)


def replaced_key(it: Partner) -> None:
    other = make_site(it.elsewhere / "other", it.invitation)
    shutil.copy(other / "node.key", it.folder / "node.key")


def no_approval(it: Partner) -> None:
    shutil.rmtree(it.folder / "approved")


def another_bundle(it: Partner) -> None:
    it.invite(bundle="c" * 64)


def full_disk(it: Partner) -> None:
    it.patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))


def little_memory(it: Partner) -> None:
    little = SimpleNamespace(available=2**28)
    it.patch.setattr(psutil, "virtual_memory", lambda: little)


def other_flower(it: Partner) -> None:
    it.invite(flwr="1.42.0")


def no_cuda(it: Partner) -> None:
    it.write("site.toml", 'device = "auto"', 'device = "cuda"')
    it.patch.setattr("torch.cuda.is_available", lambda: False)


def gone(it: Partner) -> None:
    leave(it.folder)


def typing_error(it: Partner) -> None:
    it.write("site.toml", "device =", "devise =")


def changed_invitation(it: Partner) -> None:
    it.write("join.toml", "max-q = 1.0", "max-q = 0.9")


def invited_as_another(it: Partner) -> None:
    it.invite(site="south")


PLANTED: list[tuple[Callable[[Partner], None], str, str, str]] = [
    (another_authority, "certificate", "not signed by the CA", "new join file"),
    (nobody_listens, "server", "ConnectionRefusedError", "tacit server status"),
    (no_such_name, "server", "no such name", "name service"),
    (another_name, "certificate", "not for 127.0.0.2", "tacit server renew"),
    (unadmitted, "admission", "does not know", "tacit server admit site.pub"),
    (clock_ahead, "clock", "s ahead of the server; 5 s ahead and 305 s", "NTP"),
    (clock_ahead, "admission", "refuses this site's signature", "clock right"),
    (other_encoder, "encoder", "the invitation 0000000000000000", "site.toml"),
    (bad_row, "data", "DataError", "tacit site data check"),
    (no_data, "data", "DataError", "tacit site data check"),
    (edited_ledger, "ledger", "broken", "restore ledger.sqlite"),
    (lost_ledger, "ledger", "broken", "restore ledger.sqlite"),
    (large_delta, "policy.toml", "delta=0.5 is not in (0, 1/users", "correct it"),
    (no_privacy, "policy", "NO PRIVACY", "policy.toml to false"),
    (infinite_epsilon, "policy", "NO PRIVACY", "policy.toml to 8"),
    (readable_key, "permissions", "node.key has mode 640", "chmod 600"),
    (readable_folder, "permissions", "has mode 755", "chmod 700"),
    (replaced_key, "identity", "does not fit node.key", "restore node.key"),
    (no_approval, "approval", "is not approved", "tacit site approve"),
    (another_bundle, "approval", "bundle cccccccccccccccc", "tacit site approve"),
    (full_disk, "disk", "0.0 GiB free, 1.0 needed", "make room"),
    (little_memory, "memory", "0.2 GiB free, 1.5 needed", "more memory"),
    (other_flower, "flower", "1.41.0 here, 1.42.0 at the server", "pip install"),
    (no_cuda, "device", "cuda is not available", 'device = "auto"'),
    (gone, "taking part", "has left", "tacit site resume"),
    (typing_error, "site.toml", "unknown key 'devise'", "correct it"),
    (changed_invitation, "join.toml", "changed on its way", "ask the operator"),
    (invited_as_another, "invitation", "site.toml says north", 'name = "south"'),
]


@pytest.mark.parametrize(
    ("plant", "check", "found", "remedy"),
    PLANTED,
    ids=[f"{plant.__name__}-{check}" for plant, check, _, _ in PLANTED],
)
def test_a_planted_fault_is_found_and_its_remedy_named(
    partner: Partner,
    plant: Callable[[Partner], None],
    check: str,
    found: str,
    remedy: str,
) -> None:
    plant(partner)

    verdict = bad(examine(partner.folder))[check]

    assert verdict.state == "FAULT"
    assert found in verdict.found
    assert remedy in verdict.remedy


def test_a_certificate_that_has_expired_is_found(
    partner: Partner, tmp_path: Path
) -> None:
    old = make_tls(tmp_path / "old", NOW - timedelta(days=500))
    with superlink(old) as running:
        partner.invite(ca=an_invitation(old).ca, address=running.address)
        verdict = bad(examine(partner.folder))["certificate"]

    assert (verdict.state, verdict.found) == ("FAULT", "it has expired")
    assert "tacit server renew" in verdict.remedy


def test_certificates_are_warned_of_before_they_end(partner: Partner) -> None:
    found = bad(examine(partner.folder, NOW + timedelta(days=390)))

    assert found["certificate"].state == "warning"
    assert re.search(r"\b[67] days left", found["certificate"].found)
    assert "operator's CA" not in found


def test_what_is_no_tls_is_never_asked_anything(partner: Partner) -> None:
    heard: list[bytes] = []

    class Plain(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(4096))
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Plain) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        partner.invite(address=f"127.0.0.1:{plain.server_address[1]}")
        found = bad(examine(partner.folder))
        plain.shutdown()

    assert found["certificate"].found == "no TLS: SSLError"
    assert found["admission"].found == "not checked"
    assert not any(b"flwr" in said or b"POST" in said for said in heard)


@pytest.mark.parametrize(
    ("skew", "state"),
    [
        *((0.4, "ok"), (-20.0, "ok"), (3.0, "warning"), (-60.0, "warning")),
        *((5.5, "FAULT"), (-306.0, "FAULT"), (None, "warning")),
    ],
)
def test_the_clock_may_be_as_wrong_as_flower_allows(
    skew: float | None, state: str
) -> None:
    assert server.clock(Answer(status=400, code=2003, skew_s=skew)).state == state


def test_a_proxy_without_flower_behind_it_is_told_apart() -> None:
    answer = Answer(status=502, code=0, skew_s=0.0)

    verdict = server.flower_answers(answer)

    assert (verdict.state, verdict.found) == ("FAULT", "HTTP 502, not Flower")
    assert server.admitted(answer).state == "FAULT"


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 9), "FAULT"), ((3, 11, 0), "ok"), ((3, 14), "ok")]
)
def test_an_old_python_is_a_fault(version: tuple[int, ...], state: str) -> None:
    assert machine.python(version).state == state


def warned_of(partner: Partner, check: str) -> str:
    found = bad(examine(partner.folder))
    assert {verdict.state for verdict in found.values()} == {"warning"}
    return found[check].found


def test_a_pause_is_a_warning(partner: Partner) -> None:
    pause(partner.folder)

    assert warned_of(partner, "taking part") == "this site is paused"


def test_a_weak_promise_is_a_warning(partner: Partner) -> None:
    partner.write("policy.toml", "epsilon = 8.0", "epsilon = 20.0")

    assert "epsilon 20" in warned_of(partner, "policy")


def test_a_policy_narrower_than_the_invitation_is_a_warning(partner: Partner) -> None:
    partner.write("policy.toml", "max-q = 1.0", "max-q = 0.1")
    partner.write("policy.toml", "min-sigma = 1.5", "min-sigma = 2.0")

    told = warned_of(partner, "plans")
    assert "max-q=0.1 (join.toml: 1)" in told
    assert "min-sigma=2 (join.toml: 1.5)" in told


def test_declared_users_far_from_the_data_are_a_warning_without_any_count(
    partner: Partner,
) -> None:
    partner.write("policy.toml", "users = 40", "users = 4000")

    assert re.search(r"\d", warned_of(partner, "data")) is None


def test_a_clock_before_the_ledgers_newest_entry_is_a_fault(partner: Partner) -> None:
    open_site(partner.folder).open_ledger()

    found = bad(examine(partner.folder, NOW - timedelta(hours=2)))

    assert "after this clock's time" in found["ledger"].found
    assert "set the clock right" in found["ledger"].remedy


def test_a_ledger_is_not_begun_by_looking_for_it(partner: Partner) -> None:
    examine(partner.folder)

    assert not (partner.folder / "ledger.sqlite").exists()


def test_several_faults_are_all_told_at_once(partner: Partner) -> None:
    unadmitted(partner)
    readable_key(partner)
    bad_row(partner)
    large_delta(partner)

    found = bad(examine(partner.folder))

    faults = {check for check, verdict in found.items() if verdict.state == "FAULT"}
    assert faults == {"permissions", "policy.toml", "admission"}
    assert found["data"].found == "not checked"  # it needs a policy


def test_an_empty_folder_is_no_site_and_the_doctor_says_how_to_make_one(
    tmp_path: Path,
) -> None:
    found = bad(examine(tmp_path))

    assert "tacit site init" in found["join.toml"].remedy
    assert found["site.toml"].state == found["policy.toml"].state == "FAULT"


def test_a_check_that_fails_tells_a_class_and_no_text() -> None:
    def quotes() -> Verdict:
        raise RuntimeError("customer-3 bought sku-9")

    verdict = checked("data", "look at it", quotes)

    assert verdict == Verdict("data", "FAULT", "RuntimeError", "look at it")


def test_no_verdict_names_a_user_or_a_row(partner: Partner) -> None:
    bad_row(partner)

    told = repr(examine(partner.folder))

    assert "customer-" not in told
    assert "sku-" not in told


def test_the_command_prints_a_line_for_each_check_and_exits_0(
    partner: Partner,
) -> None:
    done = CliRunner().invoke(app, [str(partner.folder)])

    assert done.exit_code == 0
    assert len(done.output.splitlines()) == len(examine(partner.folder)) + 1
    assert "No fault" in done.output


def test_the_command_exits_2_and_shows_the_remedy(partner: Partner) -> None:
    unadmitted(partner)

    done = CliRunner().invoke(app, [str(partner.folder)])

    assert done.exit_code == 2
    assert "-> send site.pub to the operator" in done.output
    assert "1 fault(s)" in done.output


def test_the_command_prints_json(partner: Partner) -> None:
    unadmitted(partner)

    done = CliRunner().invoke(app, [str(partner.folder), "--json"])

    told = json.loads(done.output)
    (fault,) = (one for one in told["checks"] if one["state"] == "FAULT")
    assert (done.exit_code, told["faults"], fault["check"]) == (2, 1, "admission")
