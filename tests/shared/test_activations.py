"""The store: computed once per text, kept over processes, whole after a crash."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.activations import ActivationStore
from shared.protocol import Array


class Counter:
    """Computes [tokens, 2] rows from a text's length; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Iterator[list[Array]]:
        self.asked += texts
        yield [
            np.full((len(t), 2), len(t) + ord(t[0]) / 1000, np.float32) for t in texts
        ]


def test_each_text_is_computed_once_and_found_again(tmp_path: Path) -> None:
    first, later = Counter(), Counter()
    ActivationStore(tmp_path, ["k"], 2, first).open(["aa", "b"])

    got = ActivationStore(tmp_path, ["k"], 2, later).open(["b", "cccc", "aa"])

    assert first.asked == ["aa", "b"]
    assert later.asked == ["cccc"]
    assert got.lengths.tolist() == [1, 4, 2]
    assert got.rows(torch.tensor([2])).tokens.shape == (1, 2, 2)
    assert np.allclose(got.rows(torch.tensor([1])).tokens, 4.099)


def test_another_key_is_another_store(tmp_path: Path) -> None:
    compute = Counter()
    for key in ("k", "other"):
        ActivationStore(tmp_path, [key], 2, compute).open(["aa"])

    assert compute.asked == ["aa", "aa"]


def test_rows_are_padded_to_the_longest_and_masked(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path, ["k"], 2, Counter()).open(["a", "bbb"])

    rows = store.rows(torch.tensor([0, 1, 0]))

    assert rows.mask.tolist() == [
        [True, False, False],
        [True] * 3,
        [True, False, False],
    ]
    assert rows.tokens.isfinite().all()


def test_rows_of_a_crashed_writer_are_overwritten(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path, ["k"], 2, Counter())
    store.open(["aa"])
    tokens = next(tmp_path.rglob("tokens.bin"))
    with tokens.open("ab") as file:
        file.write(b"half a row")

    got = store.open(["aa", "bbb"])

    assert tokens.stat().st_size == (2 + 3) * 2 * 4
    assert np.allclose(got.rows(torch.tensor([1])).tokens, 3.098)


def test_parts_by_length_hold_every_text_once_and_no_padding(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    texts = [f"{n:05}" + "x" * int(rng.integers(0, 25)) for n in range(2000)]
    store = ActivationStore(tmp_path, ["k"], 2, Counter()).open(texts)
    items = torch.from_numpy(rng.permutation(2000)[:1500])

    parts = list(store.by_length(items))

    assert sorted(torch.cat(parts).tolist()) == list(range(1500))
    real = sum(int(store.lengths[items[part]].sum()) for part in parts)
    padded = sum(store.rows(items[part]).mask.numel() for part in parts)
    assert padded == real
    assert len(parts) > 5


def test_places_are_the_rows_of_the_texts_one_after_the_other(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path, ["k"], 2, Counter())
    store.open(["aaa", "b"])
    held = store.open(["cc", "b", "aaa"])

    assert held.places(torch.tensor([1, 0])).tolist() == [3, 4, 5]
    moved = held.to("meta")
    assert moved.tokens.shape == (6, 2)


def test_bfloat16_takes_half_the_room(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path, ["k"], 2, Counter(), torch.bfloat16)

    held = store.open(["aaa", "b"])

    assert held.tokens.dtype == torch.bfloat16
    assert next(tmp_path.rglob("tokens.bin")).stat().st_size == 4 * 2 * 2
    assert held.tokens[0].float().tolist() == pytest.approx([3.097] * 2, rel=2**-8)
