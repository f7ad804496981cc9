"""The bytes that a ledger hashes: one way to write each release, and one to read it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from shared.adapter import digest
from shared.errors import RoundError
from shared.packing import feed_back
from shared.protocol import WIRES
from shared.sealing import (
    metric_bytes,
    metric_from_bytes,
    update_bytes,
    update_from_bytes,
)
from tests.standin import SHAPE, B, a_metric, a_plan, an_update, tensor

UPDATE = an_update(a_plan())
METRIC = a_metric(UPDATE)


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6),
    site=st.text(max_size=5),
    number=st.integers(0, 2**62),
)
def test_any_update_is_read_back_as_it_was_written(
    values: list[float], site: str, number: int
) -> None:
    flat = np.array(values, np.float32)
    delta = {B: flat.reshape(SHAPE), "b": flat}
    update = replace(UPDATE, site=site, number=number, delta=delta)

    read = update_from_bytes(update_bytes(update), {B: SHAPE, "b": (6,)})

    assert (read.site, read.number, digest(read.delta)) == (site, number, digest(delta))
    assert update_bytes(read) == update_bytes(update)


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6),
    form=st.sampled_from(WIRES),
)
def test_an_update_is_read_back_as_what_its_form_can_say(
    values: list[float], form: str
) -> None:
    delta = {B: np.array(values, np.float32).reshape(SHAPE)}
    said, _ = feed_back(delta, {}, form)
    update = replace(UPDATE, delta=said, wire=form)

    read = update_from_bytes(update_bytes(update), {B: SHAPE})

    assert (read.wire, digest(read.delta)) == (form, digest(said))
    assert update_bytes(replace(update, delta=delta)) == update_bytes(update)


@given(value=st.floats(allow_nan=False, allow_infinity=False), site=st.text(max_size=5))
def test_any_metric_is_read_back_as_it_was_written(value: float, site: str) -> None:
    metric = replace(METRIC, site=site, value=value)

    assert metric_from_bytes(metric_bytes(metric)) == metric


def test_equal_updates_have_equal_bytes_whatever_their_order_in_memory() -> None:
    more = {"z": tensor(1), **UPDATE.delta, "a": tensor(2)}
    other = {name: np.asfortranarray(more[name]) for name in sorted(more)}

    first = update_bytes(replace(UPDATE, delta=more))
    second = update_bytes(replace(UPDATE, delta=other))

    assert first == second
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"site": "b"},
        {"run": "other"},
        {"number": 2},
        {"plan": "0" * 64},
        {"ledger_head": "0" * 64},
        {"delta": {B: tensor(2)}},
        {"wire": "float16"},
        {"wire": "int8"},
    ],
)
def test_every_field_of_an_update_is_in_its_bytes(change: dict[str, object]) -> None:
    changed = replace(UPDATE, **change)  # type: ignore[arg-type]

    assert update_bytes(changed) != update_bytes(UPDATE)


@pytest.mark.parametrize(
    "change",
    [
        {"site": "b"},
        {"run": "other"},
        {"number": 2},
        {"plan": "0" * 64},
        {"name": "hr@10"},
        {"value": 0.5},
    ],
)
def test_every_field_of_a_metric_is_in_its_bytes(change: dict[str, object]) -> None:
    changed = replace(METRIC, **change)  # type: ignore[arg-type]

    assert metric_bytes(changed) != metric_bytes(METRIC)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_no_number_has_no_bytes(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        metric_bytes(replace(METRIC, value=value))


def cut(data: bytes) -> bytes:
    return data[:-1]


def longer(data: bytes) -> bytes:
    return data + b"\0"


def spaced(data: bytes) -> bytes:
    """The same update in readable bytes that are not the canonical ones."""
    update = update_from_bytes(data, {B: SHAPE})
    keys = ("ledger-head", "number", "plan", "run", "site")
    identity = {key: getattr(update, key.replace("-", "_")) for key in keys}
    metadata = {"update": json.dumps(identity)}
    return safetensors.numpy.save(
        {"values": np.ravel(update.delta[B])}, metadata=metadata
    )


def with_more_metadata(data: bytes) -> bytes:
    """The same update, with something to say beside it."""
    update = update_from_bytes(data, {B: SHAPE})
    size = int.from_bytes(data[:8], "little")
    line = json.loads(data[8 : 8 + size])["__metadata__"]["update"]
    metadata = {"update": line, "note": "user 17"}
    return safetensors.numpy.save(
        {"values": np.ravel(update.delta[B])}, metadata=metadata
    )


def renamed(data: bytes) -> bytes:
    return data.replace(b"ledger-head", b"ledger-haed")


def empty(_data: bytes) -> bytes:
    return b""


def nonsense(_data: bytes) -> bytes:
    return bytes(64)


def no_object(_data: bytes) -> bytes:
    return b"[1]"


def no_text(_data: bytes) -> bytes:
    return b"\xff\xfe"


@pytest.mark.parametrize(
    "spoil",
    [
        *(cut, longer, spaced, with_more_metadata),
        *(renamed, empty, nonsense, no_object, no_text),
    ],
)
def test_other_bytes_are_not_an_update(spoil: Callable[[bytes], bytes]) -> None:
    data = update_bytes(UPDATE)
    assert spoil(data) != data

    with pytest.raises(RoundError):
        update_from_bytes(spoil(data), {B: SHAPE})


@pytest.mark.parametrize(
    ("values", "scales"),
    [
        (np.array([-128, 1, 2, 3, 4, 5], np.int8), np.ones(1, np.float32)),
        (np.array([126, 1, 2, 3, 4, 5], np.int8), np.ones(1, np.float32)),
        (np.array([127, 1, 2, 3, 4, 5], np.int8), np.full(1, np.nan, np.float32)),
        (np.array([127, 1, 2, 3, 4, 5], np.int8), np.full(1, 0.1, np.float32)),
        (np.array([127, 1, 2, 3, 4, 5], np.int8), np.ones(2, np.float32)),
        (np.array([127, 1, 2, 3, 4], np.int8), np.ones(1, np.float32)),
        (np.array([127, 1, 2, 3, 4, 5], np.int16), np.ones(1, np.float32)),
        (np.array([127, 1, 2, 3, 4, 5], np.int8), np.ones(1, np.float64)),
    ],
)
def test_levels_that_packing_does_not_write_are_not_an_update(
    values: np.ndarray, scales: np.ndarray
) -> None:
    data = update_bytes(UPDATE)
    size = int.from_bytes(data[:8], "little")
    line = json.loads(data[8 : 8 + size])["__metadata__"]["update"]
    good = {
        "values": np.array([127, 1, 2, 3, 4, 5], np.int8),
        "scales": np.ones(1, "f4"),
    }
    save = safetensors.numpy.save
    update_from_bytes(save(good, metadata={"update": line}), {B: SHAPE})

    spoilt = save({"values": values, "scales": scales}, metadata={"update": line})

    with pytest.raises(RoundError):
        update_from_bytes(spoilt, {B: SHAPE})


def in_readable_json(data: bytes) -> bytes:
    return json.dumps(json.loads(data), indent=1).encode()


def with_one_key_more(data: bytes) -> bytes:
    return data.replace(b'{"name"', b'{"count":17,"name"')


def whole_for_real(data: bytes) -> bytes:
    return data.replace(b"0.25", b"1")


def not_a_number(data: bytes) -> bytes:
    return data.replace(b"0.25", b"NaN")


@pytest.mark.parametrize(
    "spoil",
    [
        *(cut, longer, in_readable_json, with_one_key_more, whole_for_real),
        *(not_a_number, empty, nonsense, no_object, no_text),
    ],
)
def test_other_bytes_are_not_a_metric(spoil: Callable[[bytes], bytes]) -> None:
    data = metric_bytes(METRIC)
    assert spoil(data) != data

    with pytest.raises(RoundError):
        metric_from_bytes(spoil(data))
