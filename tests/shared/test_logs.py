"""Our log lines: JSON with site, run and round, and never a user."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import client.workbench
from client.app import reply
from client.data import load
from shared.errors import ConfigError, DataError
from shared.logs import ASKED, ROOT, about, log_as_asked, log_to_stderr, told
from shared.wire import pack_plan
from tests.factories import tiny_plan, write_site, zeros
from tests.syntax import ROOT as SOURCE

log = logging.getLogger("tacit.site")
Lines = Callable[[], list[dict[str, Any]]]
hostile = st.text(st.characters(exclude_categories=["Cs"]), min_size=4).map(
    lambda text: f"\u2021{text}"  # a character that no line of ours has
)


@pytest.fixture
def written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Lines]:
    """What ``log_to_stderr`` writes from here on, line by line."""
    ours = logging.getLogger(ROOT)
    before = ours.handlers, ours.propagate, ours.level
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.split("\n")[:-1]]

    yield lines
    ours.handlers, ours.propagate = before[0], before[1]
    ours.setLevel(before[2])


def test_a_line_says_when_how_grave_who_and_what(written: Lines) -> None:
    log_to_stderr("north")

    log.warning("%d of %s", 3, "four")

    (line,) = written()
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "WARNING",
        "logger": "tacit.site",
        "event": "3 of four",
        "site": "north",
    }


def test_lines_inside_a_round_name_it_and_lines_after_it_do_not(
    written: Lines,
) -> None:
    log_to_stderr()

    with about(site="north") as known:
        log.info("a")
        known |= {"run": "spring", "round": 3}
        log.info("b")
        with about(round=4):
            log.info("c")
    log.info("d")

    rounds = [
        (line["event"], line.get("site"), line.get("run"), line.get("round"))
        for line in written()
    ]
    assert rounds == [
        ("a", "north", None, None),
        ("b", "north", "spring", 3),
        ("c", "north", "spring", 4),
        ("d", None, None, None),
    ]


def test_two_threads_do_not_name_each_others_rounds(written: Lines) -> None:
    log_to_stderr()
    other = threading.Thread(target=log.info, args=("other",))

    with about(round=1):
        other.start()
        other.join()

    assert "round" not in written()[0]


def test_lines_are_written_once_and_only_by_us_however_often_it_is_asked_for(
    written: Lines,
) -> None:
    careless = io.StringIO()
    handler = logging.StreamHandler(careless)
    logging.getLogger().addHandler(handler)
    try:
        for _ in range(3):
            log_to_stderr("north")
        log.warning("once")
    finally:
        logging.getLogger().removeHandler(handler)

    assert len(written()) == 1
    assert careless.getvalue() == ""


def test_whoever_starts_the_process_says_whether_and_what_is_written(
    written: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = list(logging.getLogger(ROOT).handlers)
    monkeypatch.delenv(ASKED, raising=False)
    log_as_asked()
    assert logging.getLogger(ROOT).handlers == handlers

    monkeypatch.setenv(ASKED, "WARNING")
    log_as_asked()
    log.info("quiet")
    log.warning("loud")

    assert [line["event"] for line in written()] == ["loud"]
    monkeypatch.setenv(ASKED, "chatty")
    with pytest.raises(ConfigError, match="'chatty' is no level"):
        log_as_asked()


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_of_our_errors_the_text_is_told_and_of_others_the_place() -> None:
    assert told(ConfigError("x is 3")) == "ConfigError: x is 3"
    assert told(raised(KeyError("ann"))).startswith("KeyError at test_logs.py:")


UNFORESEEN = [ValueError, KeyError, OSError, RuntimeError, MemoryError]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile, kind=st.sampled_from(UNFORESEEN), way=st.integers(0, 6))
def test_no_line_holds_the_text_of_an_error_that_is_not_ours(
    written: Lines, text: str, kind: type[Exception], way: int
) -> None:
    log_to_stderr("north")
    error = raised(kind(text))
    ways: list[Callable[[], object]] = [
        lambda: log.warning("%s", error),
        lambda: log.warning("a %(b)s", {"b": error}),
        lambda: log.warning(error),
        lambda: log.warning("it", exc_info=error),
        lambda: log.warning("%d of %s", "odd", text),  # its author erred
        lambda: sys.excepthook(kind, error, None),
        lambda: end_a_thread(kind, text),
    ]

    ways[way]()

    lines = written()
    assert text not in "\n".join(map(str, lines))
    assert "\u2021" not in "\n".join(map(str, lines))
    assert way == 4 or any(kind.__name__ in str(line) for line in lines)


def end_a_thread(kind: type[Exception], text: str) -> None:
    def fail() -> None:
        raise kind(text)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def failing(text: str) -> Callable[..., Any]:
    """A careless library that quotes a row, while the site's data are read."""

    def fail(*_: Any, **__: Any) -> Any:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ValueError(f"row {text}") from error

    return fail


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(user=hostile)
def test_whatever_a_site_meets_in_its_data_no_line_holds_it(
    written: Lines, tmp_path_factory: pytest.TempPathFactory, user: str
) -> None:
    """The real entry of a site, with data that fail in a library or in our checks."""
    log_to_stderr(level="DEBUG")
    plan = tiny_plan(run="spring", number=3)
    for name in ("library", "check"):
        folder = tmp_path_factory.mktemp(name)
        site = write_site(folder, 20)
        with pytest.MonkeyPatch.context() as patch:
            if name == "library":
                patch.setattr(client.workbench, "load", failing(user))
            else:
                rows = "user,item,time,like\n" + json.dumps(user) + ",nothing,x,y\n"
                (site.data / "interactions.csv").write_text(rows, "utf-8")
                toml = (site.data / "data.toml").read_text("utf-8")
                (site.data / "data.toml").write_text(
                    toml.replace("interactions.parquet", "interactions.csv"), "utf-8"
                )
            reply(pack_plan(plan, zeros(plan)), folder)

        asked, refused = written()
        assert asked["event"] == "asked"
        for line in (asked, refused):
            where = (line["site"], line["run"], line["round"])
            assert where == ("site-1", "spring", 3)
            assert user not in str(line)
            assert "\u2021" not in str(line)
        reason = {"library": "InternalError: ValueError at ", "check": "DataError: "}
        assert refused["event"].startswith(reason[name])


