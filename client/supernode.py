"""A site's programs under ``tacit site join``: the SuperNode and its SuperExec.

The SuperNode is Flower's, behind the site's own approval of every app bundle
(``client/node.py``). Apps run in processes of their own, started by a SuperExec that
proves itself with a secret made here; both talk over loopback alone.
"""

import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event

from client import warm
from client.contact import in_contact
from client.site import Site
from client.standing import State, has_left, is_paused, note, standing
from shared.durable import replace_file
from shared.invitation import Invitation
from shared.programs import Program, beside_python, environment, keep_running
from shared.secret_file import keep_secret

Say = Callable[[str], None]
# With a node that hears nothing: Flower's may have given up, yet not have ended, as
# after a certificate that had expired.
PATIENCE_S = 120.0


def programs(site: Site, invitation: Invitation) -> list[Program]:
    """Return what ``tacit site join`` keeps running.

    Everything that decides privacy is a path of the site's own; nothing is taken from
    the server but its address and its CA, which the site's operator has checked.
    """
    node = site.folder.resolve() / "node"
    address = f"127.0.0.1:{_free_port()}"
    host, port = address.split(":")
    ca, secret = node / "ca.crt", node / "superexec.secret"
    if not ca.exists() or ca.read_text("utf-8") != invitation.ca:
        replace_file(ca, invitation.ca.encode())
    if not secret.exists():
        keep_secret(secret, secrets.token_hex(32).encode())
    prove = ("--superexec-auth-secret-file", str(secret))
    supernode = (
        *(sys.executable, "-m", "client.node"),
        *("--approvals", str(site.folder.resolve() / "approved")),
        *("--superlink", invitation.address, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", str(site.folder.resolve() / "node.key")),
        *("--node-config", f'site="{site.folder.resolve()}"'),
        *("--isolation", "process", "--host", host, "--port", port),
        *prove,
    )
    superexec = (
        beside_python("flower-superexec"),
        *("--insecure", "--runtime-api-address", address),  # loopback, with the secret
        *prove,
    )
    return [
        Program(
            name=name,
            command=command,
            environment=environment(
                node / "flwr", HF_HUB_OFFLINE="1", TACIT_LOG="INFO", **{warm.ASKED: "1"}
            ),
            log=node / "logs" / f"{name}.log",
            renews=renews,
        )
        for name, command, renews in (
            ("supernode", supernode, ()),
            # Its apps end with it, and Flower's node would wait for them for ever.
            ("superexec", superexec, ("supernode",)),
        )
    ]


def stay(site: Site, invitation: Invitation, stop: Event, say: Say) -> None:
    """Keep the site in the federation until ``stop`` is set or the site leaves.

    While the site pauses its programs are down. A SuperNode that cannot connect, or is
    refused because the server still counts its killed predecessor, tries again with
    growing pauses.
    """
    folder = site.folder
    (folder / "node" / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)

    def mark(state: State, detail: str = "", *, restarted: bool = False) -> None:
        with suppress(OSError):  # a full disk must not end the node
            note(folder, state, detail, restarted=restarted)

    def tell(name: str, code: int, pause: float) -> None:
        told = f"{name} ended with {code}; again in {pause:.0f} s"
        mark("connecting", told, restarted=True)
        log = folder / "node" / "logs" / f"{name}.log"
        say(f"{told}; tacit site doctor {folder} may say why, and {log}")

    while not stop.is_set() and not has_left(folder):
        if is_paused(folder):
            mark("paused")
            stop.wait(1)
            continue
        rest, began, heard = Event(), time.time(), time.monotonic()
        mark("connecting", invitation.address)

        def look(rest: Event = rest, began: float = began) -> None:
            nonlocal heard
            online = in_contact(folder, began)
            heard = time.monotonic() if online else heard
            silent = time.monotonic() - heard > PATIENCE_S
            if stop.is_set() or silent or is_paused(folder) or has_left(folder):
                rest.set()
            if online != (standing(folder).state == "online"):
                state: State = "online" if online else "connecting"
                mark(state, invitation.address)
                say(f"{state}: {invitation.address}")

        warm.end(folder)  # of a supervisor that was killed
        try:
            keep_running(
                programs(site, invitation),
                folder / "node" / "pids.json",
                rest,
                tell,
                look,
            )
        finally:
            warm.end(folder)
    mark("stopped")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
