import hashlib
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import forgotten
from client.data import SiteData, UserHistory, load, load_items, save
from shared.catalogue import Catalogue
from shared.errors import ConfigError, DataError

TOML = """\
[interactions]
file = "interactions.csv"
user = "who"
item = "what"
timestamp = "when"
rating = "stars"
positive-rating = 4

[items]
file = "items.csv"
item = "id"
text = ["title", "genres", "maker"]
attributes = ["genres"]
"""
EVENTS = """\
who,what,when,stars
ann,x,30,5
bob,y,10,3
ann,y,20,2.5
ann,z,1970-01-01T00:00:10Z,4
"""
ITEMS = """\
id,title,genres,maker
x,"Heat, the film",Crime|Drama,
y,Casino,,Scorsese
z, Nixon ,Drama,Stone
"""


def write_site(
    folder: Path,
    events: str | bytes = EVENTS,
    items: str | bytes = ITEMS,
    toml: str = TOML,
) -> Path:
    for name, content in (("interactions.csv", events), ("items.csv", items)):
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    (folder / "data.toml").write_text(toml, "utf-8")
    return folder


def told(folder: Path) -> str:
    """What a person reads when ``folder`` cannot be loaded."""
    with pytest.raises(DataError) as caught:
        load(folder)
    return str(caught.value)


def seen(history: UserHistory) -> tuple[str, list[int], list[int], list[bool]]:
    items, times, likes = history.items, history.times, history.likes
    return history.user, items.tolist(), times.tolist(), likes.tolist()


def test_the_items_are_read_in_their_order_and_no_row_of_a_user_is(
    tmp_path: Path,
) -> None:
    folder = write_site(tmp_path, events="no table at all")

    assert load_items(folder) == ("x", "y", "z")
    (folder / "interactions.csv").unlink()
    assert load_items(folder) == ("x", "y", "z")


def test_items_that_load_refuses_have_no_ids_either(tmp_path: Path) -> None:
    folder = write_site(tmp_path, items=ITEMS + ",Untold,Drama,\nx,Again,Drama,\n")

    with pytest.raises(DataError) as caught:
        load_items(folder)

    assert "no item id: 1 (row 5)" in str(caught.value)
    assert "item id was already given: 1 (row 6)" in str(caught.value)


def test_a_site_is_read_as_its_mapping_says(tmp_path: Path) -> None:
    data = load(write_site(tmp_path))

    assert data.catalogue == Catalogue(
        ids=("x", "y", "z"),
        texts=(
            "Heat, the film. Crime, Drama",
            "Casino. Scorsese",
            "Nixon. Drama. Stone",
        ),
        attributes={"genres": (("Crime", "Drama"), (), ("Drama",))},
    )
    assert [seen(history) for history in data.histories] == [
        ("ann", [2, 1, 0], [10, 20, 30], [True, False, True]),
        ("bob", [1], [10], [False]),
    ]
    assert data.histories[0].items.dtype == np.int64
    assert data.histories[0].times.dtype == np.int64
    assert data.histories[0].likes.dtype == np.bool_


def test_without_ratings_every_event_is_a_like(tmp_path: Path) -> None:
    toml = TOML.replace('rating = "stars"\npositive-rating = 4\n', "")

    data = load(write_site(tmp_path, toml=toml))

    assert all(history.likes.all() for history in data.histories)


def test_likes_can_be_named_event_types(tmp_path: Path) -> None:
    toml = TOML.replace(
        'rating = "stars"\npositive-rating = 4\n',
        'event = "kind"\npositive-events = ["buy", "keep"]\n',
    )
    events = "who,what,when,kind\nann,x,1,buy\nann,y,2,view\nann,z,3,keep\n"

    data = load(write_site(tmp_path, events, toml=toml))

    assert data.histories[0].likes.tolist() == [True, False, True]


