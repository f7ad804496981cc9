"""The same apps under Flower's simulation runtime, which spreads sites over Ray actors.

``flwr run`` leaves a SuperLink behind and exits 0 even if the run failed, so the truth
is read from ``flwr list``, and what still runs is ended here.
"""

import json
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import tomli_w

from shared.bundle import source_files
from shared.config import Scalar
from shared.errors import ConfigError, RoundError
from shared.programs import beside_python, environment

_LOG_LINES = 30


def build_app(
    folder: Path,
    run_config: Mapping[str, Scalar],
    packages: Sequence[Path] | None = None,
) -> Path:
    """Write an app folder that ``flwr run`` takes, and return it.

    Args:
        folder: Must not exist yet.
        run_config: What differs from the defaults in ``shared/bundle.toml``.
        packages: As in ``shared.bundle.source_files``.

    Raises:
        ConfigError: If a key of ``run_config`` is unknown.
    """
    files = source_files(packages)
    project = tomllib.loads(files["pyproject.toml"].decode())
    config = project["tool"]["flwr"]["app"]["config"]
    known = {f"{group}.{key}" for group, keys in config.items() for key in keys}
    unknown = sorted(run_config.keys() - known)
    if unknown:
        raise ConfigError(f"unknown run-config keys: {', '.join(unknown)}")
    for name, value in run_config.items():
        group, _, key = name.partition(".")
        config[group][key] = value
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project), "utf-8")
    return folder


def run_by_flower(
    app_folder: Path, *, nodes: int, sites_folder: Path, flwr_home: Path, port: int
) -> None:
    """Run the app on ``nodes`` virtual nodes and wait until it has finished.

    Args:
        app_folder: Made by ``build_app``.
        nodes: One for each site; node i finds partition-id i in its node config.
        sites_folder: Where the client app finds the files of its site; it reads the
            path from ``TACIT_SITES``.
        flwr_home: Flower's own state and logs; one for each run at a time.
        port: A free port for the SuperLink.

    Raises:
        RoundError: If the run did not complete, with the last lines of its log.
    """
    options = f"num-supernodes={nodes} client-resources-num-cpus=1"
    flwr_home.mkdir(parents=True, exist_ok=True)
    call = [
        "run",
        str(app_folder.resolve()),
        "--stream",
        "--federation-config",
        options,
    ]
    variables = _environment(sites_folder, flwr_home, port)
    with all_ended(flwr_home, port):
        log = _flwr(call, variables)
        status = _status(_flwr(["list", "--format", "json"], variables))
    if status != "finished:completed":
        last = "\n".join(log.splitlines()[-_LOG_LINES:])
        raise RoundError(f"Flower's run ended as {status!r}; its last lines:\n{last}")


def _environment(sites_folder: Path, flwr_home: Path, port: int) -> dict[str, str]:
    """Return an environment in which Flower finds its programs and calls no one."""
    return environment(
        flwr_home,
        FLWR_LOCAL_SUPERLINK_HTTP_API_PORT=str(port),
        TACIT_SITES=str(sites_folder.resolve()),
    )


def _flwr(arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return what Flower's command prints; its exit code says nothing."""
    program = beside_python("flwr")
    done = subprocess.run(  # noqa: S603 - our own program and arguments
        [program, *arguments],
        env=dict(variables),
        cwd=variables["FLWR_HOME"],  # Ray's workers import from here before the app
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def _status(listing: str) -> str:
    """Return the status of the newest run in what ``flwr list`` printed."""
    try:
        runs: list[dict[str, str]] = json.loads(listing)["runs"]
        return runs[0]["status"]
    except (ValueError, LookupError, TypeError):
        return "unknown"


@contextmanager
def all_ended(flwr_home: Path, port: int) -> Iterator[None]:
    """End all that was started for ``flwr_home`` inside the block: Flower's and Ray's.

    They are known by their environment: an actor whose raylet went before it is
    nobody's child any more.

    Raises:
        ConfigError: If something listens on ``port`` already.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ConfigError(f"port {port} is taken; choose a free one")
    try:
        yield
    finally:
        for end in (psutil.Process.terminate, psutil.Process.kill):
            family = [p for p in psutil.process_iter() if _belongs(p, flwr_home)]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    end(process)
            psutil.wait_procs(family, timeout=5)


def _belongs(process: psutil.Process, flwr_home: Path) -> bool:
    try:
        home: str | None = process.environ().get("FLWR_HOME")
    except psutil.Error:  # gone, or another user's
        return False
    return home == str(flwr_home.resolve())
