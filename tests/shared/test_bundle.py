"""The app bundle: one source gives the same bytes anywhere, and only that is read."""

import os
import subprocess
import sys
import tomllib
import zipfile
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import pytest
from flwr.cli.install import install_from_fab
from flwr.common.config import flatten_dict, get_fab_config
from hypothesis import given
from hypothesis import strategies as st

from server.settings import defaults
from shared import bundle
from shared.bundle import (
    LARGEST,
    Versions,
    build_bundle,
    bundle_code,
    bundle_digest,
    bundle_files,
    bundle_versions,
    installed_versions,
    source_files,
    source_packages,
)
from shared.code import code_digest
from shared.errors import CodeRefused, ConfigError
from tests.shared.checkouts import built, copy_checkout
from tests.syntax import ROOT

PRINT = (
    "import sys; from pathlib import Path; from shared.bundle import *;"
    "print(bundle_digest(build_bundle(source_packages(Path(sys.argv[1])))))"
)


@lru_cache(maxsize=1)
def small() -> bytes:
    """A bundle of ours, once for all tests that only read one."""
    return build_bundle()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


def digest_of(root: Path) -> str:
    return bundle_digest(built(root))


def zipped(**entries: bytes) -> bytes:
    """A zip that is packed as Flower packs one."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_another_folder_machine_and_time_give_the_same_bytes(checkout: Path) -> None:
    for path in checkout.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    elsewhere = {**os.environ, "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}

    done = subprocess.run(
        ["sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, "-c", PRINT, "."],
        cwd=checkout,
        env={**elsewhere, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == digest_of(ROOT)


def test_an_installed_wheel_gives_the_same_bytes_as_its_checkout(
    checkout: Path,
) -> None:
    """There no pyproject and no licence lie beside the packages, but other projects."""
    (checkout / "pyproject.toml").unlink()
    (checkout / "LICENSE").write_text("that of another package", "utf-8")
    (checkout / "numpy").mkdir()

    assert digest_of(checkout) == digest_of(ROOT)


def test_what_is_no_code_does_not_count_and_every_change_of_code_does(
    checkout: Path,
) -> None:
    before = digest_of(checkout)
    (checkout / "client" / "__pycache__").mkdir()
    (checkout / "client" / "__pycache__" / "old.py").touch()
    (checkout / "client" / "notes.txt").touch()
    (checkout / ".gitignore").write_text("*.py\n", "utf-8")
    (checkout / "client" / ".gitignore").write_text("*\n", "utf-8")
    assert digest_of(checkout) == before

    seen = {before}
    for name in ("client/round.py", "server/app.py", "shared/bundle.toml", "LICENSE"):
        with (checkout / name).open("a") as file:
            file.write(
                "\n# more\n" if name.endswith((".py", "E")) else '[x]\na = "b"\n'
            )
        seen.add(digest_of(checkout))
    (checkout / "shared" / "more.py").touch()
    seen.add(digest_of(checkout))

    assert len(seen) == 6


def test_the_bundle_says_of_itself_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    told = tomllib.loads((ROOT / "shared" / "bundle.toml").read_text("utf-8"))

    assert told["project"]["version"] == project["project"]["version"]
    assert set(told["project"]["dependencies"]) < set(
        project["project"]["dependencies"]
    )
    assert told["tool"]["flwr"]["app"] == project["tool"]["flwr"]["app"]
    assert flatten_dict(told["tool"]["flwr"]["app"]["config"]) == defaults()


def test_flower_reads_the_same_defaults_from_the_bundle() -> None:
    config = get_fab_config(small())["tool"]["flwr"]["app"]["config"]

    assert flatten_dict(config) == defaults()
    assert bundle_versions(small()) == Versions("0.1.0", "1.41.0")
    assert installed_versions() == Versions("0.1.0", "1.41.0")


def test_flower_installs_exactly_the_files_that_are_read_here(tmp_path: Path) -> None:
    place = install_from_fab(small(), tmp_path, skip_prompt=True)

    found = {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }
    assert found == {
        name: content
        for name, content in bundle_files(small()).items()
        if not name.startswith(".info/")
    }
    assert found.keys() == source_files().keys()


def test_the_code_in_a_bundle_has_the_digest_that_it_has_where_it_runs() -> None:
    assert bundle_code(small()) == code_digest()


def test_code_in_folders_is_counted_in_the_order_of_the_running_code(
    checkout: Path,
) -> None:
    """``deep/x.py`` comes before ``deep.py`` there, and after it as plain text."""
    (checkout / "client" / "deep").mkdir()
    for name in ("deep/x.py", "deep.py", "deep-er.py"):
        (checkout / "client" / name).write_text(f"# {name}\n", "utf-8")
    call = "from shared.code import code_digest; print(code_digest())"
    there = subprocess.run(
        [sys.executable, "-c", call],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )

    assert bundle_code(built(checkout)) == there.stdout.strip()


def test_a_file_that_flower_would_leave_out_is_named(checkout: Path) -> None:
    (checkout / "client" / "test_me.py").touch()

    with pytest.raises(ConfigError, match=r"Flower leaves out client/test_me\.py"):
        built(checkout)


def test_what_is_no_source_is_said_to_be_none(tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(ConfigError, match="has no package client, server, shared"):
        source_packages(tmp_path)

    (checkout / "shared" / "bundle.toml").unlink()
    with pytest.raises(ConfigError, match=r"bundle\.toml cannot be read"):
        built(checkout)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/passwd.py", "no file of ours"),
        ("../outside.py", "no file of ours"),
        ("client/../../outside.py", "no file of ours"),
        ("client\\..\\outside.py", "no file of ours"),
        ("C:/outside.py", "no file of ours"),
        ("client/", "no file of ours"),
        ("client/tool.so", "no file of ours"),
        ("client/site.pth", "no file of ours"),
        ("client/a.py\n", "no file of ours"),
        ("client/\x1b[2J.py", "no file of ours"),
        (f"client/{'a' * 200}.py", "no file of ours"),
        ("CLIENT/A.py", "a name is there twice"),
    ],
)
def test_a_name_that_no_bundle_has_is_refused(name: str, fault: str) -> None:
    content = zipped(**{"client/a.py": b"", name: b""})

    with pytest.raises(CodeRefused, match=fault):
        bundle_files(content)


def test_a_name_that_is_there_twice_is_refused() -> None:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("client/a.py", b"shown = 1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("client/a.py", b"run = 2")

    with pytest.raises(CodeRefused, match="a name is there twice"):
        bundle_files(made.getvalue())


def test_a_bomb_is_refused_before_any_of_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("client/a.py", bytes(LARGEST + 1))
    monkeypatch.setattr(zipfile.ZipFile, "read", None)

    with pytest.raises(CodeRefused, match=r"it is compressed.*; \d+ bytes unpacked"):
        bundle_files(made.getvalue())


def test_too_many_files_and_too_many_bytes_are_refused() -> None:
    crowd = zipped(**{f"client/a{n}.py": b"" for n in range(bundle.MOST_FILES + 1)})

    with pytest.raises(CodeRefused, match="1001 files are above 1000"):
        bundle_files(crowd)
    with pytest.raises(CodeRefused, match="above 10485760"):
        bundle_files(bytes(LARGEST + 1))


@pytest.mark.parametrize(
    "pyproject",
    [
        b"",
        b"\xff",
        b"[project]\nversion = 1\n",
        b'project = ""',
        b'[project]\nversion = "\x1b[2J"\n[tool.flwr.app]\nflwr-version-target = "1"',
        b'[project]\nversion = "1"\n[tool.flwr.app]\nflwr-version-target = 1.41',
    ],
)
def test_a_bundle_that_does_not_say_its_versions_is_refused(pyproject: bytes) -> None:
    with pytest.raises(CodeRefused, match="does not say its versions"):
        bundle_versions(zipped(**{"pyproject.toml": pyproject}))


@given(
    st.binary(max_size=300)
    | st.just(zipped(LICENSE=b"free")[:-1])
    | st.just(b"PK\x05\x06" * 9)
)
def test_whatever_is_no_bundle_is_refused_and_nothing_else_goes_wrong(
    content: bytes,
) -> None:
    with pytest.raises(CodeRefused):
        bundle_files(content)


@given(st.data())
def test_a_changed_byte_gives_another_digest_and_is_read_or_refused(
    data: st.DataObject,
) -> None:
    """The listing at the end is where most of the traps of a zip are."""
    content = bytearray(zipped(**{"client/a.py": b"x = 1", "LICENSE": b"free"}))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    original = zipped(**{"client/a.py": b"x = 1", "LICENSE": b"free"})
    assert bundle_digest(bytes(content)) != bundle_digest(original)
    try:
        read = bundle_files(bytes(content))
    except CodeRefused:
        return
    assert all(bundle._fits(name) for name in read)
