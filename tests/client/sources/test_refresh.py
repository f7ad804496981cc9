"""From a database to a snapshot: nothing lost, nothing doubled, nothing half."""

import logging
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import SiteData, load
from client.sources import snapshot
from client.sources.refresh import first_read, for_round, refresh
from shared.errors import DataError, TacitError
from tests.client.sources.shop import (
    EVENTS,
    ITEMS,
    PASSWORD,
    QUERY,
    START,
    Event,
    PostgresShop,
    SqliteShop,
)
from tests.client.test_data import seen

FILES = """\
[interactions]
file = "interactions.csv"
user = "who"
item = "what"
timestamp = "at"
rating = "stars"
positive-rating = 4

[items]
file = "items.csv"
item = "id"
text = ["title"]
attributes = ["genre"]
"""


def from_files(folder: Path, *more: Event) -> SiteData:
    """The shop's rows as a folder of files gives them."""
    folder.mkdir()
    events = pl.DataFrame(
        [*EVENTS, *more], ["who", "what", "at", "stars"], orient="row"
    )
    events.sort("at", "who", "what").write_csv(folder / "interactions.csv")
    items = pl.DataFrame(ITEMS, ["id", "title", "genre"], orient="row")
    items.write_csv(folder / "items.csv")
    (folder / "data.toml").write_text(FILES)
    return load(folder)


def told(folder: Path) -> str:
    """What a person reads when the source cannot be read."""
    with pytest.raises(TacitError) as caught:
        refresh(folder)
    return str(caught.value)


def files(folder: Path) -> dict[str, bytes]:
    """Everything that is kept, save the lock."""
    inside = folder / "snapshots"
    return {
        str(path.relative_to(inside)): path.read_bytes()
        for path in inside.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_postgresql_gives_what_files_of_the_same_rows_give(
    pg_shop: PostgresShop, tmp_path: Path
) -> None:
    refresh(pg_shop.folder)

    assert load(pg_shop.folder) == from_files(tmp_path / "files")


@pytest.mark.parametrize("at", ["INTEGER", "TEXT"])
def test_sqlite_gives_what_files_of_the_same_rows_give(
    shop: SqliteShop, tmp_path: Path, at: str
) -> None:
    if at == "TEXT":
        shop.run("UPDATE events SET at = datetime(at, 'unixepoch') || 'Z'")

    refresh(shop.folder)

    assert load(shop.folder) == from_files(tmp_path / "files")


def test_only_new_events_are_read_the_next_time(pg_shop: PostgresShop) -> None:
    refresh(pg_shop.folder)
    pg_shop.add(("cy", "x", START + 40, 5))

    refreshed = refresh(pg_shop.folder)

    assert (refreshed.whole, refreshed.rows, refreshed.changed) == (False, 2, True)
    assert [len(history) for history in load(pg_shop.folder).histories] == [3, 1, 1]


def test_where_nothing_is_new_the_snapshot_stays_as_it_is(shop: SqliteShop) -> None:
    first = refresh(shop.folder)
    before = files(shop.folder)

    second = refresh(shop.folder)

    assert not second.changed
    assert second.state.number == first.state.number
    before.pop("state.json")
    assert before.items() <= files(shop.folder).items()


offsets = st.integers(0, 12)
arrivals = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), offsets)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=8, deadline=None)
@given(arrivals=arrivals)
def test_reading_on_gives_what_reading_everything_gives(
    arrivals: list[list[tuple[str, str, int]]],
) -> None:
    """Ties, and events that come late by no more than the overlap of 5 s."""
    with tempfile.TemporaryDirectory() as folder:
        shop = SqliteShop.open(Path(folder) / "data")
        known, newest = {(who, what, at) for who, what, at, _ in EVENTS}, START + 30
        for batch in arrivals:
            refresh(shop.folder)
            rows = {(who, what, newest - 5 + late) for who, what, late in batch} - known
            shop.add(*((*row, 4) for row in sorted(rows)))
            known |= rows
            newest = max([newest, *(at for _, _, at in rows)])
        refresh(shop.folder)
        read_on = load(shop.folder)
        refresh(shop.folder, full=True)

        assert read_on == load(shop.folder)
        assert sum(map(len, read_on.histories)) == len(known)


