"""Which code runs: one digest for one content, on every machine."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared.code import PACKAGES, code_digest

ROOT = Path(__file__).parents[2]
PRINT = "from shared.code import code_digest; print(code_digest())"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of all that a site runs, without what Python made of it."""
    for package in PACKAGES:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=without)
    return tmp_path


def digest_of(checkout: Path) -> str:
    """What a fresh process of a checkout says."""
    command = [sys.executable, "-c", PRINT]
    run = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_a_copy_has_the_digest_that_runs_here(checkout: Path) -> None:
    assert digest_of(checkout) == code_digest()


def test_the_digest_is_that_of_paths_and_contents(checkout: Path) -> None:
    """By hand, for two small files; the copy's own ``shared/code.py`` has to stay."""
    kept = ("client/__init__.py", "shared/__init__.py", "shared/code.py")
    for path in checkout.rglob("*.py"):
        if path.relative_to(checkout).as_posix() not in kept:
            path.unlink()
    listing = "".join(
        f"{name} {hashlib.sha256((checkout / name).read_bytes()).hexdigest()}\n"
        for name in kept
    )

    assert digest_of(checkout) == hashlib.sha256(listing.encode()).hexdigest()


def test_any_change_of_code_shows_and_nothing_else_does(checkout: Path) -> None:
    seen = [digest_of(checkout)]
    (checkout / "README.md").write_text("new", "utf-8")
    (checkout / "client" / "notes.txt").write_text("new", "utf-8")
    assert digest_of(checkout) == seen[0]

    noise = checkout / "client" / "noise.py"
    noise.write_text(noise.read_text("utf-8") + "\n", "utf-8")
    seen.append(digest_of(checkout))
    noise.rename(noise.with_name("quiet.py"))
    seen.append(digest_of(checkout))
    (checkout / "shared" / "deep").mkdir()
    (checkout / "shared" / "deep" / "more.py").touch()
    seen.append(digest_of(checkout))

    assert len(set(seen)) == 4


def test_only_what_a_site_runs_is_counted() -> None:
    assert PACKAGES == ("client", "shared")
