"""How far Adam can go: never further, and nearly so far."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from client.reach import BETAS, SLACK, reach
from client.train import _optimizer
from shared.protocol import Mechanism
from tests.factories import tiny_model

RATES = st.floats(1e-4, 10.0)
SIZES = st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 0.5, 1.0, 7.0, 1e3, 1e8])
GRADIENTS = st.builds(lambda size, sign: size * sign, SIZES, st.sampled_from([1, -1]))


def moved(learning_rate: float, gradients: np.ndarray) -> list[float]:
    """How far a real Adam has moved numbers [n] after each step [T, n] of gradients."""
    numbers, far = torch.zeros(gradients.shape[1]), []
    adam = torch.optim.Adam([numbers], lr=learning_rate, betas=BETAS)
    for gradient in gradients:
        numbers.grad = torch.from_numpy(gradient.astype(np.float32))
        adam.step()
        far.append(float(numbers.norm()))
    return far


def limits(learning_rate: float, gradients: np.ndarray) -> list[float]:
    """What is held to be the furthest after each of these steps."""
    steps, parameters = gradients.shape
    return [reach(learning_rate, n, parameters) for n in range(1, steps + 1)]


def within(far: list[float], limit: list[float]) -> bool:
    return all(one <= most for one, most in zip(far, limit, strict=True))


@given(
    rate=RATES,
    gradients=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=30),
        elements=GRADIENTS,
        fill=st.nothing(),
    ),
)
def test_optimizer_never_goes_further_whatever_gradients_it_is_given(
    rate: float, gradients: np.ndarray
) -> None:
    assert within(moved(rate, gradients), limits(rate, gradients))


@pytest.mark.parametrize("quiet", [0, 1, 5, 20, 100])
@pytest.mark.parametrize("growth", [1.0, 1.01, BETAS[1] / BETAS[0], 2.0])
def test_optimizer_never_goes_further_on_the_gradients_that_drive_it_hardest(
    quiet: int, growth: float
) -> None:
    """After silence the second moment is small; then gradients that grow.

    Cauchy-Schwarz is tight where each gradient is b2 / b1 times the one before.
    """
    loud = growth ** np.arange(30.0)[:, None]
    gradients = np.concatenate([np.zeros((quiet, 1)), loud])

    far = moved(0.01, gradients)

    assert far[-1] > 0.01
    assert within(far, limits(0.01, gradients))


@given(rate=RATES, parameters=st.integers(1, 50), size=st.floats(1e-2, 1e6))
def test_in_the_first_step_the_longest_way_is_taken(
    rate: float, parameters: int, size: float
) -> None:
    (far,) = moved(rate, np.full((1, parameters), size))

    assert far == pytest.approx(rate * math.sqrt(parameters), rel=1e-4)
    assert far <= reach(rate, 1, parameters) <= far * SLACK * (1 + 1e-4)


def test_one_late_step_can_go_further_than_the_learning_rate() -> None:
    """So a limit of one learning rate for each step would refuse honest sites."""
    silence = np.zeros((400, 1))

    *_, far = moved(0.01, np.concatenate([silence, np.ones((1, 1))]))

    assert far > 1.5 * 0.01


@settings(max_examples=30)
@given(rate=RATES, steps=st.integers(1, 200), parameters=st.integers(1, 10_000))
def test_the_limit_grows_with_rate_steps_and_parameters(
    rate: float, steps: int, parameters: int
) -> None:
    here = reach(rate, steps, parameters)

    assert reach(2 * rate, steps, parameters) == pytest.approx(2 * here)
    assert reach(rate, steps, 4 * parameters) == pytest.approx(2 * here)
    assert reach(rate, steps + 1, parameters) > here
    assert here >= rate * math.sqrt(parameters)


def test_the_optimizer_that_trains_is_the_one_that_the_limit_is_for(
    tmp_path: Any,
) -> None:
    """No decay, no AMSGrad, no maximising: each would change how far it can go."""
    model = tiny_model(tmp_path, learning_rate=0.03, head_learning_rate=0.5)
    adam = _optimizer(model, Mechanism())

    assert type(adam) is torch.optim.Adam
    assert [group["lr"] for group in adam.param_groups] == [0.03, 0.5]
    for group in adam.param_groups:
        assert group["betas"] == BETAS
        assert group["weight_decay"] == 0
        assert not group["amsgrad"]
        assert group["eps"] > 0
