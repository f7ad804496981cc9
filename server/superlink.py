"""The server's programs: SuperLink, SuperExec, the proxy and the live page.

The SuperLink listens on loopback alone, for its control API has no authentication; what
partners reach is the proxy, which passes the fleet API and nothing else. Apps run in
processes of their own, started by a SuperExec that proves itself with a secret.
"""

import shutil
import time
from collections.abc import Callable
from threading import Event

from server.flower import register_admitted
from server.operator import Operator
from server.runs import resume_interrupted
from shared.errors import ServerUnreachable, TacitError
from shared.programs import (
    Program,
    beside_python,
    environment,
    keep_running,
)

LOOK_EVERY_S = 5.0  # at sites and interrupted runs


def programs(operator: Operator) -> list[Program]:
    """Return what ``tacit server start`` keeps running.

    The proxy is among them where nginx is installed.
    """
    address = f"127.0.0.1:{operator.settings.port}"
    secret = ("--superexec-auth-secret-file", str(operator.secret.resolve()))
    tls = operator.tls.resolve()
    superlink = (
        beside_python("flower-superlink"),
        *("--ssl-ca-certfile", str(tls / "ca.crt")),
        *("--ssl-certfile", str(tls / "server.crt")),
        *("--ssl-keyfile", str(tls / "server.key")),
        *("--host", "127.0.0.1", "--port", str(operator.settings.port)),
        *("--database", str(operator.state.resolve() / "superlink.db")),
        *("--isolation", "process", "--enable-supernode-auth"),
        "--disable-runtime-dependency-installation",
        *secret,
    )
    superexec = (
        beside_python("flower-superexec"),
        *("--root-certificates", str(tls / "ca.crt")),
        *("--runtime-api-address", address),
        *secret,
    )
    page = (
        *(beside_python("tacit"), "server", "watch"),
        *(str(operator.folder.resolve()), "--page", str(operator.settings.page_port)),
    )
    commands = {"superlink": superlink, "superexec": superexec, "page": page}
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/bin")
    if nginx is not None:
        conf = operator.folder.resolve() / "nginx.conf"
        prefix = str(operator.folder.resolve())
        stay = ("-g", "daemon off;")
        commands["proxy"] = (nginx, "-p", prefix, "-c", str(conf), *stay)
    return [
        Program(
            name=name,
            command=command,
            environment=environment(operator.state / "flwr" / name, TACIT_LOG="INFO"),
            log=operator.state.resolve() / "logs" / f"{name}.log",
        )
        for name, command in commands.items()
    ]


def serve(operator: Operator, stop: Event, say: Callable[[str], None]) -> None:
    """Keep the server running until ``stop`` is set.

    Makes admitted sites known, and goes on with interrupted runs.

    Args:
        operator: Whose server.
        stop: Ends it all.
        say: Hears one line about each thing that happens.
    """
    due, told = 0.0, ""

    def look() -> None:
        nonlocal due, told
        if time.monotonic() < due:
            return
        due = time.monotonic() + LOOK_EVERY_S
        try:
            _look_after(operator, say)
        except ServerUnreachable:  # not yet, or starting again
            pass
        except (TacitError, OSError) as error:  # the latter of a full disk
            if str(error) != told:
                told = str(error)
                say(told)

    def tell(name: str, code: int, pause: float) -> None:
        log = operator.state / "logs" / f"{name}.log"
        say(f"{name} ended with {code}; again in {pause:.0f} s, see {log}")

    keep_running(
        programs(operator), operator.state / "pids.json", stop, tell, each_tick=look
    )


def _look_after(operator: Operator, say: Callable[[str], None]) -> None:
    for name in register_admitted(operator):
        say(f"site {name} may join")
    for run in resume_interrupted(operator):
        say(f"run {run.name} goes on after version {run.version}")
