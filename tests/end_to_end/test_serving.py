"""A site serves through whatever happens: the real command, asked over HTTP.

One site is served by two workers while releases come, a round is trained and users are
forgotten; then it is killed, started again, and ended.
"""

import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from client.policy import RELEASES
from client.serving.build import FROZEN
from client.serving.schema import FOLDER, read_only
from client.site import Site
from server.operator import Operator
from shared.invitation import to_text
from shared.release import WEIGHTS
from shared.signing import public_key
from tests.client.test_releases import send
from tests.end_to_end.mortal import the_round
from tests.end_to_end.runs import tacit
from tests.end_to_end.serving import (
    ALONE,
    Serving,
    command,
    serving,
    under_load,
    until,
)
from tests.factories import write_site
from tests.server.premises import an_operator, publish
from tests.shared.papers import an_invitation

pytestmark = pytest.mark.slow

PROMPT_S = 15.0  # within which it ends: a grace of 5 s, on a machine that is busy
CLIENTS = 8
GONE, FORGOTTEN = "guest-gone-4711", "user-00004"
PRIVATE = re.compile(r"user-\d|guest-|(film|book|product)-\d|zebra|Traceback")
HOPELESS = {  # options, and what the one message names
    "no release": (["--release", "/nowhere"], "--release /nowhere is no folder"),
    "beyond": (["--host", "0.0.0.0"], "--host 0.0.0.0 is beyond this machine"),  # noqa: S104  # refused
    "no pair": (["--cert", __file__, "--key", __file__], "are no certificate"),
    "taken": (["--port", "{taken}", "--workers", "2"], "Address already in use"),
    "damaged": (["--workers", "2"], "items.parquet: not a Parquet file"),
    "open keys": (["--workers", "2"], "others may read it: chmod 600"),
    "no site": ([], "is no site: it has no site.toml"),
}


@dataclass
class Struck:
    """What clients know of a server that was killed while they sent events."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    made = an_operator(tmp_path_factory.mktemp("operator") / "operator")
    publish(made, "spring", 3)
    publish(made, "run", 1, plan=the_round()[0])
    return made


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, operator: Operator, cache: Path
) -> Site:
    folder = tmp_path_factory.mktemp("invited") / "site"
    made = write_site(folder, 12, cache=str(cache), users=30, releases=RELEASES)
    key = operator.signing_key()
    text = to_text(an_invitation(operator=public_key(key)), key)
    (folder / "join.toml").write_text(text, "utf-8")
    (folder / "serving.toml").write_text("explore = 0.0\nadapt = false\n", "utf-8")
    return made


@pytest.fixture(scope="module")
def server(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Two workers; the key that the page has."""
    log = tmp_path_factory.mktemp("said") / "log"
    with serving(site.folder, log, "--workers", "2") as made:
        yield made


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Serving]:
    """One process behind TLS, which allows little."""
    folder = tmp_path_factory.mktemp("strict")
    site = write_site(folder / "site", 12, cache=str(cache))
    limits = "requests-per-minute = 40\nlargest-body-kib = 2\n"
    (site.folder / "serving.toml").write_text(limits, "utf-8")
    cert, key = self_signed(folder)
    options = ("--cert", str(cert), "--key", str(key))
    trust = ssl.create_default_context(cafile=str(cert))
    with serving(site.folder, folder / "log", *options, trust=trust) as made:
        yield made


@pytest.fixture(scope="module")
def removed(server: Serving) -> Serving:
    """The server, after two users were forgotten in the two ways there are."""
    liked = server.recommended("")[:3]
    server.told("POST", "/v1/events", [like(f"{GONE}-{i}", GONE, i) for i in liked])
    server.told("PUT", f"/v1/users/{GONE}/about", {"place": "north"})
    server.recommended(GONE)  # which notes down a list
    server.told("DELETE", f"/v1/users/{GONE}")
    folder = str(server.folder)
    assert tacit("site", "forget", FORGOTTEN, folder, "--yes").code == 0
    return server


