"""What is acknowledged stays, what is removed is gone, and nothing else is kept."""

import asyncio
import json
import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import forgotten
from client.serving import removal, schema, store, writer
from client.serving.added_items import NewItem
from client.serving.events import Kind
from client.serving.feedback.log import newest_event, opened
from client.serving.removal import remove_rows
from client.serving.schema import connected, file_of, make_file, read_only
from client.serving.store import Store
from client.serving.writer import Writer
from shared.errors import ConfigError, DataError, StoreFailed
from tests.client.serving.doings import event, names, run, shown


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as opened:
        yield opened


def test_an_event_that_was_acknowledged_is_there_for_everybody(
    kept: Store, tmp_path: Path
) -> None:
    said = event("e1", kind="review", rating=4.5, sentiment=0.3)

    assert run(kept.add_events([said])) == 1

    assert kept.events_of("ann") == ([said], 1)
    assert names(tmp_path) == ["e1"]
    with closing(Store(tmp_path)) as again:
        assert again.events_of("ann") == ([said], 1)


@pytest.mark.parametrize("kind", ["review", "search"])
def test_no_word_that_a_user_wrote_is_ever_on_the_disk(
    kept: Store, tmp_path: Path, kind: Kind
) -> None:
    said = event("e1", kind=kind, text="of-the-secret")

    run(kept.add_events([said]))

    assert kept.events_of("ann")[0] == [replace(said, text="")]
    for path in (tmp_path / schema.FOLDER).iterdir():
        assert b"of-the-secret" not in path.read_bytes()


def test_a_commit_is_synced_and_what_is_deleted_overwritten(tmp_path: Path) -> None:
    with closing(connected(make_file(tmp_path), "rw")) as db:
        asked = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]

    assert asked == ["wal", 2, 1]


places = st.integers(0, 3)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 6), places),
            max_size=6,
        ),
        max_size=5,
    )
)
def test_an_id_counts_once_for_a_user_and_the_first_event_that_has_it_stays(
    batches: list[list[tuple[str, int, int]]],
) -> None:
    first: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as site, closing(Store(Path(site))) as kept:
        for batch in batches:
            before = len(first)
            events = [event(f"e{n}", user, item=f"i{i}") for user, n, i in batch]
            for one in events:
                first.setdefault((one.user, one.id), one.item)

            new = run(kept.add_events(events))

            assert new == len(first) - before
        found = [one for user in ("ann", "bob") for one in kept.events_of(user)[0]]
        assert {(one.user, one.id): one.item for one in found} == first
        assert len(found) == len(first)


def test_what_waits_is_committed_together_and_a_refused_write_falls_alone(
    tmp_path: Path,
) -> None:
    path, go = make_file(tmp_path), threading.Event()
    seen: list[int] = []

    def add(n: int, db: sqlite3.Connection) -> int:
        with read_only(tmp_path) as others:
            seen.append(others.execute("SELECT count(*) FROM people").fetchone()[0])
        db.execute(
            "INSERT INTO people (user, attribute, value) VALUES ('u', ?, '')", (n,)
        )
        if n == 13:
            raise DataError("no")
        return n

    with closing(Writer(path)) as pen:
        pen.begin(lambda _: go.wait())
        waiting = [pen.begin(partial(add, n)) for n in range(30)]
        go.set()
        outcomes = [one.exception() or one.result() for one in waiting]

    assert len(set(seen)) == 1  # nothing was committed between them
    assert isinstance(outcomes.pop(13), DataError)
    assert outcomes == [n for n in range(30) if n != 13]
    with read_only(tmp_path) as db:
        assert db.execute("SELECT count(*) FROM people").fetchone() == (29,)


def test_what_nobody_waits_for_is_held_back_until_somebody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSE_S", 60.0)
    with closing(Writer(make_file(tmp_path))) as pen:
        idle = pen.begin(lambda _: "idle", soon=False)
        with pytest.raises(TimeoutError):
            idle.result(timeout=0.05)

        soon = pen.begin(lambda _: "soon")

        assert soon.result(timeout=5) == "soon"
        assert idle.result(timeout=5) == "idle"


@pytest.mark.parametrize(
    "fault", [{"item": "\ud800"}, {"time": 2**63}, {"rating": "five"}]
)
def test_an_event_that_does_not_fit_is_refused_with_its_batch_and_nothing_else(
    kept: Store, fault: dict[str, object]
) -> None:
    bad = event("bad", **fault)  # type: ignore[arg-type]

    async def both() -> tuple[object, object]:
        return await asyncio.gather(
            kept.add_events([event("e1"), bad]),
            kept.add_events([event("e2")]),
            return_exceptions=True,
        )

    refused, new = run(both())

    assert isinstance(refused, DataError)
    assert new == 1
    assert [one.id for one in kept.events_of("ann")[0]] == ["e2"]


