"""Arithmetic on adapters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapter import add, check, clip, digest, norm, subtract
from shared.errors import ModelError
from shared.protocol import Array

SHAPES = {"a": (4, 3), "b": (2,)}


def some(seed: int, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: (scale * rng.normal(size=shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


seeds = st.integers(0, 2**32 - 1)


def test_the_norm_is_joint_over_all_tensors() -> None:
    delta = {"a": np.array([[3.0]], np.float32), "b": np.array([4.0], np.float32)}

    assert norm(delta) == 5.0


def test_the_norm_of_huge_values_does_not_overflow() -> None:
    delta = {"a": np.full(4, 1e30, np.float32)}

    assert norm(delta) == pytest.approx(2e30)


@given(seed=seeds, scale=st.floats(1e-3, 1e6), max_norm=st.floats(1e-6, 1e3))
def test_a_clipped_update_is_never_longer_than_max_norm(
    seed: int, scale: float, max_norm: float
) -> None:
    clipped = clip(some(seed, scale), max_norm)

    assert norm(clipped) <= max_norm
    assert all(array.dtype == np.float32 for array in clipped.values())


@given(seed=seeds)
def test_a_short_update_is_returned_unchanged(seed: int) -> None:
    delta = some(seed)

    clipped = clip(delta, norm(delta))

    assert digest(clipped) == digest(delta)


@given(seed=seeds)
def test_clipping_keeps_the_direction(seed: int) -> None:
    delta = some(seed)

    clipped = clip(delta, norm(delta) / 2)

    for name, array in delta.items():
        np.testing.assert_allclose(clipped[name], array / 2, rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 2))
def test_what_is_subtracted_can_be_added_again(seed: int) -> None:
    before, after = some(seed), some(seed + 1)

    again = add(before, subtract(after, before))

    for name, array in after.items():
        np.testing.assert_allclose(again[name], array, atol=1e-6)


def test_the_digest_does_not_depend_on_the_order_of_names_or_of_memory() -> None:
    delta = some(0)
    other = {name: np.asfortranarray(delta[name]) for name in reversed(delta)}

    assert digest(other) == digest(delta)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros((3, 2), np.float32)},
        {"a": np.zeros(6, np.float32)},
        {"b": np.zeros((2, 3), np.float32)},
        {"a": np.array([[0, 0, 0], [0, 0, 1]], np.float32)},
    ],
)
def test_another_shape_name_or_value_has_another_digest(
    other: dict[str, Array],
) -> None:
    assert digest(other) != digest({"a": np.zeros((2, 3), np.float32)})


def test_the_digest_is_the_documented_sha256() -> None:
    delta = {"a": np.array([1.0, -2.0], np.float32)}

    # sha256 of b'["a", [2]]\n' followed by 0000803f 000000c0
    assert digest(delta) == (
        "0a2a902f32d50781774771409494d99044bdb8f9162c281257a336fd2c39c0a1"
    )


def test_an_adapter_that_fits_is_accepted() -> None:
    check(some(0), SHAPES)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"a": np.zeros((1, 3), np.float32)}, r"a: shape \(1, 3\), expected \(4, 3\)"),
        ({"a": np.zeros((4, 3))}, "a: float64, expected float32"),
        ({"b": np.array([0, np.nan], np.float32)}, "b: 1 of 2 values are not finite"),
        (
            {"b": np.array([np.inf, -np.inf], np.float32)},
            "b: 2 of 2 values are not finite",
        ),
        ({"c": np.zeros(1, np.float32)}, "c: not agreed"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    change: dict[str, Array], told: str
) -> None:
    with pytest.raises(ModelError, match=told):
        check(some(0) | change, SHAPES)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ModelError, match=r"a: missing\n  b: missing\n  x: not agreed"):
        check({"x": np.zeros(1, np.float32)}, SHAPES)