@pytest.fixture(scope="module")
def struck(removed: Serving) -> Struck:
    """The same server, killed by SIGKILL under a stream of events, started again."""
    known, stop = Struck(), threading.Event()
    item = removed.recommended("")[0]

    def keep_sending(name: str) -> None:
        for turn in count():
            batch = [f"{name}-{turn}-{n}" for n in range(3)]
            known.sent.update(batch)
            events = [like(each, f"guest-{name}", item) for each in batch]
            with suppress(httpx.TransportError):
                answer = removed.ask("POST", "/v1/events", events)
                if answer.is_success:
                    known.acknowledged.update(batch)
            if stop.is_set():
                return

    names = [f"sender-{n}" for n in range(CLIENTS)]
    threads = [threading.Thread(target=keep_sending, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    removed.workers()[0].kill()  # whoever started it starts another
    until(lambda: len(known.acknowledged) > 100)
    until(lambda: len(removed.workers()) == 2)
    removed.each_says("/v1/model")  # or one, not even started, would say so at length
    removed.workers()[0].kill()
    removed.process.kill()  # the other worker finds out by itself
    stop.set()
    for thread in threads:
        thread.join()
    removed.process.wait()
    until(lambda: not removed.running())
    removed.start()
    return known


def like(name: str, user: str, item: str) -> dict[str, object]:
    return {"id": name, "user": user, "kind": "like", "item": item}


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine by nobody else, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    names = [x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "site.key").write_bytes(pem)
    (folder / "site.crt").write_bytes(made.public_bytes(Encoding.PEM))
    return folder / "site.crt", folder / "site.key"


def in_force(server: Serving) -> set[str]:
    """What the workers serve."""
    return {card["release"] for card in server.each_says("/v1/model")}


def test_an_event_changes_the_next_answer_of_the_other_worker(server: Serving) -> None:
    here, there = server.workers()
    with server.asked_by(there):
        before = server.recommended("user-00002")

    with server.asked_by(here):
        kept = server.told("POST", "/v1/events", like("e-1", "user-00002", before[0]))
    with server.asked_by(there):
        after = server.recommended("user-00002")

    assert kept == {"accepted": 1, "repeated": 0}
    assert before[0] not in after
    assert after != before[1:]


def test_releases_change_over_and_back_under_load_and_no_request_fails(
    server: Serving, site: Site, operator: Operator
) -> None:
    with under_load(server, {"user": "user-00001"}, CLIENTS) as came:
        send(site, operator, "spring/1", 1)
        until(lambda: in_force(server) == {"spring/1"})
        send(site, operator, "spring/2", 2)
        until(lambda: in_force(server) == {"spring/2"})
        done = tacit("site", "rollback", "spring/1", str(site.folder))
        until(lambda: in_force(server) == {"spring/1"})

    [load] = came
    assert done.code == 0
    assert load.failed == {}
    served = [json.loads(answer.body)["release"] for answer in load.answers]
    assert set(served) == {FROZEN, "spring/1", "spring/2"}
    assert served[-1] == "spring/1"


def test_the_last_good_release_serves_on_when_a_newer_one_is_damaged(
    server: Serving, site: Site, operator: Operator
) -> None:
    [good] = in_force(server)
    with server.asked_by(None):  # or they would take it up while it is whole
        folder = send(site, operator, "spring/3", 3)
        whole = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])

    with under_load(server, {"user": "user-00001"}, CLIENTS) as came:
        until(lambda: all(map(is_stale, server.each_says("/v1/model"))))
        damaged = in_force(server)
        tacit("site", "rollback", "spring/2", str(site.folder))
        until(lambda: in_force(server) == {"spring/2"})

    assert damaged == {good}
    assert came[0].failed == {}
    served = {json.loads(answer.body)["release"] for answer in came[0].answers}
    assert served <= {good, "spring/2"}
    assert not any(map(is_stale, server.each_says("/v1/model")))


def is_stale(card: dict[str, list[str]]) -> bool:
    return any("serves on, because ModelError" in note for note in card["notes"])