def test_a_full_disk_acknowledges_nothing_and_reading_goes_on(
    kept: Store, tmp_path: Path
) -> None:
    run(kept.add_events([event("e1")]))
    full = "PRAGMA max_page_count = 1"  # SQLite then says what it says of a full disk
    kept._writer.begin(lambda db: db.execute(full)).result()
    large = [event(f"large-{n}", "bob-177", item="x" * 9000) for n in range(20)]

    with pytest.raises(
        StoreFailed, match="full; nothing of it was kept: make room"
    ) as e:
        run(kept.add_events(large))

    assert "bob-177" not in str(e.value)
    assert kept.events_of("ann")[0] == [event("e1")]
    assert names(tmp_path) == ["e1"]
    assert run(kept.add_events(large)) == 20  # there is room again


class Failing(sqlite3.Connection):
    """A connection to a disk that cannot sync."""

    def execute(self, query: str, values: Any = (), /) -> sqlite3.Cursor:
        if query == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(query, values)


def test_a_sync_that_fails_acknowledges_nothing_to_anybody_in_the_group(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path)

    def failing(*_: object) -> sqlite3.Connection:
        return sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Failing
        )

    async def three() -> Sequence[object]:
        adding = [kept.add_events([event(f"e{n}")]) for n in range(3)]
        return await asyncio.gather(*adding, return_exceptions=True)

    with monkeypatch.context() as broken:
        broken.setattr(writer, "connected", failing)
        outcomes = run(three())

    assert [type(outcome) for outcome in outcomes] == [StoreFailed] * 3
    assert names(tmp_path) == []
    assert run(three()) == [1, 1, 1]


def test_lists_are_kept_soon_and_reports_read_them_beside_the_server(
    kept: Store, tmp_path: Path
) -> None:
    kept.log_shown(shown("l1", "ann", "item-1", "item-2"))
    kept.log_shown(shown("l2", ""))
    run(kept.add_events([event("e1")]))  # takes along what waits

    with read_only(tmp_path) as db:
        rows = db.execute("SELECT * FROM shown ORDER BY n").fetchall()

    assert [row[1] for row in rows] == ["l1", "l2"]
    assert rows[0][2:8] == (100, "ann", "spring/3", "few", 0.6, 0.05)
    assert json.loads(rows[0][8]) == ["alpha 0", "alpha +0.2"]
    assert json.loads(rows[0][9]) == [
        ["item-1", "a", True, 0.5],
        ["item-2", "a", True, 0.5],
    ]


def test_closing_keeps_the_lists_that_wait_and_then_takes_nothing(
    tmp_path: Path,
) -> None:
    kept = Store(tmp_path)
    kept.log_shown(shown("l1"))
    kept.close()

    with read_only(tmp_path) as db:
        assert db.execute("SELECT id FROM shown").fetchall() == [("l1",)]
    with pytest.raises(StoreFailed, match="closed"):
        run(kept.add_events([event("e1")]))
    kept.close()


def test_lists_that_are_lost_are_counted_and_told_without_saying_whose(
    kept: Store,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "MOST_LISTS", 3)
    go = threading.Event()
    kept._writer.begin(lambda _: go.wait())
    full = "PRAGMA max_page_count = 1"
    kept._writer.begin(lambda db: db.execute(full))
    with caplog.at_level(logging.WARNING, "tacit.site"):
        for n in range(5):
            kept.log_shown(shown(f"l{n}", "bob-177", *["item-9"] * 500))
        go.set()
        kept.close()

    assert kept.lost == 5
    assert "3 shown lists are missing from reports" in caplog.text
    assert "177" not in caplog.text


def test_of_a_forgotten_user_nothing_is_kept_and_nobody_is_told(
    kept: Store, tmp_path: Path
) -> None:
    forgotten.add(tmp_path, "ann-177")

    assert run(kept.add_events([event("e1", "bob"), event("e2", "ann-177")])) == 1
    assert run(kept.add_events([event("e3", "ann-177")])) == 0
    run(kept.edit("ann-177", {"topic:x": "muted"}, 100))
    run(kept.declare("ann-177", {"age": "25-34"}))
    run(kept.set_sentiments({("ann-177", "e2"): 0.5}))
    kept.log_shown(shown("l1", "ann-177"))
    kept.log_shown(shown("l2", "bob"))
    kept.close()

    assert names(tmp_path) == ["e1"]
    assert kept.lost == 0
    for path in (tmp_path / schema.FOLDER).iterdir():
        assert b"177" not in path.read_bytes()
    with read_only(tmp_path) as db:
        assert db.execute("SELECT id FROM shown").fetchall() == [("l2",)]


