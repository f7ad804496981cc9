"""Files that outlast a power cut: what is made durable, and in which order."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.durable import replace_file


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_is_put_in_place_whole(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "kept"
    if before is not None:
        path.write_bytes(before)

    replace_file(path, b"new")

    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


def test_bytes_are_durable_before_their_name_and_the_name_before_it_is_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            on_folder = name == "fsync" and os.path.isdir(args[0])  # noqa: PTH112
            done.append("fsync of the folder" if on_folder else name)
            return honest(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    replace_file(tmp_path / "kept", b"new")

    assert done == ["fsync", "replace", "fsync of the folder"]


def test_what_cannot_be_made_durable_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    replace_file(path, b"old")

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        replace_file(path, b"new")

    assert path.read_bytes() == b"old"
