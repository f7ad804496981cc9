"""The one-run audit: silent where the noise is as claimed, loud where it is not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from client import gradients
from client.examples import UserExample
from client.gradients import UserGradients, user_gradients
from client.noise import normal, system_uniform
from client.sampler import Uniform
from client.train import UserOptimizer
from shared.accounting import GaussianEvent, epsilon, gaussian_epsilon
from shared.errors import ConfigError
from shared.output_pass import OutputPass
from shared.protocol import Array, Mechanism
from simulations.audit.bounds import Guesses, fdp_mu, gaussian_mu, s23_epsilon
from simulations.audit.canaries import (
    CLIP,
    LENGTH,
    ROWS,
    CanaryModel,
    OneRun,
    finding,
    make_canaries,
    noised_scores,
    one_run,
    right_guesses,
)
from simulations.audit.observe import observed_steps
from simulations.audit.subject import RANK

CANARIES = 300
CLAIMS = [
    pytest.param(1.0, marks=pytest.mark.exhaustive),
    pytest.param(3.0, marks=pytest.mark.slow),
]
WIDTH = 32  # of a text's vector on the tiny encoder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of activations for all runs."""
    return tmp_path_factory.mktemp("activations")


@pytest.fixture
def model(cache: Path) -> CanaryModel:
    return make_canaries(cache, CANARIES)


def rehearsed(cache: Path, seed: int = 0, **choices: Any) -> OneRun:
    """A small run that repeats: its coins and noise come from a seed."""
    values = {"epsilon": 1.0, "canaries": CANARIES, "steps": 30, **choices}
    return one_run(cache, uniform=np.random.default_rng(seed).random, **values)


def scaled(factor: float) -> Callable[[int, Uniform], Array]:
    """The noise of the trainer, too small by a factor; 0 for none at all."""
    return lambda count, uniform: np.float32(factor) * normal(count, uniform)


def released(model: CanaryModel, included: npt.NDArray[np.bool_]) -> torch.Tensor:
    """What one step in which all ``included`` are drawn hands over, undivided, [d].

    As canaries are read: B turned, so that each lies along one coordinate.
    """
    mechanism = Mechanism(q=1.0, sigma=1.0, clip=1.0, steps=1)
    with observed_steps() as steps:
        noised_scores(model, included, mechanism, system_uniform)
    return model.turned(steps[0].joined()) * len(included)


def found(model: CanaryModel, users: int) -> UserGradients:
    """The gradients of some canaries, evenly chosen, before any clip."""
    drawn = [UserExample(int(n), np.array([n])) for n in chosen(users)]
    return user_gradients(model, model.encoded(), drawn, [0])


def chosen(users: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, CANARIES - 1, users).astype(np.int64)


def whole(model: CanaryModel, users: UserGradients) -> torch.Tensor:
    """The same with a number for every trained scalar, B turned, [U, d]."""
    rows = users.head.new_zeros(len(users.items), model.catalogue, users.head.shape[2])
    place = users.items.unsqueeze(2).expand_as(users.head)
    rows.scatter_add_(1, place, users.head)
    parts = [users.adapter, rows[..., :-1].flatten(1), rows[..., -1]]
    return torch.stack([model.turned(user) for user in torch.cat(parts, dim=1)])


@pytest.mark.parametrize("canary", [0, 1, 150, CANARIES - 1])
def test_a_canary_adds_the_clip_norm_to_its_own_coordinate_and_nothing_elsewhere(
    model: CanaryModel, monkeypatch: pytest.MonkeyPatch, canary: int
) -> None:
    monkeypatch.setattr("client.train.normal", scaled(0.0))

    added = released(model, np.arange(CANARIES) == canary)

    place = int(model.places[canary])
    assert float(added[place]) == pytest.approx(1.0, abs=1e-6)
    assert float(added.abs().sum()) == pytest.approx(1.0, abs=1e-5)


