"""``serving.toml`` is read strictly, and every fault is told at once."""

from pathlib import Path

import pytest

from client.serving.settings import FILE, Rule, ServingSettings, read_settings
from shared.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    (folder / FILE).write_text(text, "utf-8")
    return folder


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == ServingSettings()


def test_rules_are_tables_of_their_own(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        """
        explore = 0.1
        keep-days = 30
        groups = ["gender"]
        [[rules]]
        attribute = "genres"
        value = "Horror"
        add = -1.5
        [[rules]]
        attribute = "brand"
        most = 2
        """,
    )

    assert read_settings(folder) == ServingSettings(
        explore=0.1,
        keep_days=30,
        groups=("gender",),
        rules=(
            Rule(attribute="genres", value="Horror", add=-1.5),
            Rule(attribute="brand", most=2),
        ),
    )


def test_all_faults_of_a_rule_are_told_at_once(tmp_path: Path) -> None:
    folder = write(tmp_path, '[[rules]]\nattribute = ""\nadd = 2000\nmost = 5\n')

    with pytest.raises(ConfigError) as raised:
        read_settings(folder)

    for word in ("attribute", "add=2000", "one of them", "rule 1"):
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("explore = 0.9", "explore=0.9"),
        ("explode = 0.1", "explode"),
        ("keep-days = 0", "keep-days=0 is not in 1..3650"),
        ("timeout-s = 'soon'", "timeout-s"),
        ("rules = 3", "[[rules]]"),
        ("rules = [3]", "[[rules]]"),
        ("explore = ", "TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(write(tmp_path, text))

    assert named in str(raised.value)