def test_events_at_the_very_place_are_neither_lost_nor_doubled(
    pg_shop: PostgresShop,
) -> None:
    pg_shop.toml(query=QUERY.replace(" at,", " date_trunc('minute', at) AS at,"))
    refresh(pg_shop.folder)
    pg_shop.add(("bob", "x", START + 29, 1), ("cy", "x", START + 30, 5))
    before = sum(map(len, load(pg_shop.folder).histories))

    refresh(pg_shop.folder)

    after = load(pg_shop.folder)
    assert (before, sum(map(len, after.histories))) == (4, 6)


def test_what_goes_within_the_overlap_is_noticed_and_below_it_only_in_full(
    shop: SqliteShop,
) -> None:
    refresh(shop.folder)
    shop.run("DELETE FROM events WHERE at IN (1700000030, 1700000020)")
    shop.add(("cy", "x", START + 12, 5))

    refresh(shop.folder)
    on = [seen(history)[0::2] for history in load(shop.folder).histories]
    refresh(shop.folder, full=True)
    full = [seen(history)[0::2] for history in load(shop.folder).histories]

    assert on == [("ann", [START + 10, START + 20]), ("bob", [START + 10])]
    assert full == [
        ("ann", [START + 10]),
        ("bob", [START + 10]),
        ("cy", [START + 12]),
    ]


@pytest.mark.parametrize("at", ["INTEGER", "TEXT"])
def test_an_event_from_the_future_hides_none_that_comes_later(
    shop: SqliteShop, at: str
) -> None:
    now = datetime.fromtimestamp(START + 60, UTC)
    shop.add(("cy", "x", START + 10**7, 5))
    text = "UPDATE events SET at = datetime(at, 'unixepoch') WHERE typeof(at) > 'j'"
    if at == "TEXT":
        SqliteShop.open(shop.folder, (*EVENTS, ("cy", "x", START + 10**7, 5)), at=at)
        text = (
            "UPDATE events SET at = datetime(at, 'unixepoch') WHERE at NOT LIKE '%-%'"
        )
        shop.run(text)
    refresh(shop.folder, now=now)
    shop.add(("dan", "y", START + 61, 5))
    shop.run(text)

    refresh(shop.folder, now=now + timedelta(seconds=10))

    users = {history.user for history in load(shop.folder).histories}
    assert users == {"ann", "bob", "cy", "dan"}


def test_known_items_keep_their_places_whatever_the_query_gives_now(
    shop: SqliteShop,
) -> None:
    refresh(shop.folder)
    shop.run("DELETE FROM products")
    shop.add_items(("new", "Alien", ""), ("z", "Nixon 2", ""), ("x", "Heat", ""))

    refresh(shop.folder)
    catalogue = load(shop.folder).catalogue
    shop.run("DELETE FROM events WHERE what = 'y'")
    refresh(shop.folder, full=True)

    assert catalogue.ids == ("x", "y", "z", "new")
    assert catalogue.texts == ("Heat", "Casino", "Nixon 2", "Alien")
    assert load(shop.folder).catalogue.ids == ("x", "z", "new")


def test_without_a_cursor_everything_is_read_each_time(shop: SqliteShop) -> None:
    path = shop.folder / "data.toml"
    path.write_text(path.read_text().replace('cursor = "at"\n', ""))
    refresh(shop.folder)
    shop.run("DELETE FROM events WHERE who = 'bob'")

    refreshed = refresh(shop.folder)

    assert (refreshed.whole, refreshed.rows) == (True, 3)
    assert [history.user for history in load(shop.folder).histories] == ["ann"]


def test_another_query_is_read_from_the_start(shop: SqliteShop) -> None:
    refresh(shop.folder)
    shop.toml(query=f"{QUERY} WHERE who <> 'bob'")

    refreshed = refresh(shop.folder)

    assert refreshed.whole
    assert [history.user for history in load(shop.folder).histories] == ["ann"]


def test_bad_rows_are_told_as_for_files_and_the_last_good_snapshot_stays(
    shop: SqliteShop,
) -> None:
    good = refresh(shop.folder)
    before, kept = load(shop.folder), files(shop.folder)
    shop.add(("", "x", START + 41, 5), ("ann", "sock", START + 42, 5))
    shop.run("INSERT INTO events VALUES ('ann', 'x', 1700000043, 'good')")

    message = told(shop.folder)

    assert message.startswith(f"{shop.folder}: 3 problem(s), nothing was loaded")
    assert "interactions.parquet: no user id: 1 (row 5)" in message
    assert "interactions.parquet: item is not among the items: 1 (row 6)" in message
    assert "interactions.parquet: rating is not a number: 1 (row 7)" in message
    assert message.endswith(f"the snapshot read {good.state.read} stays in use")
    assert not any(value in message for value in ("ann", "sock", "good\n"))
    assert load(shop.folder) == before
    assert files(shop.folder) == kept
    shop.run("DELETE FROM events WHERE at > 1700000040")
    assert not refresh(shop.folder).changed