def test_instants_may_be_written_in_several_ways(tmp_path: Path) -> None:
    instants = (
        "1700000000",
        "1700000001.5",
        "2023-11-14T22:13:22Z",
        "2023-11-14T23:13:23+01:00",
        "2023-11-14 22:13:24",
        "2023-11-15",
    )
    rows = "".join(f"ann,x,{instant},5\n" for instant in instants)

    data = load(write_site(tmp_path, f"who,what,when,stars\n{rows}"))

    start = 1_700_000_000
    midnight = int(datetime(2023, 11, 15, tzinfo=UTC).timestamp())
    expected = [start, start + 1, start + 2, start + 3, start + 4, midnight]
    assert data.histories[0].times.tolist() == expected


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    toml = TOML.replace(".csv", ".tsv")
    (tmp_path / "data.toml").write_text(toml)
    (tmp_path / "interactions.tsv").write_text("who\twhat\twhen\tstars\nann\tx\t1\t5\n")
    (tmp_path / "items.tsv").write_text('id\ttitle\tgenres\tmaker\nx\t3" pipe\t\t\n')

    data = load(tmp_path)

    assert data.catalogue.texts == ('3" pipe',)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(TOML.replace(".csv", ".parquet"))
    when = [datetime(1970, 1, 1, 0, 1), datetime(1970, 1, 1, 0, 0, 30)]  # noqa: DTZ001
    pl.DataFrame(
        {"who": [7, 7], "what": [1, 2], "when": when, "stars": [4.0, 3.5]}
    ).write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame(
        {
            "id": [1, 2],
            "title": ["Heat", "Nixon"],
            "genres": [["Crime", "Drama"], None],
            "maker": [None, "Stone"],
        },
        schema_overrides={"genres": pl.List(pl.String)},
    ).write_parquet(tmp_path / "items.parquet")

    data = load(tmp_path)

    assert data.catalogue.texts == ("Heat. Crime, Drama", "Nixon. Stone")
    assert data.catalogue.attributes == {"genres": (("Crime", "Drama"), ())}
    assert [seen(history) for history in data.histories] == [
        ("7", [1, 0], [30, 60], [False, True])
    ]


BAD_EVENTS: Mapping[str, tuple[str, str]] = {
    "no user id": (",x,1,5\n", "(row 6)"),
    "no item id": ("ann,,1,5\n", "(row 6)"),
    "no timestamp": ("ann,x,,5\n", "(row 6)"),
    "timestamp is neither ISO 8601 nor epoch seconds": (
        "ann,x,yesterday,5\nann,y,nan,5\nann,z,1e40,5\n",
        "3 (row 6, 7, 8)",
    ),
    "no rating": ("ann,x,1,\n", "(row 6)"),
    "rating is not a number": ("ann,x,1,good\nann,x,2,nan\n", "2 (row 6, 7)"),
    "item is not among the items": (
        "".join(f"ann,sock,{second},5\n" for second in range(7)),
        "7 (row 6, 7, 8, 9, 10, ...)",
    ),
    "the same user, item and timestamp again": ("ann,x,30.0,1\n", "1 (row 6)"),
    "more cells than names of columns": ("ann,x,1,5,9\n", "1 (row 6)"),
}
BAD_ITEMS: Mapping[str, tuple[str, str]] = {
    "no item id": (",Alien,,\n", "1 (row 5)"),
    "item id was already given": ("x,Alien,,\n", "1 (row 5)"),
    "item without any text": ("w,, | ,\n", "1 (row 5)"),
}


@pytest.mark.parametrize("problem", BAD_EVENTS)
def test_a_bad_event_is_named_by_its_row(tmp_path: Path, problem: str) -> None:
    rows, where = BAD_EVENTS[problem]

    message = told(write_site(tmp_path, EVENTS + rows))

    assert f"interactions.csv: {problem}: " in message
    assert message.endswith(where)


@pytest.mark.parametrize("problem", BAD_ITEMS)
def test_a_bad_item_is_named_by_its_row(tmp_path: Path, problem: str) -> None:
    rows, where = BAD_ITEMS[problem]

    message = told(write_site(tmp_path, items=ITEMS + rows))

    assert message.endswith(f"items.csv: {problem}: {where}")


def test_every_class_of_problem_is_told_at_once_and_no_value_of_a_user(
    tmp_path: Path,
) -> None:
    lines = [
        rows for problem, (rows, _) in BAD_EVENTS.items() if "cells" not in problem
    ]
    bad_items = "".join(rows for rows, _ in BAD_ITEMS.values())

    message = told(write_site(tmp_path, EVENTS + "".join(lines), ITEMS + bad_items))

    assert all(problem in message for problem in BAD_EVENTS if "cells" not in problem)
    assert all(problem in message for problem in BAD_ITEMS)
    assert "11 problem(s), nothing was loaded" in message
    assert not any(value in message for value in ("ann", "sock", "yesterday", "good"))


def test_an_event_without_a_type_is_refused(tmp_path: Path) -> None:
    toml = TOML.replace(
        'rating = "stars"\npositive-rating = 4\n',
        'event = "stars"\npositive-events = ["5"]\n',
    )

    message = told(write_site(tmp_path, EVENTS + "ann,x,1,\n", toml=toml))

    assert "interactions.csv: no event type: 1 (row 6)" in message


def test_rows_are_counted_past_blank_lines(tmp_path: Path) -> None:
    message = told(write_site(tmp_path, EVENTS + "\n\nann,sock,1,5\n\n"))

    assert "1 (row 8)" in message


