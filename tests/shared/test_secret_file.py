"""Secrets in files: for their owner alone, whole or not at all."""

import os
from pathlib import Path

import pytest

from shared.secret_file import keep_secret


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_secret_is_its_owners_alone_under_any_umask(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        keep_secret(tmp_path / "key", b"secret")
    finally:
        os.umask(before)

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_a_secret_replaces_one_that_others_could_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"old")
    (tmp_path / "key").chmod(0o644)

    keep_secret(tmp_path / "key", b"new")

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_secret_that_cannot_be_kept_leaves_nothing_and_spares_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_secret(tmp_path / "key", b"old")

    def full(_descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        keep_secret(tmp_path / "key", b"new")

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
