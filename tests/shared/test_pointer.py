"""What is in force is what the operator signed last, and nothing else."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shared.errors import ModelError
from shared.pointer import Pointer, parts, point, pointer_from
from shared.protocol import AdapterSpec
from shared.release import Release
from shared.signing import public_key
from tests.standin import key_of

OPERATOR = public_key(key_of("operator"))
SAID = {"run": "spring", "round": 3, "digest": "d" * 64}


def a_pointer(number: int = 7, signer: str = "operator") -> Pointer:
    release = Release(Path(), SAID, AdapterSpec(base="0" * 64))
    return point(release, number, "2026-01-02T03:04:05+00:00", key_of(signer))


def test_a_pointer_arrives_as_it_was_signed() -> None:
    pointer = a_pointer()

    assert pointer_from(pointer.to_json(), OPERATOR) == pointer
    assert (pointer.release, pointer.digest) == ("spring/3", "d" * 64)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 8},
        {"release": "spring/4"},
        {"digest": "e" * 64},
        {"time": "2027-01-02T03:04:05+00:00"},
        {"signature": "0" * 128},
        {"key": public_key(key_of("stranger"))},
    ],
)
def test_every_field_is_under_the_signature(change: dict[str, object]) -> None:
    changed = replace(a_pointer(), **change)  # type: ignore[arg-type]

    with pytest.raises(ModelError, match="not signed by the operator's key"):
        pointer_from(changed.to_json(), OPERATOR)


def test_a_pointer_of_another_key_is_refused_but_for_those_who_ask_for_none() -> None:
    line = a_pointer(signer="stranger").to_json()

    with pytest.raises(ModelError, match="not signed by the operator's key"):
        pointer_from(line, OPERATOR)
    assert pointer_from(line) == a_pointer(signer="stranger")


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0},
        {"number": True},
        {"number": 7.0},
        {"release": "../../etc/3"},
        {"release": "spring/03"},
        {"release": "spring"},
        {"digest": "D" * 64},
        {"note": "x"},
        {"time": None},
    ],
)
def test_what_no_pointer_says_is_refused(change: dict[str, object]) -> None:
    line = json.dumps({**asdict(a_pointer()), **change})

    with pytest.raises(ModelError, match="malformed"):
        pointer_from(line, OPERATOR)


@pytest.mark.parametrize("line", ["", "[]", "null", "{", "[" * 100_000])
def test_what_is_no_pointer_is_refused(line: str) -> None:
    with pytest.raises(ModelError, match="malformed"):
        pointer_from(line)


def test_a_name_is_a_run_and_a_round() -> None:
    assert parts("spring/3") == ("spring", 3)
    for odd in (
        "spring",
        "spring/0",
        "spring/3/4",
        "a b/3",
        "spring/x",
        "spring/9999999",
    ):
        with pytest.raises(ModelError, match="no release's name"):
            parts(odd)