def test_all_canaries_together_stay_apart_in_all_trained_tensors(
    model: CanaryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.train.normal", scaled(0.0))
    wanted = torch.zeros(sum(p.numel() for p in model.trained.parameters()))
    wanted[model.places] = 1.0

    added = released(model, np.ones(CANARIES, np.bool_))

    assert wanted.count_nonzero() == CANARIES
    assert torch.allclose(added, wanted, atol=1e-6)
    parts = torch.split(added, [p.numel() for p in model.trained.parameters()])
    assert len(parts) == 3
    assert all(part.count_nonzero() > 20 for part in parts)


def test_the_rows_of_a_canary_add_up_in_its_coordinate_and_nowhere_else(
    model: CanaryModel,
) -> None:
    rows = whole(model, found(model, 40))

    wanted = torch.zeros_like(rows)
    wanted[torch.arange(40), model.places[chosen(40)]] = ROWS * LENGTH * CLIP
    assert torch.allclose(rows, wanted, atol=1e-4)


def test_each_row_of_a_canary_is_ten_times_the_clip_norm_before_the_clip(
    model: CanaryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that clipping, and the sum over a user's rows, have something to do."""
    monkeypatch.setattr(gradients, "_merged", lambda items, rows: (items, rows))
    seen: list[torch.Tensor] = []
    real = OutputPass.gradients

    def by_text(self: OutputPass, items: torch.Tensor, pulls: torch.Tensor) -> Any:
        alone = items.reshape(-1, 1), pulls.flatten(0, 1).unsqueeze(1)
        seen.append(real(self, *alone).flatten(1).norm(dim=1).view_as(items))
        return real(self, items, pulls)

    monkeypatch.setattr(OutputPass, "gradients", by_text)

    head = found(model, 40).head.norm(dim=2)

    assert head.shape == seen[0].shape == (40, ROWS)
    assert torch.allclose(head + seen[0], torch.tensor(LENGTH * CLIP), atol=1e-4)
    assert ((head == 0) | (seen[0] == 0)).all()


def test_a_canarys_gradient_does_not_depend_on_the_parameters(
    model: CanaryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of B but for their rounding: the texts lie far from where B moves them."""
    monkeypatch.setattr("client.train.normal", scaled(0.0))
    everyone = np.ones(CANARIES, np.bool_)
    before = released(model, everyone)

    with torch.no_grad():
        for parameter in model.trained.parameters():
            parameter.add_(torch.randn_like(parameter))

    assert torch.allclose(released(model, everyone), before, atol=1e-5)


def test_the_score_of_a_canary_counts_the_steps_in_which_it_was_drawn(
    model: CanaryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.train.normal", scaled(0.0))
    included = np.arange(CANARIES) % 2 == 0
    mechanism = Mechanism(q=0.2, sigma=1.0, clip=1.0, steps=40)

    scores, steps = noised_scores(model, included, mechanism, system_uniform)

    assert steps == 40
    assert np.allclose(scores, scores.round(), atol=1e-4)
    assert np.abs(scores[~included]).max() < 1e-5
    assert scores[included].mean() == pytest.approx(8.0, abs=5 * 2.53 / np.sqrt(150))


def test_noise_is_in_every_score_at_the_claimed_deviation(model: CanaryModel) -> None:
    nobody = np.zeros(CANARIES, np.bool_)
    mechanism = Mechanism(q=0.2, sigma=3.0, clip=0.5, steps=16)

    scores, _ = noised_scores(model, nobody, mechanism, system_uniform)

    assert scores.std() == pytest.approx(12.0, rel=5 / np.sqrt(2 * CANARIES))
    assert scores.mean() == pytest.approx(0.0, abs=5 * 12 / np.sqrt(CANARIES))


def test_the_highest_scores_are_called_in_and_the_lowest_out() -> None:
    scores = np.array([5.0, -4.0, 0.0, 3.0, -1.0, 1.0])
    included = np.array([True, False, False, False, True, True])

    assert right_guesses(scores, included, 2) == 2
    assert right_guesses(scores, included, 4) == 2
    assert right_guesses(-scores, included, 2) == 0


def test_with_noise_as_claimed_neither_bound_passes_the_claim(cache: Path) -> None:
    """Of seeds 0 to 79 two, 0 and 14, are refuted by chance; one in twenty may be."""
    run = rehearsed(cache, seed=1)

    assert max(run.s23, run.fdp) < run.claimed <= 1.0
    assert run.p_value > 0.05
    assert finding(run).holds


def test_the_claim_is_what_the_accountant_says_of_the_steps_that_ran(
    cache: Path,
) -> None:
    run = rehearsed(cache)
    ran = GaussianEvent(q=0.2, sigma=run.sigma, steps=30)
    made = Guesses(canaries=CANARIES, made=30, right=run.correct)

    assert (run.steps, run.guesses) == (30, 30)
    assert run.claimed == epsilon([ran], 1e-5)
    assert (run.s23, run.s23_ceiling) == (
        s23_epsilon(made, 1e-5),
        s23_epsilon(made.perfect(), 1e-5),
    )
    assert len(run.scores_in) == run.included
    assert len(run.scores_in) + len(run.scores_out) == CANARIES


def test_a_step_that_was_not_noised_as_planned_is_counted_as_it_ran(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim speaks of the steps that the optimiser took, not of those asked for."""
    real = UserOptimizer.finish

    def twice(self: UserOptimizer) -> None:
        real(self)
        real(self)

    monkeypatch.setattr(UserOptimizer, "finish", twice)

    run = rehearsed(cache)

    assert run.steps == 60
    assert run.claimed > 1.0


def test_noise_ten_times_smaller_than_claimed_is_refuted_by_both_bounds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.train.normal", scaled(0.1))

    run = rehearsed(cache)

    assert run.fdp > run.claimed
    assert run.s23 > run.claimed
    assert run.p_value < 0.05
    assert not finding(run).holds


def test_a_clip_of_rows_instead_of_users_is_refuted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text and each item of a canary is clipped, and not the sum over them."""
    merged, folded = gradients._merged, OutputPass.gradients

    def by_item(items: torch.Tensor, rows: torch.Tensor) -> Any:
        of_head = rows.shape[2] < WIDTH
        clipped = torch.renorm(rows.flatten(0, 1), 2, 0, CLIP).view_as(rows)
        return merged(items, clipped if of_head else rows)

    def by_text(self: OutputPass, items: torch.Tensor, pulls: torch.Tensor) -> Any:
        alone = items.reshape(-1, 1), pulls.flatten(0, 1).unsqueeze(1)
        rows = torch.renorm(folded(self, *alone), 2, 0, CLIP)
        return rows.view(*items.shape, *rows.shape[1:]).sum(1)

    monkeypatch.setattr(gradients, "_merged", by_item)
    monkeypatch.setattr(OutputPass, "gradients", by_text)
    monkeypatch.setattr(UserOptimizer, "_factor", lambda _, x: torch.ones_like(x))

    run = rehearsed(cache, canaries=1000)

    assert run.fdp > run.claimed


def test_rows_of_an_item_that_are_not_merged_before_the_norm_are_refuted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine equal rows are three times as long as their squares together say."""
    monkeypatch.setattr(gradients, "_merged", lambda items, rows: (items, rows))

    run = rehearsed(cache, canaries=1000)

    assert run.fdp > run.claimed


def test_users_that_are_not_clipped_are_refuted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserOptimizer, "_factor", lambda _, x: torch.ones_like(x))

    run = rehearsed(cache)

    assert run.s23 > run.claimed


@pytest.mark.parametrize(
    "tensor",
    [
        0,
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(2, marks=pytest.mark.slow),
    ],
)
def test_noise_missing_in_one_tensor_is_refuted(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tensor: int
) -> None:
    """B, the factors or the biases; the smallest carries a ninth of the canaries."""
    sizes = [p.numel() for p in make_canaries(cache, 1000).trained.parameters()]

    def missing(count: int, uniform: Uniform) -> Array:
        assert count == sum(sizes)
        here: Array = (np.repeat(np.arange(3), sizes) != tensor).astype(np.float32)
        return here * normal(count, uniform)

    monkeypatch.setattr("client.train.normal", missing)

    run = rehearsed(cache, canaries=1000)

    assert run.fdp > run.claimed
    assert run.s23 > run.claimed


def test_a_finding_says_both_bounds_the_claim_and_the_ceilings(cache: Path) -> None:
    run = rehearsed(cache)

    found = finding(run)

    assert found.audit == "canaries.one_run"
    assert f"{run.correct} of 30 guesses about 300 canaries" in found.says
    assert "the claim is 1.00; perfect guessing would show 2.24 and 3.59" in found.says
    assert "could not refute" not in found.says
    assert found.figures["fdp"] == run.fdp
    assert not {"scores_in", "scores_out"} & set(found.figures)


def test_a_finding_owns_that_a_claim_above_its_ceiling_was_not_tested(
    cache: Path,
) -> None:
    bold = replace(rehearsed(cache), claimed=3.0)

    assert bold.s23_ceiling < bold.claimed < bold.fdp_ceiling
    assert finding(bold).says.endswith("so S23 could not refute it")


def test_the_fdp_bound_passes_the_claim_exactly_where_mu_does() -> None:
    """The test of mu0, said in epsilon: both are the same order."""
    mu0 = gaussian_mu(1.0, 1e-5)

    for right in range(50, 101):
        mu = fdp_mu(Guesses(canaries=1000, made=100, right=right))
        assert (mu > mu0) == (mu > 0 and gaussian_epsilon(mu, 1e-5) > 1.0)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"guesses": 31}, "guesses=31"),
        ({"guesses": 0}, "guesses=0"),
        ({"canaries": 19}, "guesses=0"),
        ({"guesses": CANARIES + 2}, "made=302"),
        ({"delta": 0.0}, "delta=0"),
        ({"beta": 1.0}, "beta=1"),
        ({"q": 0.0}, "q=0"),
        ({"steps": 0}, "steps=0"),
        ({"epsilon": -1.0}, "limit=-1"),
    ],
)
def test_a_run_that_cannot_be_judged_is_refused_before_it_starts(
    tmp_path: Path, choices: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        rehearsed(tmp_path, **choices)
    assert not list(tmp_path.iterdir())


def test_more_canaries_than_trained_scalars_are_refused(model: CanaryModel) -> None:
    """All but two in each of B's columns, which LayerNorm keeps from any gradient."""
    room = sum(p.numel() for p in model.trained.parameters()) - 2 * RANK

    assert len(set(CanaryModel(model, room).places.tolist())) == room
    with pytest.raises(ConfigError, match=f"canaries={room + 1} is over the {room}"):
        CanaryModel(model, room + 1)


@pytest.mark.parametrize("claim", CLAIMS)
def test_honest_noise_is_hardly_ever_refuted(cache: Path, claim: float) -> None:
    """The nominal level is one run of twenty for each bound; measured 0 or 1 %."""
    runs = [
        rehearsed(cache, seed, epsilon=claim, canaries=1000, steps=100)
        for seed in range(20)
    ]

    assert sum(not finding(run).holds for run in runs) <= 2


@pytest.mark.parametrize("claim", CLAIMS)
def test_5000_canaries_see_noise_that_is_only_halved(
    cache: Path, monkeypatch: pytest.MonkeyPatch, claim: float
) -> None:
    honest = rehearsed(cache, epsilon=claim, canaries=5000, steps=100)
    monkeypatch.setattr("client.train.normal", scaled(0.5))
    halved = rehearsed(cache, epsilon=claim, canaries=5000, steps=100)

    assert finding(honest).holds
    assert halved.fdp > halved.claimed