def test_nothing_is_kept_where_nobody_knows_who_was_forgotten(
    kept: Store, tmp_path: Path
) -> None:
    forgotten.add(tmp_path, "ann")
    (tmp_path / forgotten.KEY).unlink()

    with pytest.raises(ConfigError, match="nobody knows who must be ignored"):
        run(kept.add_events([event("e1", "bob")]))
    with pytest.raises(ConfigError, match="nobody knows who must be ignored"):
        Store(tmp_path)


def test_edits_and_what_is_declared_replace_what_was_said_before(kept: Store) -> None:
    async def say() -> None:
        await kept.edit("ann", {"topic:a": "pinned", "topic:b": "muted"}, 100)
        await kept.edit("ann", {"topic:a": "forgotten", "topic:b": "none"}, 200)
        await kept.edit("bob", {"topic:a": "muted"}, 300)
        await kept.declare("ann", {"age": "25-34", "place": "Ulm"})
        await kept.declare("ann", {"age": "35-44"})

    run(say())

    assert kept.edits("ann") == {"topic:a": ("forgotten", 200)}
    assert kept.edits("bob") == {"topic:a": ("muted", 300)}
    assert kept.about("ann") == {"age": "35-44"}
    assert kept.about("bob") == {}
    assert kept.users("", 10) == ["ann", "bob"]
    assert kept.users("ann", 10) == ["bob"]
    assert (kept.has("ann"), kept.has("cy")) == (True, False)


def test_a_reader_goes_on_from_where_it_was(kept: Store) -> None:
    run(kept.add_events([event("e1"), event("e2")]))
    first, cursor = kept.events_of("ann")

    run(kept.add_events([event("e1"), event("e3")]))

    assert [one.id for one in first] == ["e1", "e2"]
    later, cursor = kept.events_of("ann", cursor)
    assert [one.id for one in later] == ["e3"]
    assert kept.events_of("ann", cursor) == ([], cursor)


def test_a_review_is_kept_first_and_comes_again_once_it_is_scored(
    kept: Store, tmp_path: Path
) -> None:
    review = event("e1", kind="review")
    rated = event("e2", kind="review", rating=2.0)
    run(kept.add_events([review, rated, event("e3"), event("e1", "bob", "review")]))
    _, cursor = kept.events_of("ann")
    said = {("ann", "e1"): -0.5, ("ann", "e2"): -0.9, ("ann", "e3"): -1.0}

    run(kept.set_sentiments({**said, ("bob", "e1"): 0.0, ("cy", "e1"): 1.0}))

    scored, cursor = kept.events_of("ann", cursor)
    assert scored == [replace(review, sentiment=-0.5)]
    assert [(one.id, one.sentiment) for one in kept.events_of("ann")[0]] == [
        *(("e2", -0.9), ("e3", 0.0), ("e1", -0.5))
    ]
    assert [one.sentiment for one in kept.events_of("bob")[0]] == [0.0]
    with opened(tmp_path) as db:
        assert newest_event(db) == cursor

    run(kept.set_sentiments({("ann", "e1"): 0.5}))  # sent again: the first word stays
    assert kept.events_of("ann", cursor) == ([], cursor)


def test_lists_older_than_asked_are_deleted_little_by_little_and_others_stay(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PRUNED", 3)
    for n in range(10):
        kept.log_shown(replace(shown(f"l{n}"), time=100 + n))
    run(kept.add_events([event("e1", time=1)]))

    assert run(kept.prune(107)) == 7

    with read_only(tmp_path) as db:
        left = db.execute("SELECT id FROM shown ORDER BY n").fetchall()
    assert left == [("l7",), ("l8",), ("l9",)]
    assert names(tmp_path) == ["e1"]
    assert run(kept.prune(107)) == 0


def test_who_was_only_shown_lists_is_known_and_anonymous_visitors_are_nobody(
    kept: Store, tmp_path: Path
) -> None:
    for number, user in enumerate(["ann", "", "bob", "ann"]):
        kept.log_shown(shown(f"l{number}", user))
    run(kept.add_events([event("e1", "bob")]))

    assert kept.users("", 10) == ["ann", "bob"]
    assert (kept.has("ann"), kept.has("")) == (True, False)
    assert remove_rows(tmp_path, "ann")
    assert kept.users("", 10) == ["bob"]


def test_items_come_as_they_were_put_last_and_a_change_comes_again(
    kept: Store,
) -> None:
    one = NewItem(id="n1", text="Heat", attributes={"genres": ("crime", "drama")})
    two = NewItem(id="n2", text="Casino", attributes={})
    run(kept.put_items([one, two], 100))
    items, cursor = kept.items_since(0)
    better = NewItem(id="n1", text="Heat (1995)", attributes={"genres": ("crime",)})

    run(kept.put_items([better], 200))

    assert items == [one, two]
    assert kept.items_since(cursor)[0] == [better]
    assert kept.items_since(0)[0] == [two, better]


def test_the_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept = Store(tmp_path)
        run(kept.add_events([event("e1")]))
        found = {path.name: path for path in (tmp_path / schema.FOLDER).iterdir()}
        modes = {path.stat().st_mode & 0o777 for path in found.values()}
        kept.close()
    finally:
        os.umask(before)

    assert {"serving.sqlite", "serving.sqlite-wal"} <= found.keys()
    assert modes == {0o600}
    assert (tmp_path / schema.FOLDER).stat().st_mode & 0o777 == 0o700


def test_a_file_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with closing(connected(path, "rw")) as db:
        db.execute("PRAGMA user_version = 7")

    with pytest.raises(StoreFailed, match="of version 7"):
        Store(tmp_path)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    make_file(tmp_path).write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreFailed, match="restore the file from its backup"):
        Store(tmp_path)


