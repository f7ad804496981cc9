"""What is opened is exactly what was packed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from shared.adapter import digest
from shared.errors import ConfigError, EgressRefused, ModelError, RoundError
from shared.wire import (
    open_plan,
    open_refusal,
    open_update,
    pack_plan,
    pack_refusal,
    pack_update,
    sealed_bytes,
    size,
    update_from_bytes,
)
from tests.standin import SHAPE, B, a_plan, an_update, tensor


def sent(value: float = 1.0) -> SentArray:
    return SentArray(tensor(value))


def test_a_plan_arrives_as_it_was_sent() -> None:
    plan, adapter = open_plan(pack_plan(a_plan(), {B: tensor(2)}))

    assert plan == a_plan()
    assert plan.digest() == a_plan().digest()
    assert digest(adapter) == digest({B: tensor(2)})


def test_an_update_arrives_as_it_was_sent() -> None:
    update = an_update(a_plan())

    opened = open_update(pack_update(update))

    assert sealed_bytes(opened) == sealed_bytes(update)


def test_an_opened_array_can_be_written_to() -> None:
    delta = open_update(pack_update(an_update(a_plan()))).delta

    assert delta[B].flags.writeable


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6),
    site=st.text(max_size=5),
)
def test_any_update_survives_the_wire_and_the_disk(
    values: list[float], site: str
) -> None:
    flat = np.array(values, np.float32)
    delta = {B: flat.reshape(SHAPE), "b": flat}
    update = replace(an_update(a_plan(), site), delta=delta)

    opened = open_update(pack_update(update))
    read = update_from_bytes(sealed_bytes(opened))

    assert (read.site, digest(read.delta)) == (site, digest(delta))
    assert sealed_bytes(read) == sealed_bytes(update)


def test_equal_updates_have_equal_bytes_whatever_their_order_in_memory() -> None:
    update = an_update(a_plan())
    more = {"z": tensor(1), **update.delta, "a": tensor(2)}
    other = {name: np.asfortranarray(more[name]) for name in sorted(more)}

    first = sealed_bytes(replace(update, delta=more))
    second = sealed_bytes(replace(update, delta=other))

    assert first == second
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def unknown_record(content: RecordDict) -> None:
    content["more"] = MetricRecord({"users": 17})


def no_delta(content: RecordDict) -> None:
    del content["delta"]


def wrong_kind(content: RecordDict) -> None:
    content["delta"] = ConfigRecord({B: b"bytes"})


def extra_key(content: RecordDict) -> None:
    content.config_records["update"]["num-examples"] = 17


def missing_key(content: RecordDict) -> None:
    del content.config_records["update"]["site"]


def true_for_one(content: RecordDict) -> None:
    content.config_records["update"]["number"] = True


def list_for_text(content: RecordDict) -> None:
    content.config_records["update"]["site"] = ["a"]


def double_precision(content: RecordDict) -> None:
    content.array_records["delta"][B] = SentArray(np.zeros(SHAPE))


def other_shape_inside(content: RecordDict) -> None:
    data = SentArray(np.zeros((2, 3), np.float32)).data
    content.array_records["delta"][B] = SentArray(
        "float32", SHAPE, "numpy.ndarray", data
    )


def other_serialisation(content: RecordDict) -> None:
    content.array_records["delta"][B] = SentArray("float32", SHAPE, "x", sent().data)


def bytes_behind(content: RecordDict) -> None:
    data = sent().data + b"user 17"
    content.array_records["delta"][B] = SentArray(
        "float32", SHAPE, "numpy.ndarray", data
    )


def bytes_in_the_header(content: RecordDict) -> None:
    data = sent().data.replace(b"}   ", b"}abc")
    assert data != sent().data
    content.array_records["delta"][B] = SentArray(
        "float32", SHAPE, "numpy.ndarray", data
    )


def negative_shape(content: RecordDict) -> None:
    array = SentArray("float32", (-3, -2), "numpy.ndarray", sent().data)
    content.array_records["delta"][B] = array


def huge_shape(content: RecordDict) -> None:
    array = SentArray("float32", (10**9, 10**9), "numpy.ndarray", sent().data)
    content.array_records["delta"][B] = array


def no_bytes(content: RecordDict) -> None:
    content.array_records["delta"][B] = SentArray(
        "float32", SHAPE, "numpy.ndarray", b""
    )


@pytest.mark.parametrize(
    "spoil",
    [
        unknown_record,
        no_delta,
        wrong_kind,
        extra_key,
        missing_key,
        true_for_one,
        list_for_text,
        double_precision,
        other_shape_inside,
        other_serialisation,
        bytes_behind,
        bytes_in_the_header,
        negative_shape,
        huge_shape,
        no_bytes,
    ],
)
def test_anything_but_an_update_is_refused(spoil: Callable[[RecordDict], None]) -> None:
    content = pack_update(an_update(a_plan()))
    spoil(content)

    with pytest.raises(RoundError):
        open_update(content)


def test_only_float32_may_travel() -> None:
    delta = {B: np.zeros(SHAPE)}

    with pytest.raises(EgressRefused, match=f"{B}: float64"):
        pack_update(replace(an_update(a_plan()), delta=delta))  # type: ignore[arg-type]


def test_an_instruction_with_another_record_is_refused() -> None:
    content = pack_plan(a_plan(), {B: tensor(0)})
    content["code"] = ConfigRecord({"run": "this"})

    with pytest.raises(RoundError, match="exactly 'plan' and 'adapter'"):
        open_plan(content)


def test_an_instruction_with_an_unreadable_plan_is_refused() -> None:
    content = pack_plan(a_plan(), {B: tensor(0)})
    content["plan"] = ConfigRecord({"json": "{}"})

    with pytest.raises(ConfigError):
        open_plan(content)


def test_an_instruction_whose_adapter_does_not_fit_its_plan_is_refused() -> None:
    content = pack_plan(a_plan(), {B: np.zeros((1, 2), np.float32)})

    with pytest.raises(ModelError, match="shape"):
        open_plan(content)


def test_a_refusal_says_who_and_why() -> None:
    assert open_refusal(pack_refusal("a", "BudgetSpent")) == ("a", "BudgetSpent")


def test_an_update_is_not_a_refusal() -> None:
    assert open_refusal(pack_update(an_update(a_plan()))) is None


@pytest.mark.parametrize("reason", ["", "user 17", "x" * 41, "Budget2", "Größe", "A\n"])
def test_a_reason_is_a_class_name_or_is_refused_at_both_ends(reason: str) -> None:
    config = ConfigRecord({"site": "a", "reason": reason})

    with pytest.raises(EgressRefused):
        pack_refusal("a", reason)
    with pytest.raises(RoundError):
        open_refusal(RecordDict({"refusal": config}))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({"refusal": MetricRecord({"reason": 1})}),
        RecordDict({"refusal": ConfigRecord({"site": "a"})}),
        RecordDict({"refusal": ConfigRecord({"site": "a", "reason": 1})}),
        RecordDict(
            {
                "refusal": ConfigRecord({"site": "a", "reason": "BudgetSpent"}),
                "delta": ArrayRecord({B: sent()}),
            }
        ),
    ],
)
def test_a_refusal_that_says_more_or_less_is_refused(content: RecordDict) -> None:
    with pytest.raises(RoundError):
        open_refusal(content)


def cut(data: bytes) -> bytes:
    return data[:-1]


def longer(data: bytes) -> bytes:
    return data + b"\0"


def spaced(data: bytes) -> bytes:
    """The same update in readable bytes that are not the canonical ones."""
    update = update_from_bytes(data)
    keys = ("ledger-head", "number", "plan", "run", "site")
    identity = {key: getattr(update, key.replace("-", "_")) for key in keys}
    metadata = {"update": json.dumps(identity)}
    return safetensors.numpy.save(dict(update.delta), metadata=metadata)


def renamed(data: bytes) -> bytes:
    return data.replace(b"ledger-head", b"ledger-haed")


def empty(_data: bytes) -> bytes:
    return b""


def nonsense(_data: bytes) -> bytes:
    return bytes(64)


@pytest.mark.parametrize("spoil", [cut, longer, spaced, renamed, empty, nonsense])
def test_other_bytes_are_not_an_update(spoil: Callable[[bytes], bytes]) -> None:
    data = sealed_bytes(an_update(a_plan()))
    assert spoil(data) != data

    with pytest.raises(RoundError):
        update_from_bytes(spoil(data))


def test_the_size_counts_what_travels_and_equal_arrays_once() -> None:
    one = RecordDict({"delta": ArrayRecord({"a": sent()})})
    two = RecordDict({"delta": ArrayRecord({"a": sent(), "b": sent()})})
    different = RecordDict({"delta": ArrayRecord({"a": sent(), "b": sent(2)})})

    payload = len(sent().data)
    assert payload < size(one) < size(two) < size(one) + payload
    assert size(different) > size(one) + payload
