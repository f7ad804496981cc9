"""What a run starts from: nothing trained, or a release, with or without popularity."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from server.operator import Operator
from server.registry import Registry
from server.start import start_of
from shared.errors import ConfigError
from shared.popularity import SharedItems, encoder_part, shared_part
from shared.protocol import Array
from shared.release import WEIGHTS
from tests.factories import tiny_plan, tiny_spec
from tests.server.premises import an_operator, publish

OURS = SharedItems(digest="0123456789abcdef", items=3)
OTHERS = SharedItems(digest="fedcba9876543210", items=5)


def released(folder: Path, shared: SharedItems | None) -> Operator:
    """An operator with the release ``spring/1``."""
    operator, plan = an_operator(folder / "operator"), tiny_plan()
    more = {} if shared is None else {shared.tensor: (shared.items,)}
    publish(operator, "spring", 1, plan=replace(plan, shapes={**plan.shapes, **more}))
    return operator


def of_release(operator: Operator) -> dict[str, Array]:
    tensors: dict[str, Array] = load_file(
        operator.runs / "spring" / "registry" / "round-0001" / WEIGHTS
    )
    return tensors


@pytest.mark.parametrize("held", [None, OURS, OTHERS])
@pytest.mark.parametrize("wanted", [None, OURS])
def test_a_run_goes_on_from_a_release_with_the_popularity_that_it_shares(
    tmp_path: Path, held: SharedItems | None, wanted: SharedItems | None
) -> None:
    operator = released(tmp_path, held)
    before = of_release(operator)

    start = start_of(operator, "spring/1", tiny_spec(), wanted)

    tensors = load_file(start / WEIGHTS)
    found = shared_part(tensors)
    assert start == start_of(operator, "spring/1", tiny_spec(), wanted)
    assert encoder_part(tensors).keys() == encoder_part(before).keys()
    for name, array in encoder_part(before).items():
        np.testing.assert_array_equal(tensors[name], array)
    if wanted is None:
        assert found == {}
    elif held == wanted:
        np.testing.assert_array_equal(found[wanted.tensor], before[wanted.tensor])
    else:
        assert found[wanted.tensor].tolist() == [0.0] * wanted.items
    if held == wanted:
        assert start.name == "round-0001"
    Registry.open(tmp_path / "registry", start)


def test_a_release_of_another_adapter_is_refused_and_each_value_named(
    tmp_path: Path,
) -> None:
    operator = released(tmp_path, None)
    asked = tiny_spec(rank=8, down="text", max_tokens=20)

    with pytest.raises(ConfigError) as told:
        start_of(operator, "spring/1", asked, None)

    assert "start='spring/1' holds another adapter" in str(told.value)
    assert "rank=4, not 8, down='seed', not 'text'; take" in str(told.value)


def test_longer_texts_are_no_other_adapter(tmp_path: Path) -> None:
    operator = released(tmp_path, None)

    start = start_of(operator, "spring/1", tiny_spec(max_tokens=20), None)

    assert start.name == "round-0001"