def test_missing_columns_of_both_files_are_told_beside_bad_rows(tmp_path: Path) -> None:
    events = "who,what,date,stars\nann,sock,1,\n"

    message = told(write_site(tmp_path, events, "id,title,genres\nx,Heat,\n"))

    assert "interactions.csv: column 'when' is missing" in message
    assert "interactions.csv: item is not among the items" in message
    assert "interactions.csv: no rating: 1 (row 2)" in message
    assert "items.csv: column 'maker' is missing" in message
    assert "date" not in message


@pytest.mark.parametrize("name", ["interactions.csv", "items.csv"])
@pytest.mark.parametrize(
    "content", ["", "\n", "who,what,when,stars,id,title,genres,maker\n"]
)
def test_a_file_without_rows_is_refused(
    tmp_path: Path, name: str, content: str
) -> None:
    (write_site(tmp_path) / name).write_text(content)

    assert f"{name}: holds no rows" in told(tmp_path)


def test_bytes_that_are_not_utf_8_are_told_by_line(tmp_path: Path) -> None:
    latin = "q,Amélie,,\nr,Léon,,\n".encode("latin-1")

    message = told(write_site(tmp_path, items=ITEMS.encode() + latin))

    assert "items.csv: not UTF-8: 2 (row 5, 6)" in message


def test_a_quote_left_open_is_refused(tmp_path: Path) -> None:
    message = told(write_site(tmp_path, items='id,title,genres,maker\nx,"Heat,,\n'))

    assert "items.csv: not a table; is a quote left open?" in message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    (write_site(tmp_path) / "items.csv").unlink()

    assert "items.csv: no such file" in told(tmp_path)


def test_an_unknown_extension_is_told(tmp_path: Path) -> None:
    (tmp_path / "items.xls").write_text(ITEMS)

    message = told(write_site(tmp_path, toml=TOML.replace("items.csv", "items.xls")))

    assert "items.xls: unknown extension; known: .csv, .tsv, .parquet" in message


def test_a_file_that_only_claims_to_be_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_text(ITEMS)

    message = told(
        write_site(tmp_path, toml=TOML.replace("items.csv", "items.parquet"))
    )

    assert "items.parquet: not a Parquet file" in message


def test_a_column_that_holds_no_plain_values_is_told(tmp_path: Path) -> None:
    write_site(tmp_path, toml=TOML.replace("interactions.csv", "events.parquet"))
    pl.DataFrame(
        {"who": [["ann"]], "what": [{"is": "x"}], "when": [1], "stars": [5]}
    ).write_parquet(tmp_path / "events.parquet")

    message = told(tmp_path)

    assert "events.parquet: column 'what' does not hold plain values" in message
    assert "events.parquet: column 'who' does not hold plain values" in message


def test_events_of_the_same_second_are_ordered_by_a_digest_and_not_by_the_file(
    tmp_path: Path,
) -> None:
    rows = [f"ann,{item},9,5\n" for item in "xyz"]
    head = "who,what,when,stars\n"

    forward = load(write_site(tmp_path, head + "".join(rows)))
    backward = load(write_site(tmp_path, head + "".join(reversed(rows))))

    expected = sorted("xyz", key=lambda item: tie_break("ann", item))
    assert [forward.catalogue.ids[i] for i in forward.histories[0].items] == expected
    assert forward == backward