def test_a_round_that_is_answered_is_two_lines_without_a_user(
    written: Lines, tmp_path: Path
) -> None:
    site, plan = write_site(tmp_path, 20), tiny_plan()
    log_to_stderr()

    reply(pack_plan(plan, zeros(plan)), tmp_path)

    lines = written()
    assert [line["event"] for line in lines] == ["asked", "answered"]
    users = [history.user for history in load(site.data).histories]
    assert users
    assert not [user for user in users if f'"{user}"' in json.dumps(lines)]


def test_an_error_that_ends_the_process_is_one_line_of_json() -> None:
    code = (
        "from shared.logs import log_to_stderr\n"
        "log_to_stderr('north')\n"
        "raise ValueError('ann-177')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=SOURCE,
        check=False,
    )

    line = json.loads(done.stderr)
    assert done.returncode == 1
    assert "177" not in done.stderr
    assert line["level"] == "CRITICAL"
    assert line["event"].startswith("not caught: ValueError at <string>:3")
    assert line["site"] == "north"


def test_our_own_error_keeps_its_text_where_another_one_caused_it(
    written: Lines,
) -> None:
    log_to_stderr()
    try:
        try:
            raise ValueError("ann-177")
        except ValueError as error:
            raise DataError("interactions.csv: no rating: 1 (row 2)") from error
    except DataError:
        log.exception("refused")

    (line,) = written()
    assert line["error"] == "DataError: interactions.csv: no rating: 1 (row 2)"
    assert "177" not in str(line)