def test_before_the_first_good_snapshot_there_is_nothing_to_use(
    shop: SqliteShop,
) -> None:
    shop.add(("", "x", START, 5))

    message = told(shop.folder)

    assert "no user id" in message
    assert "stays in use" not in message
    with pytest.raises(DataError, match="never read: tacit site data check"):
        load(shop.folder)


def test_a_connection_that_is_lost_half_way_leaves_the_last_good_snapshot(
    pg_shop: PostgresShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(pg_shop.folder)
    before = load(pg_shop.folder)
    pg_shop.cluster.run(
        "INSERT INTO events SELECT 'u' || n, 'x', to_timestamp(1700000100 + n), 5 "
        "FROM generate_series(1, 5000) AS n"
    )
    cut = "pg_terminate_backend(CASE WHEN who = 'u4000' THEN pg_backend_pid() END)"
    monkeypatch.setattr("client.sources.database.BATCH", 1000)
    pg_shop.toml(query=f"SELECT * FROM events WHERE {cut} IS NULL")  # noqa: S608

    message = told(pg_shop.folder)

    assert "query 'interactions' failed (AdminShutdown, SQLSTATE 57P01;" in message
    assert message.endswith("stays in use")
    assert load(pg_shop.folder) == before


def test_what_a_database_says_while_it_reads_rows_is_not_repeated(
    pg_shop: PostgresShop,
) -> None:
    pg_shop.add(("secret-user", "x", START, 5))
    pg_shop.toml(query=QUERY.replace("who,", "who::int::text AS who,"))

    message = told(pg_shop.folder)

    assert message == (
        "query 'interactions' failed (InvalidTextRepresentation, SQLSTATE 22P02; its "
        "words may quote a user: run the query by hand to read them)"
    )


def test_dates_that_no_calendar_here_knows_end_the_reading(
    pg_shop: PostgresShop,
) -> None:
    pg_shop.cluster.run("INSERT INTO events VALUES ('ann', 'x', 'infinity', 5)")

    assert "query 'interactions' failed (DataError;" in told(pg_shop.folder)


def test_a_column_that_went_is_told_and_the_last_good_snapshot_stays(
    pg_shop: PostgresShop,
) -> None:
    pg_shop.toml(query="SELECT * FROM events")
    refresh(pg_shop.folder)
    before = load(pg_shop.folder)
    pg_shop.cluster.run("ALTER TABLE events RENAME COLUMN stars TO rating")

    message = told(pg_shop.folder)

    assert "query 'interactions': column 'stars' is missing" in message
    assert "stays in use" in message
    assert load(pg_shop.folder) == before


def test_a_cursor_of_another_type_than_before_is_told(pg_shop: PostgresShop) -> None:
    pg_shop.toml(query="SELECT * FROM events")
    refresh(pg_shop.folder)
    pg_shop.cluster.run("ALTER TABLE events ALTER at TYPE timestamp")

    message = told(pg_shop.folder)

    assert "column 'at' holds instant and local; a cursor is a column of" in message


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        (QUERY.replace(" at,", " stars AS at,"), "'at' holds Decimal; a cursor"),
        (QUERY.replace(" at,", " at::text AS at,"), "'at' holds text; a cursor"),
        (
            QUERY.replace("who,", "'x'::bytea AS who,"),
            "'who' does not hold plain values",
        ),
        (QUERY.replace("stars", "NULL::int AS stars"), "no rating: 4 (row 1, 2, 3, 4)"),
        ("SELECT * FROM events WHERE false", "interactions.parquet: holds no rows"),
    ],
)
def test_columns_that_cannot_be_used_are_named(
    pg_shop: PostgresShop, query: str, fault: str
) -> None:
    pg_shop.toml(query=query)

    assert fault in told(pg_shop.folder)


def test_an_event_without_a_cursor_is_refused(shop: SqliteShop) -> None:
    path = shop.folder / "data.toml"
    shop.toml(query="SELECT *, nullif(at, 1700000010) AS n FROM events")
    path.write_text(path.read_text().replace('cursor = "at"', 'cursor = "n"'))

    assert "column 'n' has no value in 2 event(s)" in told(shop.folder)