def test_it_serves_on_while_a_round_is_trained_and_takes_up_what_that_came_to(
    server: Serving, site: Site, operator: Operator
) -> None:
    before = server.each_says("/v1/model")
    training = [sys.executable, "-m", "tests.end_to_end.mortal", str(site.folder)]
    root = Path(__file__).parents[2]

    with under_load(server, {"user": "user-00001"}, CLIENTS) as came:
        done = subprocess.run(
            training,
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **ALONE},
            check=True,
        )
        after = server.each_says("/v1/model")
        send(site, operator, "run/1", 4)
        until(lambda: in_force(server) == {"run/1"})

    assert done.stdout == b"warm\n"
    assert after == before
    assert came[0].failed == {}
    for card in server.each_says("/v1/model"):
        assert card["notes"] == []
        assert card["epsilon"] > 0  # of its own ledger: head and prior are there, too


def test_a_key_counts_from_the_next_request_on_and_so_does_its_end(
    server: Serving,
) -> None:
    folder = str(server.folder)
    event = like("e-2", "user-00002", server.recommended("")[0])

    made = tacit("site", "key", "add", folder, "shop", "--role", "read")
    key = made.stdout.split()[0]
    statuses = [
        server.ask(method, path, body, key=key).status_code
        for method, path, body in [
            ("POST", "/v1/recommendations", {"k": 1}),
            ("POST", "/v1/events", event),
            ("DELETE", "/v1/users/nobody", None),
        ]
    ]
    tacit("site", "key", "revoke", folder, "shop")
    for worker in server.workers():
        with server.asked_by(worker):
            statuses.append(server.ask("GET", "/v1/model", key=key).status_code)

    assert statuses == [200, 403, 403, 401, 401]
    assert key not in server.said()


def test_a_removed_user_is_gone_from_answers_and_from_the_very_bytes(
    removed: Serving,
) -> None:
    for user in (GONE, FORGOTTEN):
        for worker in removed.workers():
            with removed.asked_by(worker):
                stranger = removed.recommended("")
                answer = removed.ask("GET", f"/v1/users/{user}/interests")
                event = like(f"{user}-{worker.pid}", user, stranger[0])
                kept = removed.told("POST", "/v1/events", event)
                assert removed.recommended(user) == stranger
                assert (answer.status_code, kept["accepted"]) == (404, 0)
                assert user not in removed.told("GET", "/v1/users?limit=1000")["users"]
        assert naming(removed.folder / FOLDER, user) == []


