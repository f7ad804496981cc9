"""A real PostgreSQL for tests: a cluster in a temporary folder, on a socket in it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

OWNER_PASSWORD = "owner-pw-71c"  # noqa: S105  # of a cluster that lives for one test run
SETTINGS = ("fsync=off", "listen_addresses=", "timezone=Europe/Berlin")


@dataclass(frozen=True)
class Cluster:
    """A running server; its database ``postgres`` belongs to ``owner``."""

    socket: Path

    def url(self, user: str = "owner") -> str:
        return f"postgresql://{user}@/postgres?host={self.socket}"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the owner; return the rows of the last."""
        with self._connected() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows as the owner."""
        marks = ", ".join(["%s"] * len(rows[0]))
        into = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608
        with self._connected() as connection, connection.cursor() as cursor:
            cursor.executemany(into.encode(), rows)

    def _connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(
            host=str(self.socket),
            user="owner",
            password=OWNER_PASSWORD,
            dbname="postgres",
            autocommit=True,
        )


def binaries() -> Path | None:
    """The folder of ``initdb``, which Debian keeps out of the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@contextmanager
def running(where: Path) -> Iterator[Cluster]:
    """Start a cluster as an unprivileged user, and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tacit-pg-"))
    as_whom: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_whom = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    (folder / "password").write_text(OWNER_PASSWORD)
    (folder / "password").chmod(0o644)
    options = [f"--pgdata={folder / 'data'}", "--username=owner", "--encoding=UTF8"]
    options += [f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--no-sync"]
    quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, **as_whom}
    subprocess.run([where / "initdb", *options], check=True, **quiet)
    given = [part for setting in SETTINGS for part in ("-c", setting)]
    server = subprocess.Popen(
        [where / "postgres", "-D", folder / "data", "-k", folder, *given],
        stderr=subprocess.DEVNULL,
        **quiet,
    )
    try:
        cluster = Cluster(folder)
        _wait(cluster)
        yield cluster
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(folder)


def _wait(cluster: Cluster) -> None:
    for _ in range(200):
        try:
            cluster.run("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("PostgreSQL did not start in 10 s")