@pytest.mark.parametrize("odd", ["2023-11-14T22:13:40", "2023-11-14 22:13:40Z"])
def test_text_that_does_not_sort_by_time_is_no_cursor(
    shop: SqliteShop, odd: str
) -> None:
    SqliteShop.open(shop.folder, [("ann", "x", "2023-11-14 22:13:20", 5)], at="TEXT")
    refresh(shop.folder)
    shop.add(("bob", "x", odd, 5))

    assert "'at' holds text that is not ISO 8601 of one form" in told(shop.folder)


def test_a_round_reads_once_and_the_next_one_again(shop: SqliteShop) -> None:
    first_read(shop.folder)
    shop.add(("cy", "x", START + 40, 5))
    for_round(shop.folder, "run/1")
    adopted = len(load(shop.folder).histories)
    for_round(shop.folder, "run/1")
    again = len(load(shop.folder).histories)

    for_round(shop.folder, "run/2")

    assert (adopted, again, len(load(shop.folder).histories)) == (2, 2, 3)


def test_a_round_goes_on_with_the_last_good_snapshot_and_says_so(
    shop: SqliteShop, caplog: pytest.LogCaptureFixture
) -> None:
    for_round(shop.folder, "run/1")
    shop.file.unlink()

    for_round(shop.folder, "run/2")

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "round run/2 goes on with what was read before: the database"
    )
    assert "stays in use" in line
    assert len(load(shop.folder).histories) == 2


def test_a_round_without_any_snapshot_fails(shop: SqliteShop) -> None:
    shop.file.unlink()

    with pytest.raises(DataError, match="cannot be reached"):
        for_round(shop.folder, "run/1")


def test_files_are_left_alone(tmp_path: Path) -> None:
    from_files(tmp_path / "files")

    for_round(tmp_path / "files", "run/1")
    first_read(tmp_path / "files")

    assert not (tmp_path / "files" / "snapshots").exists()
    with pytest.raises(DataError, match="names no database"):
        refresh(tmp_path / "files")


def test_neither_password_nor_rows_are_logged_kept_or_told(
    pg_shop: PostgresShop,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    pg_shop.add(("secret-user", "x", START, 5))
    refreshed = refresh(pg_shop.folder)
    pg_shop.toml(query="SELECT * FROM nowhere")
    refused = told(pg_shop.folder)
    wrong = "a-wrong-password"
    monkeypatch.setenv("SHOP_PASSWORD", wrong)
    denied = told(pg_shop.folder)

    shown = f"{refreshed!r} {refused} {denied} {caplog.text}"
    assert "query 'interactions' is refused (UndefinedTable" in refused
    assert 'relation "nowhere" does not exist' in refused
    assert "password authentication failed" in denied
    assert not any(secret in shown for secret in (PASSWORD, wrong, "secret-user"))
    kept = files(pg_shop.folder)
    assert not any(PASSWORD.encode() in content for content in kept.values())


def test_a_process_that_dies_before_the_end_leaves_the_last_good_snapshot(
    shop: SqliteShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(shop.folder)
    before = load(shop.folder)
    shop.add(("cy", "x", START + 40, 5))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "use", dies)
        with pytest.raises(KeyboardInterrupt):
            refresh(shop.folder)
    left = load(shop.folder)
    refresh(shop.folder)

    assert left == before
    assert len(load(shop.folder).histories) == 3
    assert {path.parts[0] for path in map(Path, files(shop.folder))} == {
        "state.json",
        "000002",
    }


def test_a_snapshot_is_its_owners_alone_even_if_it_was_put_back_open(
    shop: SqliteShop,
) -> None:
    inside = shop.folder / "snapshots"
    refresh(shop.folder)
    fresh = inside.stat().st_mode
    inside.chmod(0o755)
    refresh(shop.folder)

    assert (fresh & 0o777, inside.stat().st_mode & 0o777) == (0o700, 0o700)


@pytest.mark.parametrize("broken", ["state.json", "000001/items.parquet"])
def test_a_snapshot_that_cannot_be_read_is_told_with_the_remedy(
    shop: SqliteShop, broken: str
) -> None:
    refresh(shop.folder)
    (shop.folder / "snapshots" / broken).write_text("?")

    assert "delete the folder snapshots to read the source anew" in told(shop.folder)
