"""Log lines of our own processes: one JSON object each, on standard error.

It refuses the text of every error that is not ours: a library quotes what it was given,
and that may be a user's. Of such an error a line says its class and where it arose.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Any, TextIO

from shared.errors import ConfigError, TacitError

ROOT = "tacit"  # our loggers are tacit.site, tacit.server and so on
ASKED = (
    "TACIT_LOG"  # environment: the least level, e.g. INFO, of a process Flower starts
)

_about: ContextVar[Mapping[str, object]] = ContextVar("about", default={})  # noqa: B039  # never changed


@contextmanager
def about(**fields: object) -> Iterator[dict[str, object]]:
    """Name the site, run and round in every line that is written inside.

    Args:
        fields: ``site``, ``run``, ``round``; all of it is public.

    Yields:
        The fields; what becomes known later is added to them.
    """
    known = {**_about.get(), **fields}
    token = _about.set(known)
    try:
        yield known
    finally:
        _about.reset(token)


def log_to_stderr(site: str = "", level: int | str = logging.INFO) -> None:
    """Write the lines of our loggers, and of whatever ends this process, as JSON.

    Guarantee: no line holds the text of an error that is not ours, whether it was
    logged, ended a thread or the process, or could itself not be logged.

    Args:
        site: Name of the site that this process belongs to, if to one.
        level: The least level that is written.
    """
    handler = _Lines(sys.stderr)
    handler.setFormatter(_Json(site))
    ours = logging.getLogger(ROOT)
    ours.handlers = [handler]
    ours.propagate = False  # a handler of others would write errors with their text
    ours.setLevel(level)
    sys.excepthook = lambda _, error, __: _ended(error)
    threading.excepthook = lambda ended: _ended(ended.exc_value)
    sys.unraisablehook = lambda failed: _ended(failed.exc_value)


def log_as_asked() -> None:
    """Do what ``log_to_stderr`` does if whoever started this process asks for it.

    Raises:
        ConfigError: If ``TACIT_LOG`` names no level.
    """
    level = os.environ.get(ASKED)
    if not level:
        return
    if level not in logging.getLevelNamesMapping():
        raise ConfigError(f"{ASKED}={level!r} is no level; give INFO or WARNING")
    log_to_stderr(level=level)


def speaker(name: str, site: str = "") -> Callable[[str], None]:
    """Return how a supervisor says things: plainly on a terminal, as JSON elsewhere.

    Args:
        name: Of the logger, below ``tacit``.
        site: Name of the site, if it is one's.
    """
    if sys.stderr.isatty():
        return lambda line: print(line, file=sys.stderr)  # noqa: T201  # for a person
    log_to_stderr(site)
    log = logging.getLogger(f"{ROOT}.{name}")
    return lambda line: log.info("%s", line)


def told(error: BaseException) -> str:
    """Return what may be said of an error: the text of ours, the places of others."""
    if isinstance(error, TacitError):
        return f"{type(error).__name__}: {error}"
    return places(error)


def places(error: BaseException) -> str:
    """Return the class of an unforeseen error and where it arose; never its text."""
    frames = extract_tb(error.__traceback__)
    at = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {at}"


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines; one that cannot be written is lost, not told with its arguments."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's
        """Do nothing: logging would print the record's arguments."""


class _Json(logging.Formatter):
    """Turns a record into one line."""

    def __init__(self, site: str) -> None:
        super().__init__()
        self._site = {"site": site} if site else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's fields; of an exception that goes with it, ``error``."""
        line: dict[str, object] = {
            "time": _instant(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": _event(record),
            **self._site,
            **_about.get(),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = told(record.exc_info[1])
        return json.dumps(line, default=str)


def _event(record: logging.LogRecord) -> str:
    """Return the message, with ``told`` in place of each error among its arguments."""
    message, args = _plain(record.msg), record.args
    if isinstance(args, Mapping):
        return str(message) % {key: _plain(value) for key, value in args.items()}
    return str(message) % tuple(map(_plain, args)) if args else str(message)


def _plain(value: Any) -> Any:
    return told(value) if isinstance(value, BaseException) else value


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _ended(error: BaseException | None) -> None:
    """Write one line about an error that nobody caught."""
    if error is not None and not isinstance(error, SystemExit):
        logging.getLogger(ROOT).critical("not caught: %s", error)
