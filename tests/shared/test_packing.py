"""One buffer for all tensors: what it loses, and which bytes it can have."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.adapter import digest
from shared.errors import ModelError
from shared.packing import DIGITS, LEAST, LEVELS, Packed, feed_back, pack, unpack
from shared.protocol import WIRES, Adapter, Array

SHAPES = {"b.lora_B.weight": (4,), "a.lora_B.weight": (3, 2)}
LOSSY = ("float16", "int8")


def tensors(largest: float) -> st.SearchStrategy[dict[str, Array]]:
    """Tensors of any values up to this one, subnormal ones among them."""
    bound = float(np.float32(largest))
    values = st.floats(-bound, bound, width=32)
    return st.fixed_dictionaries(
        {n: hnp.arrays(np.float32, s, elements=values) for n, s in SHAPES.items()}
    )


ANY = tensors(3.4e38 / 2)
USUAL = tensors(100.0)


def there_and_back(delta: Adapter, form: str) -> dict[str, Array]:
    return unpack(pack(delta, form), SHAPES)


@given(delta=ANY)
def test_as_float32_every_value_arrives_as_it_was(delta: Adapter) -> None:
    assert digest(there_and_back(delta, "float32")) == digest(delta)


@given(delta=ANY)
def test_as_int8_no_value_moves_by_more_than_half_a_scale(delta: Adapter) -> None:
    packed = pack(delta, "int8")
    opened = unpack(packed, SHAPES)

    for scale, (name, array) in zip(packed.scales, sorted(delta.items()), strict=True):
        moved = np.abs(opened[name].astype(np.float64) - array)
        largest = np.abs(array.astype(np.float64)).max()
        assert moved.max() <= max(float(scale) / 2, LEAST if scale == 0 else 0)
        assert largest / LEVELS <= scale <= largest / LEVELS * (1 + 2.0**-16) or (
            scale == 0 and largest < LEAST
        )


@given(delta=tensors(65504.0))
def test_as_float16_no_value_moves_by_more_than_half_a_last_digit(
    delta: Adapter,
) -> None:
    """Of 11 binary digits; below the smallest normal number, by 2**-25."""
    opened = there_and_back(delta, "float16")

    for name, array in delta.items():
        moved = np.abs(opened[name].astype(np.float64) - array)
        assert (moved <= np.maximum(np.abs(array) * 2.0**-11, 2.0**-25)).all()


@given(delta=ANY, form=st.sampled_from(("float32", "int8")))
def test_what_arrived_is_packed_into_the_same_bytes_again(
    delta: Adapter, form: str
) -> None:
    packed = pack(delta, form)

    assert pack(unpack(packed, SHAPES), form).same(packed)
    assert packed.form == form


@given(delta=tensors(65504.0))
def test_what_arrived_as_float16_is_packed_into_the_same_bytes_again(
    delta: Adapter,
) -> None:
    packed = pack(delta, "float16")

    assert pack(unpack(packed, SHAPES), "float16").same(packed)


@given(
    form=st.sampled_from(WIRES),
    values=st.binary(min_size=0, max_size=48),
    scales=st.binary(min_size=0, max_size=12).map(lambda b: b[: len(b) // 4 * 4]),
)
def test_only_the_bytes_that_packing_writes_are_read(
    form: str, values: bytes, scales: bytes
) -> None:
    kind = np.dtype(form)
    whole = values[: len(values) // kind.itemsize * kind.itemsize]
    sent = Packed(np.frombuffer(whole, kind), np.frombuffer(scales, np.float32))

    try:
        opened = unpack(sent, SHAPES)
    except ModelError:
        return

    assert pack(opened, form).same(sent)


def test_tensors_lie_in_the_order_of_their_names_whatever_their_order_in_memory() -> (
    None
):
    delta = {
        "b.lora_B.weight": np.array([7, 8, 9, 10], np.float32),
        "a.lora_B.weight": np.asfortranarray([[1, 2], [3, 4], [5, 6]], np.float32),
    }

    assert pack(delta, "float32").values.tolist() == [*range(1, 11)]


def test_a_tensor_of_another_size_does_not_change_what_others_are_worth() -> None:
    delta = {
        "a.lora_B.weight": np.full((3, 2), 1000, np.float32),
        "b.lora_B.weight": np.array([0.001, -0.002, 0, 0.0005], np.float32),
    }

    small = there_and_back(delta, "int8")["b.lora_B.weight"]

    np.testing.assert_allclose(small, delta["b.lora_B.weight"], atol=0.001 / LEVELS)


def honest() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


Spoil = Callable[[Packed], Packed]


def with_values(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda packed: replace(packed, values=change(packed.values.copy()))


def with_scales(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda packed: replace(packed, scales=change(packed.scales.copy()))


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(array: np.ndarray) -> np.ndarray:
        array[0] = value
        return array

    return put


def lowest(values: np.ndarray) -> np.ndarray:
    values[np.abs(values) == LEVELS] = -128
    return values


SPOILT: dict[str, Spoil] = {
    "a value less": with_values(lambda v: v[:-1]),
    "a value more": with_values(lambda v: np.append(v, v[:1])),
    "no value": with_values(lambda v: v[:0]),
    "two dimensions": with_values(lambda v: v.reshape(2, -1)),
    "another type": with_values(lambda v: v.astype(np.int16)),
    "a scale more": with_scales(lambda s: np.append(s, np.float32(1))),
}
SPOILT_LEVELS: dict[str, Spoil] = {
    "the level -128": with_values(lowest),
    "no level at the end": with_values(lambda v: v // 2),
    "a scale less": with_scales(lambda s: s[:1]),
    "no scale": with_scales(lambda s: s[:0]),
    "a scale that is no number": with_scales(first(np.nan)),
    "an infinite scale": with_scales(first(np.inf)),
    "a scale so large that a value is infinite": with_scales(first(3e38)),
    "a scale below zero": with_scales(lambda s: -s),
    "a scale of zero": with_scales(first(0.0)),
    "a scale of minus zero": with_scales(first(-0.0)),
    "a scale of more digits": with_scales(lambda s: np.nextafter(s, np.float32(9))),
    "a scale that is subnormal": with_scales(first(1e-40)),
}


@pytest.mark.parametrize("form", WIRES)
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_buffer_of_another_length_or_form_is_refused(spoil: Spoil, form: str) -> None:
    packed = pack(honest(), form)
    unpack(packed, SHAPES)

    with pytest.raises(ModelError, match=r"packed adapter|wire form"):
        unpack(spoil(packed), SHAPES)


@pytest.mark.parametrize("spoil", SPOILT_LEVELS.values(), ids=SPOILT_LEVELS)
def test_levels_and_scales_that_packing_does_not_write_are_refused(
    spoil: Spoil,
) -> None:
    packed = pack(honest(), "int8")

    with pytest.raises(ModelError):
        unpack(spoil(packed), SHAPES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", LOSSY)
def test_what_is_no_number_has_no_lossy_form(form: str, value: float) -> None:
    delta = honest()
    delta["b.lora_B.weight"][1] = value

    with pytest.raises(ModelError, match="not finite"):
        pack(delta, form)


@pytest.mark.parametrize("value", [65520.0, -1e9, 3e38])
def test_a_value_beyond_float16_is_refused_and_not_cut(value: float) -> None:
    delta = honest()
    delta["b.lora_B.weight"][1] = value

    with pytest.raises(ModelError, match="over 65504"):
        pack(delta, "float16")


def test_a_value_whose_scale_would_overflow_is_refused() -> None:
    delta = {"b": np.full(1, np.finfo(np.float32).max)}

    with pytest.raises(ModelError, match="too large"):
        pack(delta, "int8")


def test_a_form_that_is_unknown_is_refused() -> None:
    with pytest.raises(ModelError, match="'int4' is not one of float32, float16, int8"):
        pack(honest(), "int4")


@pytest.mark.parametrize("form", WIRES)
@pytest.mark.parametrize("kind", ["float64", "float16", "int8", ">f4"])
def test_only_float32_is_packed(form: str, kind: str) -> None:
    delta = {"b": np.ones(4, kind)}

    with pytest.raises(ModelError, match="only float32"):
        pack(delta, form)


def test_a_tensor_below_the_least_is_zero_and_one_at_it_is_not() -> None:
    delta = {
        "a": np.full(1, np.nextafter(np.float32(LEAST), np.float32(0))),
        "b": np.full(1, LEAST, np.float32),
    }

    packed = pack(delta, "int8")

    assert packed.values.tolist() == [0, LEVELS]
    assert packed.scales[0] == 0 < packed.scales[1]


@given(delta=USUAL)
def test_a_level_times_its_scale_is_exact(delta: Adapter) -> None:
    for scale in pack(delta, "int8").scales:
        assert float(scale) * LEVELS == float(np.float32(scale * np.float32(LEVELS)))
        whole = float(np.frexp(scale)[0]) * 2**DIGITS
        assert whole == int(whole)


@given(deltas=st.lists(USUAL, min_size=1, max_size=6), form=st.sampled_from(LOSSY))
def test_what_packing_leaves_out_travels_later(
    deltas: list[dict[str, Array]], form: str
) -> None:
    """All that travelled and what is left over add up to all that was to travel."""
    left: dict[str, Array] = {}
    total = {name: np.zeros(shape) for name, shape in SHAPES.items()}

    for delta in deltas:
        sent, left = feed_back(delta, left, form)
        total = {name: total[name] + sent[name] for name in SHAPES}

    for name in SHAPES:
        wanted = np.sum([delta[name] for delta in deltas], axis=0, dtype=np.float64)
        np.testing.assert_allclose(total[name] + left[name], wanted, atol=1e-3)


@given(delta=USUAL, carried=USUAL, form=st.sampled_from(WIRES))
def test_what_travels_is_a_function_of_the_change_and_what_was_left_over(
    delta: Adapter, carried: Adapter, form: str
) -> None:
    one = feed_back(delta, carried, form)
    same = feed_back(
        {n: delta[n].copy() for n in SHAPES},
        {n: a.copy() for n, a in carried.items()},
        form,
    )

    assert [digest(part) for part in one] == [digest(part) for part in same]


def test_a_change_too_small_for_one_round_arrives_after_some() -> None:
    """Rounding would drop it for ever; what is left over is carried on instead."""
    small = {"b": np.array([1.0, 0.001], np.float32)}
    arrived, left = np.zeros(2), dict[str, Array]()

    for _ in range(100):
        sent, left = feed_back(small, left, "int8")
        arrived += sent["b"]

    assert arrived[1] == pytest.approx(0.1, rel=0.1)
    assert there_and_back_of(small)[1] == 0


def there_and_back_of(delta: Adapter) -> Array:
    shapes = {name: array.shape for name, array in delta.items()}
    return unpack(pack(delta, "int8"), shapes)["b"]
