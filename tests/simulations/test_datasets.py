import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.data import SiteData, load, save
from shared.errors import DataError
from simulations.datasets import amazon, movielens
from simulations.datasets.cli import app
from simulations.datasets.open import open_dataset
from simulations.datasets.registry import RELEASES, Release, fetch, verify

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def flags(*genres: str) -> str:
    return "|".join(str(int(genre in genres)) for genre in movielens.GENRES)


FORMS: Mapping[str, Mapping[str, str]] = {
    "100k": {
        "u.data": "9\t1\t5\t20\n9\t2\t3\t10\n8\t2\t4\t10\n",
        "u.item": f"1|Léon (1994)|01-Jan-1994||url|{flags('Crime', 'Drama')}\n"
        f"2|unknown||||{flags('unknown')}\n",
    },
    "latest": {
        "ratings.csv": "userId,movieId,rating,timestamp\n"
        "9,1,4.0,20\n9,2,3.5,10\n8,2,5,10\n",
        "movies.csv": "movieId,title,genres\n"
        "1,Léon (1994),Crime|Drama\n2,unknown,(no genres listed)\n",
    },
    "1m": {
        "ratings.dat": "9::1::5::20\n9::2::3::10\n8::2::4::10\n",
        "movies.dat": "1::Léon (1994)::Crime|Drama\n2::unknown::\n",
    },
}
LATIN = ("u.item", "movies.dat", "ratings.dat")


def write(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "latin-1" if name in LATIN else "utf-8")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_movielens_gives_the_same_site(tmp_path: Path, form: str) -> None:
    data = open_dataset(write(tmp_path, FORMS[form]))

    assert data.catalogue.ids == ("1", "2")
    assert data.catalogue.texts == ("Léon (1994). Crime, Drama", "unknown")
    assert data.catalogue.attributes == {
        "genres": (("Crime", "Drama"), ()),
        "decade": (("1990s",), ()),
    }
    assert [history.user for history in data.histories] == ["9", "8"]
    assert data.histories[0].items.tolist() == [1, 0]
    assert data.histories[0].times.tolist() == [10, 20]
    assert data.histories[0].likes.tolist() == [False, True]


def test_credits_and_plot_are_read_where_they_are_known_if_asked_for(
    tmp_path: Path,
) -> None:
    credit = (
        "movie\ttitle\tgenres\tdirector\tactors\tplot\n1\tx\ty\tBesson\tReno\tA man.\n"
    )
    write(tmp_path, {**FORMS["100k"], "item_text.tsv": credit})

    plain = open_dataset(tmp_path)
    known = movielens.load_100k(tmp_path, fields=("title", "director", "actors"))
    told = movielens.load_100k(tmp_path, fields=("title", "plot"))

    assert plain.catalogue.texts == ("Léon (1994). Crime, Drama", "unknown")
    assert known.catalogue.texts == ("Léon (1994). Besson. Reno", "unknown")
    assert told.catalogue.texts == ("Léon (1994). A man.", "unknown")


AGED = {"17": "under 18", "18": "18-24", "44": "35-44", "55": "50-55", "56": "56+"}


def test_age_band_gender_occupation_and_place_are_read_where_they_are_known(
    tmp_path: Path,
) -> None:
    lines = [f"{years}|{years}|F|writer|94043\n" for years in AGED]
    users = "".join(lines) + "9|30|M|other|V3N4P\n8||||\n"
    write(tmp_path, {**FORMS["100k"], "u.user": users})

    data = open_dataset(tmp_path)

    assert data.people == {
        years: {"age": band, "gender": "F", "occupation": "writer", "place": "9"}
        for years, band in AGED.items()
    } | {"9": {"age": "25-34", "gender": "M", "occupation": "other"}}


def test_bad_rows_of_users_are_told_beside_bad_events(tmp_path: Path) -> None:
    write(tmp_path, {**FORMS["100k"], "u.user": "9|30|M|x|1\n9|31|M|x|1\n"})
    with (tmp_path / "u.data").open("a") as file:
        file.write("7\t1\tx\t10\n")

    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)

    assert "u.user: user id was already given: 1 (row 2)" in str(caught.value)
    assert "u.data: rating is not a number: 1 (row 4)" in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_bad_rows_of_movielens_are_told_at_once(tmp_path: Path, form: str) -> None:
    events, films = FORMS[form]
    separator = {"100k": "\t", "latest": ",", "1m": "::"}[form]
    bad = [("", "1", "5", "1"), ("7", "9404049", "x", "noon"), ("8", "2", "4", "10")]
    rows = "".join(separator.join(cells) + "\n" for cells in bad)
    write(tmp_path, {**FORMS[form], events: FORMS[form][events] + rows})

    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)

    first = FORMS[form][events].count("\n") + 1
    message = str(caught.value)
    assert f"{events}: no user id: 1 (row {first})" in message
    assert f"{events}: rating is not a number: 1 (row {first + 1})" in message
    assert f"{events}: item is not among the items: 1 (row {first + 1})" in message
    assert f"{events}: the same user, item and timestamp again: 1 (row" in message
    assert f"seconds: 1 (row {first + 1})" in message
    assert "9404049" not in message
    assert films not in message


def test_purchases_are_likes_in_their_order(tmp_path: Path) -> None:
    files = {
        "interactions.tsv": "user\titem\tposition\n0\t1\t1\n0\t0\t0\n",
        "items.tsv": "item\ttitle\tbrand\tdescription\n"
        '0\t3" nut\tAcme\tRound.\n1\tBolt\t\t\n',
    }

    data = open_dataset(write(tmp_path, files))

    assert data.catalogue.texts == ('3" nut. Acme', "Bolt")
    assert data.catalogue.attributes == {"brand": (("Acme",), ())}
    assert data.histories[0].items.tolist() == [0, 1]
    assert data.histories[0].likes.all()
    full = amazon.load(tmp_path, fields=(*amazon.FIELDS, "description"))
    assert full.catalogue.texts[0] == '3" nut. Acme. Round.'


