"""Plans that a site kept, also from an older Tacit."""

import json
from dataclasses import replace

import pytest

from shared.errors import ConfigError
from shared.protocol import kept_plan, plan_from_json
from tests.standin import a_plan


def older(**changes: object) -> str:
    """The line of a plan from before updates had a form."""
    said = json.loads(a_plan().to_json()) | changes
    del said["wire"]
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("wire", ["float32", "float16", "int8"])
def test_a_kept_plan_is_read_as_it_was_written(wire: str) -> None:
    plan = replace(a_plan(), wire=wire)

    assert kept_plan(plan.to_json()) == plan


def test_a_plan_from_before_there_was_a_wire_asked_for_float32() -> None:
    assert kept_plan(older()) == a_plan()


def test_from_a_server_such_a_plan_is_refused() -> None:
    """Both ends must know one line, whose digest the ledger records."""
    with pytest.raises(ConfigError, match="canonical"):
        plan_from_json(older())


@pytest.mark.parametrize(
    "line", ["", "7", "[]", "null", "{}", "[" * 100_000, older(number=0), older(x=1)]
)
def test_what_is_no_plan_is_not_read_as_an_older_one(line: str) -> None:
    with pytest.raises(ConfigError):
        kept_plan(line)