def naming(folder: Path, user: str) -> list[Path]:
    """Files that hold a user's id in so many bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if user.encode() in path.read_bytes()]


def test_no_acknowledged_event_is_lost_when_servers_are_killed(
    removed: Serving, struck: Struck
) -> None:
    with read_only(removed.folder) as db:
        kept = [row for (row,) in db.execute("SELECT id FROM events")]
    resent = sorted(struck.sent)
    item = removed.recommended("")[0]
    events = [like(each, f"guest-{each.rsplit('-', 2)[0]}", item) for each in resent]
    said = [
        removed.told("POST", "/v1/events", events[begin : begin + 500])
        for begin in range(0, len(events), 500)
    ]
    again = removed.told("POST", "/v1/events", events[:500])

    assert struck.acknowledged <= set(kept)
    assert len(set(kept)) == len(kept)
    before = len(struck.sent & set(kept))
    assert sum(each["repeated"] for each in said) == before
    assert sum(each["accepted"] for each in said) == len(resent) - before
    assert again == {"accepted": 0, "repeated": len(events[:500])}
    assert removed.told("GET", "/v1/users/guest-sender-0/interests")["interests"]


@pytest.mark.usefixtures("struck")
def test_a_removed_user_stays_gone_after_a_restart(removed: Serving) -> None:
    for user in (GONE, FORGOTTEN):
        answer = removed.ask("GET", f"/v1/users/{user}/interests")
        assert answer.status_code == 404
        assert naming(removed.folder / FOLDER, user) == []


def test_tls_is_spoken_and_nothing_else(strict: Serving) -> None:
    with socket.create_connection(("127.0.0.1", strict.port)) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = plain.recv(100)

    assert strict.told("GET", "/v1/model")["release"] == FROZEN
    assert strict.address == f"https://127.0.0.1:{strict.port}"
    assert b"HTTP" not in answer


def test_a_key_may_ask_so_often_and_send_so_much(strict: Serving) -> None:
    made = tacit("site", "key", "add", str(strict.folder), "shop", "--role", "write")
    key = made.stdout.split()[0]
    long = {"id": "e", "user": "u", "kind": "search", "text": "zebra" * 80}

    with strict.client(key) as client:
        large = client.post("/v1/events", json=[long] * 6)
        answers = [client.get("/v1/model") for _ in range(60)]

    assert large.status_code == 413
    statuses = [answer.status_code for answer in answers]
    assert statuses[:39] == [403] * 39  # it may not read, and is counted all the same
    assert 429 in statuses
    [*_, last] = answers
    assert int(last.headers["Retry-After"]) >= 1


def test_a_full_disk_loses_no_event_unsaid_and_recommendations_go_on(
    strict: Serving,
) -> None:
    before = strict.recommended("user-00003")
    event = like("e-full", "user-00003", before[0])
    limits = resource.prlimit(strict.process.pid, resource.RLIMIT_FSIZE)

    room = len(strict.said()) + 2048  # for its log, and for no page of the store
    resource.prlimit(strict.process.pid, resource.RLIMIT_FSIZE, (room, limits[1]))
    refused = strict.ask("POST", "/v1/events", event)
    meanwhile = strict.recommended("user-00003")
    resource.prlimit(strict.process.pid, resource.RLIMIT_FSIZE, limits)
    kept = strict.told("POST", "/v1/events", event)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "nothing of it was kept: make room" in strict.said()
    assert meanwhile == before
    assert kept == {"accepted": 1, "repeated": 0}
    assert before[0] not in strict.recommended("user-00003")


def test_asked_to_end_it_does_so_whoever_is_connected(strict: Serving) -> None:
    address = ("127.0.0.1", strict.port)
    with strict.client() as idle, socket.create_connection(address) as mute:
        idle.get("/livez")
        seconds = strict.end(signal.SIGTERM)
        assert mute.fileno() >= 0

    assert seconds < PROMPT_S
    assert strict.process.returncode == -signal.SIGTERM
    assert not PRIVATE.search(strict.said())


def test_what_cannot_be_served_is_told_in_one_message(
    tmp_path: Path, cache: Path
) -> None:
    begun = {}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for name, (options, _) in HOPELESS.items():
            folder = tmp_path / name.replace(" ", "-")
            site = write_site(folder, 12, cache=str(cache)).folder
            if name == "damaged":
                (site / "data" / "items.parquet").write_bytes(b"no table")
            if name == "open keys":
                tacit("site", "key", "add", str(site), "shop", "--role", "read")
                (site / FOLDER / "keys.toml").chmod(0o644)
            if name == "no site":
                (site / "site.toml").unlink()
            given = [option.format(taken=port) for option in options]
            log = tmp_path / f"{name}.log"
            begun[name] = command(site, *given, log=log), log

        codes = {name: process.wait(120) for name, (process, _) in begun.items()}

    assert codes == dict.fromkeys(HOPELESS, 2)
    for name, (_, log) in begun.items():
        said = log.read_text("utf-8")
        assert said.count("error: ") == 1, said
        assert HOPELESS[name][1] in said
        assert "Traceback" not in said
        assert "#key=" not in said


@pytest.mark.usefixtures("struck")
def test_nothing_that_anybody_did_is_in_what_it_printed(removed: Serving) -> None:
    item = removed.recommended("")[0]
    review = {"id": "e-3", "user": "guest-1", "kind": "review", "item": item}
    for path, body in [
        ("/v1/events", review | {"text": "a zebra too many"}),
        ("/v1/events", review | {"id": "e-4", "text": 17}),
        ("/v1/events", like("e-5", GONE, item)),
        ("/v1/recommendations", {"user": "guest-1", "query": "zebra"}),
        ("/v1/recommendations", {"query": "\u6591\u9a6c zebra"}),
        ("/v1/recommendations", {"filters": {"zebra": {}}}),
    ]:
        assert removed.ask("POST", path, body).status_code < 500
    removed.ask("GET", "/v1/items/zebra/similar")
    removed.ask("GET", "/v1/users/guest-2/interests")
    with socket.create_connection(("127.0.0.1", removed.port)) as odd:
        odd.sendall(b"zebra\r\n\r\n")
        odd.recv(1000)

    seconds = removed.end(signal.SIGINT)

    assert seconds < PROMPT_S
    assert removed.process.returncode == 0
    assert not PRIVATE.search(removed.said()), removed.said()