def test_a_site_that_never_served_has_nothing_to_read_or_remove(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="served nobody yet"), read_only(tmp_path):
        pass
    assert not remove_rows(tmp_path, "ann")
    assert not file_of(tmp_path).exists()


async def live(kept: Store, rng: np.random.Generator, user: str) -> None:
    """Fill a store so that pages split, with one user among many."""
    others = [f"u{rng.integers(10 ** rng.integers(1, 12))}" for _ in range(30)]

    def anyone() -> str:
        return str(rng.choice([*others, user]))

    for batch in range(40):
        who = [anyone() for _ in range(rng.integers(1, 40))]
        lengths = rng.choice([0, 1, 5, 30, 200], len(who))
        reviews = [
            event(f"{rng.random()}-{one}", one, "review", one * int(length))
            for one, length in zip(who, lengths, strict=True)
        ]
        await kept.add_events(reviews)
        await kept.set_sentiments({(one.user, one.id): 0.5 for one in reviews[::2]})
        await kept.edit(anyone(), {f"topic:{batch}": "muted"}, 100)
        one = anyone()
        await kept.declare(one, {"k" * batch: one * int(rng.integers(40))})
        kept.log_shown(shown(f"{batch}-{one}", one, *[one] * int(rng.integers(40))))


@pytest.mark.parametrize("seed", range(6))
def test_after_removal_no_byte_of_the_files_tells_of_the_user_and_others_stay(
    tmp_path: Path, seed: int
) -> None:
    user = "ann-of-the-secret"
    with closing(Store(tmp_path)) as kept:
        run(live(kept, np.random.default_rng(seed), user))
        others = {one: kept.events_of(one) for one in kept.users("", 1000)}
        del others[user]
        assert any(
            user.encode() in path.read_bytes()
            for path in (tmp_path / schema.FOLDER).iterdir()
        )

        assert remove_rows(tmp_path, user)

        for path in (tmp_path / schema.FOLDER).iterdir():
            assert user.encode() not in path.read_bytes(), path.name
        assert {one: kept.events_of(one) for one in kept.users("", 1000)} == others
        assert not remove_rows(tmp_path, user)
        assert run(kept.add_events([event("after", "bob")])) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_while_a_user_is_removed_no_row_is_in_a_file_outside_the_site(
    tmp_path: Path, kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [event(f"e{n}", f"u{n}", item="x" * 2000) for n in range(3000)]
    run(kept.add_events([*large, event("e1", "ann")]))
    opened: set[str] = set()

    def look() -> int:
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                opened.add(str(link.readlink()))
        return 0

    def watched(path: Path, mode: str) -> sqlite3.Connection:
        db = connected(path, mode)
        db.set_progress_handler(look, 1000)
        return db

    monkeypatch.setattr(removal, "connected", watched)
    assert remove_rows(tmp_path, "ann")

    assert str(file_of(tmp_path)) in opened
    assert not [name for name in opened if "etilqs" in name]  # as SQLite calls its own


def test_who_reads_for_very_long_is_told_to_end_before_a_removal_is_done(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(kept.add_events([event("e1")]))
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    with read_only(tmp_path) as db:
        db.execute("SELECT * FROM events").fetchall()

        with pytest.raises(StoreFailed, match="reads it for very long"):
            remove_rows(tmp_path, "ann")

    remove_rows(tmp_path, "ann")
    assert kept.events_of("ann") == ([], 0)