def test_a_folder_without_a_mapping_is_told(tmp_path: Path) -> None:
    assert "data.toml: no such file" in told(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('user = "who"\n', "", "missing key 'user'"),
        ('user = "who"', "user = 3", "user=3 is not str"),
        ('user = "who"', 'usr = "who"', "unknown key 'usr'"),
        ("positive-rating = 4\n", "", "'rating' and 'positive-rating' go together"),
        (
            "positive-rating = 4",
            'positive-events = ["a"]',
            "'event' and 'positive-events'",
        ),
        (
            "positive-rating = 4",
            'event = "stars"',
            "give 'rating' or 'event', not both",
        ),
        ('["title", "genres", "maker"]', "[]", "'text' names no column"),
        ("[items]", "[goods]", "unknown table or key 'goods'"),
        ("[items]", "[[items]]", "'items' is not a table"),
        ("[items]", "[items", "not TOML"),
    ],
)
def test_a_bad_mapping_is_a_config_error(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    write_site(tmp_path, toml=TOML.replace(old, new))

    with pytest.raises(ConfigError, match=fault.replace("[", r"\[")):
        load(tmp_path)


def test_faults_of_both_tables_of_a_mapping_are_told_at_once(tmp_path: Path) -> None:
    write_site(tmp_path, toml=TOML.replace("file", "fiel"))

    with pytest.raises(ConfigError) as caught:
        load(tmp_path)

    assert str(caught.value).count("missing key 'file'") == 2


PEOPLE = """\

[users]
file = "users.csv"
user = "who"
attributes = ["age", "job"]
"""
USERS = "who,age,job,secret\nann, 18-24 ,nurse,x\nbob,,\u0020,y\ncid,56+,,z\n"


def with_people(folder: Path, users: str = USERS, toml: str = PEOPLE) -> Path:
    (folder / "users.csv").write_text(users, "utf-8")
    return write_site(folder, toml=TOML + toml)


def test_what_users_declared_is_read_and_empty_cells_say_nothing(
    tmp_path: Path,
) -> None:
    data = load(with_people(tmp_path))

    assert data.people == {
        "ann": {"age": "18-24", "job": "nurse"},
        "cid": {"age": "56+"},
    }
    assert data.people_of(data.histories) == {"ann": data.people["ann"]}
    assert "ann" not in repr(data)


def test_a_site_without_a_table_of_users_knows_nothing_of_them(tmp_path: Path) -> None:
    assert load(write_site(tmp_path)).people == {}


def test_what_a_forgotten_user_declared_is_not_read(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    forgotten.add(site, "ann")

    data = load(with_people(tmp_path), site)

    assert data.people == {"cid": {"age": "56+"}}


def test_bad_rows_of_users_are_told_beside_bad_events_and_no_value_of_them(
    tmp_path: Path,
) -> None:
    with_people(tmp_path, USERS + ",30,\nann,secretive,\n")
    (tmp_path / "interactions.csv").write_text(EVENTS + "ann,x,,5\n")

    message = told(tmp_path)

    assert "users.csv: no user id: 1 (row 5)" in message
    assert "users.csv: user id was already given: 1 (row 6)" in message
    assert "interactions.csv: no timestamp: 1 (row 6)" in message
    assert "secretive" not in message


def test_a_missing_column_of_users_is_told(tmp_path: Path) -> None:
    with_people(tmp_path, toml=PEOPLE.replace('"job"', '"income"'))

    assert "users.csv: column 'income' is missing" in told(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('file = "users.csv"\n', "", "missing key 'file'"),
        ('["age", "job"]', "[]", "'attributes' names no column"),
        ("[users]", "[[users]]", "'users' is not a table"),
    ],
)
def test_a_bad_mapping_of_users_is_a_config_error(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    with_people(tmp_path, toml=PEOPLE.replace(old, new))

    with pytest.raises(ConfigError, match=fault.replace("[", r"\[")):
        load(tmp_path)


def test_nothing_of_a_user_is_printed(tmp_path: Path) -> None:
    data = load(write_site(tmp_path))

    assert repr(data.histories[0]) == "UserHistory(not shown)"
    assert "UserHistory" not in repr(data)
    assert "ann" not in f"{data} {data.histories}"


def test_a_user_without_events_cannot_be_saved(tmp_path: Path) -> None:
    data = load(write_site(tmp_path))
    nothing = data.histories[0].events(slice(0))

    with pytest.raises(DataError, match="without events"):
        save(tmp_path / "saved", SiteData(data.catalogue, (nothing,)))


words = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1
)


@st.composite
def sites(draw: st.DrawFn) -> SiteData:
    """Any site that a folder can hold: some items, users with some events each."""
    ids = draw(st.lists(words, min_size=1, max_size=5, unique=True))
    texts = [draw(words) for _ in ids]
    genres = [tuple(draw(st.lists(words, max_size=2))) for _ in ids]
    event = st.tuples(st.integers(0, len(ids) - 1), st.integers(-3, 3))
    histories = []
    for user in draw(st.lists(words, min_size=1, max_size=3, unique=True)):
        drawn = draw(st.lists(event, min_size=1, max_size=6, unique=True))
        ordered = sorted(
            (time, tie_break(user, ids[item]), item) for item, time in drawn
        )
        histories.append(
            UserHistory(
                user=user,
                items=np.array([item for _, _, item in ordered]),
                times=np.array([time for time, _, _ in ordered]),
                likes=np.array([draw(st.booleans()) for _ in ordered]),
            )
        )
    catalogue = Catalogue(
        ids=tuple(ids), texts=tuple(texts), attributes={"genres": tuple(genres)}
    )
    about = st.dictionaries(words, words, min_size=1, max_size=2)
    people = draw(st.dictionaries(words, about, max_size=3))
    return SiteData(catalogue, tuple(histories), people)


def tie_break(user: str, item: str) -> str:
    return hashlib.sha256(f"{user}:{item}:2026".encode()).hexdigest()


@settings(max_examples=40, deadline=None)
@given(data=sites())
def test_what_was_saved_is_loaded_again(data: SiteData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), data)

        assert load(Path(folder)) == data