def test_a_data_toml_comes_before_every_other_form(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, FORMS["1m"]))
    save(tmp_path, data)
    (tmp_path / "ratings.dat").write_text("nothing of use")

    assert open_dataset(tmp_path) == load(tmp_path) == data


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_of_no_known_form_is_told_the_known_forms(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / name)

    assert "generic: data.toml" in str(caught.value)
    assert "MovieLens 1M: ratings.dat, movies.dat" in str(caught.value)


def sizes(data: SiteData) -> tuple[int, int, int]:
    events = sum(len(history) for history in data.histories)
    return len(data.catalogue), len(data.histories), events


@needs_shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ml-100k", (1_682, 943, 100_000)),
        pytest.param("ml-latest-small", (9_742, 610, 100_836), marks=pytest.mark.slow),
        ("amazon-industrial", (3_686, 3_285, 21_664)),
    ],
)
def test_real_data_is_read_whole_and_comes_back_the_same(
    tmp_path: Path, name: str, expected: tuple[int, int, int]
) -> None:
    data = open_dataset(SHARED / name)

    assert sizes(data) == expected
    save(tmp_path, data)
    assert load(tmp_path) == data


@needs_shared
@pytest.mark.parametrize("name", ["ml-100k", "ml-latest-small"])
def test_the_real_files_have_the_recorded_digests(name: str) -> None:
    checked = verify(SHARED / name)

    assert checked.name == name
    assert checked.unverified == ()


def packed(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[tuple[Path, Release]]:
    """A folder that is served over HTTP, and the release it publishes there."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        (folder / "tiny.zip").write_bytes(
            packed({"tiny/known.csv": "a", "tiny/other.csv": "b"})
        )
        yield (
            folder,
            Release(
                name="tiny",
                url=f"http://127.0.0.1:{server.server_port}/tiny.zip",
                summary="two letters",
                files={"known.csv": digest(b"a"), "other.csv": ""},
            ),
        )
        server.shutdown()
        thread.join()


def test_a_fetched_data_set_is_checked_and_says_what_was_not(
    tmp_path: Path, publisher: tuple[Path, Release]
) -> None:
    _, release = publisher

    checked = fetch("tiny", tmp_path / "data", releases=(release,))

    assert checked.folder == tmp_path / "data" / "tiny"
    assert (checked.folder / "known.csv").read_text() == "a"
    assert checked.verified == ("known.csv",)
    assert checked.unverified == ("other.csv",)
    assert verify(checked.folder, releases=(release,)) == checked
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tiny"]


def test_a_known_archive_vouches_for_all_its_files(
    tmp_path: Path, publisher: tuple[Path, Release]
) -> None:
    folder, release = publisher
    whole = digest((folder / "tiny.zip").read_bytes())
    release = replace(release, archive_sha256=whole)

    checked = fetch("tiny", tmp_path / "data", releases=(release,))

    assert checked.unverified == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packed({"tiny/known.csv": "tampered", "tiny/other.csv": "b"}), "is not tiny"),
        (packed({"tiny/known.csv": "a"}), "lacks other.csv"),
        (packed({"../../escaped.csv": "a"}), "would write outside"),
        (b"<html>moved</html>", "not a zip archive"),
    ],
)
def test_a_bad_archive_leaves_nothing_behind(
    tmp_path: Path, publisher: tuple[Path, Release], content: bytes, reason: str
) -> None:
    folder, release = publisher
    (folder / "tiny.zip").write_bytes(content)

    with pytest.raises(DataError, match=reason):
        fetch("tiny", tmp_path / "data", releases=(release,))

    assert list((tmp_path / "data").iterdir()) == []
    assert not (tmp_path / "escaped.csv").exists()


def test_an_archive_that_differs_from_the_record_is_refused(
    tmp_path: Path, publisher: tuple[Path, Release]
) -> None:
    release = replace(publisher[1], archive_sha256="0" * 64)

    with pytest.raises(DataError, match="recorded 0000"):
        fetch("tiny", tmp_path / "data", releases=(release,))


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    release = replace(RELEASES[0], url="http://127.0.0.1:9/ml-100k.zip")

    with pytest.raises(DataError) as caught:
        fetch("ml-100k", tmp_path, releases=(release,))

    assert "cannot fetch http://127.0.0.1:9/ml-100k.zip" in str(caught.value)
    assert f"tacit datasets verify {tmp_path / 'ml-100k'}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()

    with pytest.raises(DataError, match="there already"):
        fetch("ml-1m", tmp_path)


def test_an_unknown_name_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="known: ml-100k, ml-latest-small, ml-1m"):
        fetch("netflix", tmp_path)


def test_a_folder_without_a_known_data_set_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known data set"):
        verify(tmp_path)


def test_the_command_lists_every_release_with_its_publisher() -> None:
    result = CliRunner().invoke(app, ["list"])

    assert result.exit_code == 0
    assert all(release.url in result.output for release in RELEASES)


def test_the_command_says_plainly_what_it_could_not_check(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(write(tmp_path, FORMS["1m"]))])

    assert result.exit_code == 0
    assert "ml-1m" in result.output
    assert "not checked, no digest known: ratings.dat, movies.dat" in result.output


def test_the_command_fetches_into_the_folder_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()

    result = CliRunner().invoke(app, ["fetch", "ml-1m", "--to", str(tmp_path)])

    assert isinstance(result.exception, DataError)
