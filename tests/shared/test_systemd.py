"""Odd paths reach systemd as they are."""

from pathlib import Path

import pytest

from shared.systemd import argument, literal, owner, word


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/srv/a b", '"/srv/a b"'),
        ("/srv/50%", '"/srv/50%%"'),
        ('/srv/"x"', '"/srv/\\"x\\""'),
        ("/srv/$HOME", '"/srv/$$HOME"'),
    ],
)
def test_a_path_is_one_word_in_which_nothing_is_replaced(path: str, read: str) -> None:
    assert argument(Path(path)) == read
    assert word(Path(path)) == read.replace("$$", "$")
    assert literal(Path("/50%")) == "/50%%"


def test_a_folder_of_an_unknown_account_is_owned_by_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_self: Path) -> str:
        raise KeyError

    assert owner(tmp_path) == tmp_path.owner()
    monkeypatch.setattr(Path, "owner", nobody)
    assert owner(tmp_path) == str(tmp_path.stat().st_uid)
