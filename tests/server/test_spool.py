"""Updates on disk: what is read is what was written, and nothing is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.spool import Spool
from shared.adapter import norm
from shared.protocol import Array
from tests.server.spooled import spooled
from tests.standin import SHAPE, B, a_plan, an_update, tensor

SHAPES = {"b": (5, 4), "a": (7,), "c": (2, 3)}
SIZE = 33


def drawn(rng: np.random.Generator) -> dict[str, Array]:
    return {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


def flat(delta: Mapping[str, Array]) -> Array:
    return np.concatenate([array.ravel() for _, array in sorted(delta.items())])


@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.permutations(range(6)),
    block=st.integers(1, 6 * SIZE + 1),
)
def test_blocks_of_any_rows_side_by_side_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, seed: int, order: list[int], block: int
) -> None:
    rng = np.random.default_rng(seed)
    sent = [drawn(rng) for _ in range(6)]
    with closing(Spool(tmp_path_factory.getbasetemp(), SHAPES, block)) as spool:
        rows = [spool.append(str(i), delta) for i, delta in enumerate(sent)]
        picked = [rows[i] for i in order[: 1 + seed % 6]]

        blocks = list(spool.blocks(picked))

    whole = np.stack([flat(sent[row.place]) for row in picked])
    assert np.concatenate(blocks, axis=1).tobytes() == whole.tobytes()
    assert all(part.size <= max(block, len(picked)) for part in blocks)


def test_a_row_knows_its_site_and_length_and_its_values_their_tensors(
    tmp_path: Path,
) -> None:
    delta = drawn(np.random.default_rng(0))
    with closing(Spool(tmp_path, SHAPES)) as spool:
        row = spool.append("a", delta)
        (block,) = spool.blocks([row])

    assert (row.site, row.norm) == ("a", norm(delta))
    found = spool.tensors(block[0])
    assert list(found) == ["a", "b", "c"]
    assert all(found[name].tobytes() == delta[name].tobytes() for name in delta)
    assert {name: array.shape for name, array in found.items()} == SHAPES


def test_inner_products_are_those_of_float64() -> None:
    rng = np.random.default_rng(1)
    sent = [an_update(a_plan(), site) for site in "abcd"]
    values = rng.normal(size=(4, *SHAPE)).astype(np.float32)
    for update, value in zip(sent, values, strict=True):
        update.delta[B][:] = value

    with spooled(sent, 7) as (spool, rows):
        found = spool.products(rows)

    wide = values.reshape(4, -1).astype(np.float64)
    np.testing.assert_allclose(found, wide @ wide.T, rtol=1e-14)


def test_nothing_is_seen_of_a_spool_in_its_folder(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, {B: SHAPE})) as spool:
        spool.append("a", {B: tensor(1)})

        assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from server.spool import Spool

spool = Spool(Path(sys.argv[1]), {"a": (1000,)})
spool.append("a", {"a": np.ones(1000, np.float32)})
print("written", flush=True)
time.sleep(60)
"""


def test_nothing_is_left_of_a_process_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)

    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_ends_too_early_is_not_read_as_zeros(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, {B: SHAPE})) as spool:
        row = spool.append("a", {B: tensor(1)})
        spool._file.truncate(8)

        with pytest.raises(OSError, match="end too early"):
            list(spool.blocks([row]))
