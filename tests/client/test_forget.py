"""Forgetting a user: nothing that reads data finds them, everybody else stays."""

import ast
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
import typer
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import client.workbench
from client import forgotten
from client.commands.standing import forget as forget_command
from client.data import SiteData, load
from client.examples import make_examples
from client.forget import forget
from client.forgotten import forgotten_at
from client.round import answer
from client.serving.store import Store
from client.site import Site
from client.sources import snapshot
from client.sources.check import check
from client.sources.refresh import first_read, for_round, refresh
from client.workbench import workbench
from shared.errors import ConfigError, DataError
from tests.client.serving.doings import event, names, run
from tests.client.sources.shop import START, SqliteShop, write_toml
from tests.client.test_data import seen
from tests.factories import tiny_plan, tiny_spec, write_site, zeros
from tests.syntax import sources

FILES = """\
[interactions]
file = "{file}"
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
KINDS = ("csv", "parquet", "sqlite")
ids = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
).filter(lambda user: user.strip() != "")


def events(users: list[str]) -> pl.DataFrame:
    """Three events a user, mixed with those of the others."""
    rows = [
        (user, what, START + 10 * turn + place, 3 + (turn + place) % 3)
        for turn, what in enumerate("xyz")
        for place, user in enumerate(users)
    ]
    return pl.DataFrame(rows, ["who", "what", "at", "stars"], orient="row")


def items(count: int) -> pl.DataFrame:
    found = [("x", "Heat", "Crime"), ("y", "Casino", ""), ("z", "Nixon", "Drama")]
    return pl.DataFrame(found[:count], ["id", "title", "genre"], orient="row")


def site_of(folder: Path, kind: str, rows: pl.DataFrame) -> Site:
    """A site whose rows lie in a file or a database of that kind, and were read."""
    site = write_site(folder)
    if kind == "sqlite":
        shop = SqliteShop.open(site.data, [])
        shop.add(*rows.rows())
        refresh(site.data, site.folder)
        return site
    site.data.mkdir()
    name = f"events.{kind}"
    if kind == "csv":
        rows.write_csv(site.data / name)
    else:
        rows.write_parquet(site.data / name)
    items(3).write_csv(site.data / "items.csv")
    (site.data / "data.toml").write_text(FILES.format(file=name), "utf-8")
    return site


def kept_users(folder: Path) -> set[str]:
    """Everyone in any snapshot that is on the disk."""
    found = (folder / "snapshots").glob(f"*/{snapshot.EVENTS}")
    return {user for path in found for user in pl.read_parquet(path)["who"]}


def without(data: SiteData, user: str) -> list[object]:
    return [seen(history) for history in data.histories if history.user != user]


@settings(max_examples=8, deadline=None)
@given(
    users=st.lists(ids, min_size=2, max_size=5, unique=True),
    kind=st.sampled_from(KINDS),
    which=st.integers(0, 4),
)
def test_after_forgetting_no_way_of_reading_finds_the_user_and_others_are_as_they_were(
    users: list[str], kind: str, which: int
) -> None:
    user = users[which % len(users)]
    with tempfile.TemporaryDirectory() as folder:
        site = site_of(Path(folder) / "site", kind, events(users))
        before = load(site.data, site.folder)

        held = forget(site, user).held

        ways: list[Callable[[], object]] = [lambda: None]
        if kind == "sqlite":
            ways += [
                lambda: refresh(site.data, site.folder),
                lambda: refresh(site.data, site.folder, full=True),
                lambda: for_round(site.data, "run/1", site.folder),
                lambda: check(site.data, site.folder, full=True),
                lambda: snapshot.clear(site.data),
            ]
        for way in ways:
            way()
            first_read(site.data, site.folder)
            after = load(site.data, site.folder)
            assert [seen(history) for history in after.histories] == without(
                before, user
            )
            assert after.catalogue == before.catalogue
            assert kept_users(site.data) <= set(users) - {user}
        assert held
        assert user in [history.user for history in before.histories]
        assert check(site.data, site.folder).users == len(users) - 1


def test_the_examples_of_others_are_the_same_as_before(tmp_path: Path) -> None:
    site = site_of(tmp_path, "parquet", events(["ann", "bob", "cy"]))
    ann, _, cy = make_examples(load(site.data, site.folder).histories)

    forget(site, "bob")

    after = make_examples(load(site.data, site.folder).histories)
    assert [(one.stream, one.likes.tolist()) for one in after] == [
        (one.stream, one.likes.tolist()) for one in (ann, cy)
    ]


def test_new_events_of_a_forgotten_user_stay_out_and_those_of_others_come_in(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path / "site", "sqlite", events(["ann", "bob"]))
    forget(site, "ann")
    SqliteShop(site.data).add(("ann", "x", START + 90, 5), ("bob", "x", START + 91, 5))

    refresh(site.data, site.folder)

    (bob,) = load(site.data, site.folder).histories
    assert (bob.user, len(bob)) == ("bob", 4)
    assert kept_users(site.data) == {"bob"}


def test_one_snapshot_is_left_and_its_place_tells_nothing_of_the_user(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path / "site", "sqlite", events(["ann", "bob"]))
    SqliteShop(site.data).add(("ann", "x", START + 500, 5))
    refresh(site.data, site.folder)
    died = snapshot.tables(site.data, 99)  # a process was killed while it wrote this
    died.mkdir()
    events(["ann"]).write_parquet(died / snapshot.EVENTS)

    forget(site, "ann")

    state = snapshot.current(site.data)
    assert state is not None
    assert state.position is not None
    assert state.position.place == START + 21
    folders = [path for path in (site.data / "snapshots").iterdir() if path.is_dir()]
    assert folders == [snapshot.tables(site.data, state.number)]
    assert kept_users(site.data) == {"bob"}


def test_snapshots_of_a_database_that_is_read_no_more_are_deleted(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path / "site", "sqlite", events(["ann", "bob"]))
    events(["ann", "bob"]).write_csv(site.data / "events.csv")
    items(3).write_csv(site.data / "items.csv")
    (site.data / "data.toml").write_text(FILES.format(file="events.csv"), "utf-8")

    forget(site, "ann")

    assert kept_users(site.data) == set()
    assert [h.user for h in load(site.data, site.folder).histories] == ["bob"]


def test_a_snapshot_that_cannot_be_searched_is_told_and_the_user_is_out_all_the_same(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path / "site", "sqlite", events(["ann", "bob"]))
    write_toml(
        site.data,
        "sqlite:///../shop.db",
        query="SELECT who, what, at, stars FROM events WHERE 1",
    )

    with pytest.raises(DataError, match=r"(?s)data\.toml was changed.*on the list"):
        forget(site, "ann")

    assert [h.user for h in load(site.data, site.folder).histories] == ["bob"]
    refresh(site.data, site.folder)
    assert kept_users(site.data) == {"bob"}


def test_bad_rows_of_a_forgotten_user_are_ignored_too(tmp_path: Path) -> None:
    rows = events(["ann", "bob"])
    site = site_of(
        tmp_path, "csv", rows.vstack(rows[:1].with_columns(what=pl.lit("sock")))
    )
    with pytest.raises(DataError):
        load(site.data, site.folder)

    forget(site, "ann")

    assert [h.user for h in load(site.data, site.folder).histories] == ["bob"]


def test_rows_that_name_no_user_are_still_told(tmp_path: Path) -> None:
    rows = events(["ann", "bob"])
    nobodys = rows[:1].with_columns(who=pl.lit(None, pl.String))
    site = site_of(tmp_path, "csv", rows.vstack(nobodys))

    forget(site, "ann")

    with pytest.raises(DataError, match=r"no user id: 1 \(row 8\)"):
        load(site.data, site.folder)


@pytest.mark.parametrize("kind", KINDS)
def test_where_everybody_is_forgotten_nobody_is_trained_on(
    tmp_path: Path, kind: str
) -> None:
    site = site_of(tmp_path / "site", kind, events(["ann"]))

    forget(site, "ann")

    with pytest.raises(DataError, match="holds no rows"):
        load(site.data, site.folder)
    with pytest.raises(DataError, match="holds no rows"):
        check(site.data, site.folder)
    assert kept_users(site.data) == set()


def test_a_user_of_whom_nothing_is_there_is_kept_out_for_later(tmp_path: Path) -> None:
    site = site_of(tmp_path, "csv", events(["bob"]))

    assert not forget(site, "ann").held

    events(["ann", "bob"]).write_csv(site.data / "events.csv")
    assert [h.user for h in load(site.data, site.folder).histories] == ["bob"]


@pytest.mark.parametrize("kind", ["csv", "sqlite"])
def test_what_came_live_is_gone_from_the_serving_store_and_others_stay(
    tmp_path: Path, kind: str
) -> None:
    site = site_of(tmp_path / "site", kind, events(["bob", "cy"]))
    with closing(Store(site.folder)) as store:
        run(store.add_events([event("e1", "ann-177"), event("e2", "bob")]))

        assert forget(site, "ann-177").held

        assert names(site.folder) == ["e2"]
        for path in (site.folder / "serving").iterdir():
            assert b"177" not in path.read_bytes()


def test_a_user_is_gone_from_the_store_where_the_data_cannot_be_looked_at(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path, "csv", events(["bob"]))
    (site.data / "data.toml").unlink()
    with closing(Store(site.folder)) as store:
        run(store.add_events([event("e1", "ann")]))

        with pytest.raises(DataError, match="on the list"):
            forget(site, "ann")

        assert names(site.folder) == []


def test_the_list_holds_no_id_and_is_its_owners_alone(tmp_path: Path) -> None:
    one = site_of(tmp_path / "one", "csv", events(["ann-177", "bob"]))
    two = site_of(tmp_path / "two", "csv", events(["ann-177", "bob"]))
    for site in (one, one, two):
        forget(site, "ann-177")

    for site in (one, two):
        for path in site.folder.iterdir():
            assert path.is_dir() or b"ann-177" not in path.read_bytes()
        for name in (forgotten.LIST, forgotten.KEY):
            assert (site.folder / name).stat().st_mode & 0o777 == 0o600
        assert len((site.folder / forgotten.LIST).read_text().split()) == 2
    lists = [forgotten_at(site.folder).hashes for site in (one, two)]
    assert lists[0] != lists[1]  # the same id, another key


def cut(path: Path) -> None:
    """Take the last user off the list."""
    path.write_text("\n".join(path.read_text().split()[:-1]))


def add_a_line(path: Path) -> None:
    path.write_text(path.read_text() + "0" * 64)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "list lost": (forgotten.LIST, Path.unlink),
    "key lost": (forgotten.KEY, Path.unlink),
    "list cut": (forgotten.LIST, cut),
    "list longer": (forgotten.LIST, add_a_line),
    "list empty": (forgotten.LIST, lambda path: path.write_text("")),
    "other key": (forgotten.KEY, lambda path: path.write_text("ab" * 32)),
    "key torn": (forgotten.KEY, lambda path: path.write_text("abc")),
    "key open": (forgotten.KEY, lambda path: path.chmod(0o644)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_nothing_is_read_where_nobody_knows_who_was_forgotten(
    tmp_path: Path, damage: str
) -> None:
    site = site_of(tmp_path / "site", "sqlite", events(["ann", "bob"]))
    forget(site, "ann")
    name, do = DAMAGE[damage]
    do(site.folder / name)

    readers: list[Callable[[], object]] = [
        lambda: load(site.data, site.folder),
        lambda: refresh(site.data, site.folder, full=True),
        lambda: check(site.data, site.folder),
        lambda: workbench(site, tiny_spec()),
        lambda: forget(site, "bob"),
    ]
    for reader in readers:
        with pytest.raises(ConfigError, match=r"forgotten"):
            reader()
    assert kept_users(site.data) == {"bob"}


@pytest.mark.parametrize("user", ["", "  ", "\udcff"])
def test_an_id_that_can_be_nobodys_is_refused(tmp_path: Path, user: str) -> None:
    site = site_of(tmp_path, "csv", events(["ann"]))

    with pytest.raises(ConfigError, match="empty or not UTF-8"):
        forget(site, user)

    assert not (tmp_path / forgotten.LIST).exists()


def test_a_running_process_is_without_the_user_in_its_next_round(
    tmp_path: Path,
) -> None:
    site = write_site(tmp_path, 20)
    first = workbench(site, tiny_spec())
    assert workbench(site, tiny_spec()) is first
    user = first.data.histories[7].user

    forget(site, user)

    second = workbench(site, tiny_spec())
    assert user not in [history.user for history in second.data.histories]
    assert len(second.examples) == len(first.examples) - 1
    held = client.workbench._held(
        *(site.data, site.cache, tiny_spec(), "tiny"),
        *(site.settings.device, site.settings.precision),
    )
    assert held.bench is second  # and what was loaded before is held by nobody


def asked(*arguments: str, given: str = "") -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(forget_command)
    return CliRunner().invoke(app, list(arguments), input=given)


def test_the_command_says_what_was_done_and_never_repeats_the_id(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path, "csv", events(["ann-177", "bob"]))

    done = asked("ann-177", str(tmp_path), "--yes")

    text = " ".join(done.output.split())
    assert done.exit_code == 0
    assert "177" not in done.output
    assert "Rows of the user were there" in text
    assert "events.csv is yours and was not changed" in text
    assert "the ledger holds no charge" in text
    assert "ann-177" in (site.data / "events.csv").read_text()


def test_the_command_asks_first_and_that_is_the_one_place_where_the_id_stands(
    tmp_path: Path,
) -> None:
    site_of(tmp_path, "csv", events(["ann-177", "bob"]))

    refused = asked("ann-177", str(tmp_path), given="n\n")
    agreed = asked("ann-177", str(tmp_path), given="y\n")

    assert refused.exit_code == 1
    assert agreed.exit_code == 0
    assert agreed.output.count("177") == 1
    assert forgotten_at(tmp_path).hashes


def test_an_id_may_be_given_without_standing_in_the_shells_history(
    tmp_path: Path,
) -> None:
    site_of(tmp_path, "csv", events(["ann-177", "bob"]))

    asked("-", str(tmp_path), "--yes", given="ann-177\n")

    assert "ann-177" in forgotten_at(tmp_path)


def test_an_id_in_the_folders_place_is_not_repeated_either(tmp_path: Path) -> None:
    done = asked(str(tmp_path), "ann-177", "--yes")

    assert isinstance(done.exception, ConfigError)
    assert "177" not in f"{done.exception}{done.output}"


def test_what_was_learned_before_is_said_with_the_ledgers_epsilon(
    tmp_path: Path,
) -> None:
    site = write_site(tmp_path, 20)
    plan = tiny_plan()
    answer(site, plan, zeros(plan))
    spent = site.open_ledger().epsilon()

    done = asked("anybody", str(tmp_path), "--yes")

    assert f"{spent:.4f}" in done.output
    assert done.output.startswith("NO ROW OF THE USER WAS THERE")
    assert site.policy.users == 20


READERS = {
    **dict.fromkeys(["client.data.load", "client.sources.check.check"], 1),
    **{f"client.sources.refresh.{name}": 1 for name in ("refresh", "first_read")},
    "client.sources.refresh.for_round": 2,
}  # which argument is the site's folder


def nameless_readings(tree: ast.Module) -> list[str]:
    """Calls that read a site's data without saying whose they are."""
    named = {
        alias.asname or alias.name: READERS[f"{node.module}.{alias.name}"]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in READERS
    }
    return [
        f"{call.lineno}"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in named
        and len(call.args) <= named[call.func.id]
        and not any(keyword.arg == "site" for keyword in call.keywords)
    ]


@pytest.mark.slow
def test_every_reading_at_a_site_says_whose_data_they_are() -> None:
    """Without the site's folder a reader knows of nobody who was forgotten."""
    found = [
        f"{source.path}:{line}"
        for source in sources()
        if source.path.startswith("client/")
        for line in nameless_readings(source.tree)
    ]

    assert found == []


def test_a_reading_that_does_not_say_whose_data_they_are_would_be_found() -> None:
    begin = "from client.sources.check import check as count\n"

    def found(call: str) -> list[str]:
        return nameless_readings(ast.parse(begin + call))

    assert found("count(data, full=True)") == ["2"]
    assert found("count(data, folder, full=True)") == []
