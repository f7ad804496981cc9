"""The plain program and Tacit train alike, so that only their speed is compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from client.examples import UserExample
from client.head import FactorHead
from client.model import HybridModel
from client.noise import SecretStreams
from client.sampler import Uniform, poisson_draw
from client.train import train_round
from shared.encoder import TextEncoder, base_digest, load_base
from shared.errors import RoundError
from shared.protocol import AdapterSpec, Array, Mechanism, Recipe
from simulations.bench.plain import PlainSite, federate, one_step, with_opacus
from simulations.bench.plain_model import PlainModel
from simulations.bench.site import titles
from tests.factories import mechanism, small_recipe, texts, tiny_spec, users

SEED, NUMBER = 7, 1
CLOSE = 1e-4  # of the update, absolutely and against its length


def silence(count: int) -> npt.NDArray[np.float64]:
    """Return draws of which every normal is 0."""
    return np.zeros(count)


def coins() -> Uniform:
    return np.random.default_rng(SEED).random


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both programs train; a tiny one unless said otherwise."""

    base: str = "tiny"
    spec: AdapterSpec = field(default_factory=tiny_spec)
    titles: tuple[str, ...] = texts(30)
    recipe: Recipe = field(default_factory=small_recipe)
    asked: Mechanism = field(default_factory=mechanism)
    people: Sequence[UserExample] = ()

    @property
    def prior(self) -> Array:
        return np.linspace(0, 1, len(self.titles), dtype=np.float32)


def updates_of_tacit(case: Case, folder: Path) -> dict[str, Array]:
    """Return the adapter and the head after a round without noise."""
    encoder = TextEncoder(load_base(case.base), case.spec)
    activations = encoder.open_store(folder).open(case.titles)
    centre = encoder.frozen_mean(activations)
    head = FactorHead(len(case.titles), case.recipe.factors, case.recipe.seed)
    model = HybridModel(encoder, activations, centre, head, case.prior, case.recipe)
    train_round(
        model,
        case.people,
        case.asked,
        users=len(case.people),
        streams=SecretStreams(coins(), silence),
        key=[SEED, NUMBER],
    )
    return {**encoder.adapter(), **head.state()}


def plain_site(case: Case, key: int = SEED) -> PlainSite:
    model = PlainModel(
        load_base(case.base), case.spec, case.titles, case.prior, case.recipe
    )
    return PlainSite(
        model=model,
        examples=case.people,
        users=len(case.people),
        coins=coins(),
        key=(key,),
    )


def updates_of_plain(case: Case) -> dict[str, Array]:
    """Return the same from the plain program, as its server has it."""
    site = plain_site(case)
    made = federate({"a": site}, case.asked, noise=0.0)
    return {**made, **site.model.head.state()}


def check_alike(ours: dict[str, Array], theirs: dict[str, Array]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        apart = np.abs(array - theirs[name])
        assert apart.max() < CLOSE, name
        if "lora_B" in name:  # it starts at zero, so it is the update
            assert np.linalg.norm(array) > 0.1, name
            assert np.linalg.norm(apart) < CLOSE * np.linalg.norm(array), name


@pytest.mark.parametrize(
    ("modules", "clip"),
    [
        ("output", 0.05),
        pytest.param("output", 1e3, marks=pytest.mark.slow),
        pytest.param("dense:1", 0.05, marks=pytest.mark.slow),
        ("attention:2", 0.05),
    ],
)
def test_the_plain_program_gives_the_update_that_tacit_gives(
    tmp_path: Path, modules: str, clip: float
) -> None:
    """Poisson draws, both terms of the loss, the clip by user and Adam are the same."""
    spec, asked = tiny_spec(modules=modules), mechanism(clip=clip)
    case = Case(spec=spec, asked=asked, people=users(9))

    check_alike(updates_of_tacit(case, tmp_path), updates_of_plain(case))


def test_so_it_does_where_users_have_no_likes_and_steps_no_users(
    tmp_path: Path,
) -> None:
    nobody, asked = UserExample(3, np.zeros(0, np.int64)), mechanism(q=0.3, steps=8)
    case = Case(asked=asked, people=[nobody, *users(2, likes=2)])
    flipped = coins()
    drawn = [poisson_draw(3, asked.q, flipped).tolist() for _ in range(asked.steps)]

    assert [] in drawn
    assert any(0 in step and len(step) > 1 for step in drawn)
    check_alike(updates_of_tacit(case, tmp_path), updates_of_plain(case))


@pytest.mark.slow
def test_so_it_does_with_minilm(tmp_path: Path) -> None:
    case = Case(
        base="minilm",
        spec=AdapterSpec(base=base_digest("minilm")),
        titles=tuple(titles(120, np.random.default_rng(SEED))),
        recipe=Recipe(),
        asked=mechanism(clip=0.3, steps=2),
        people=users(8, items=120, likes=30),
    )

    check_alike(updates_of_tacit(case, tmp_path), updates_of_plain(case))


def test_the_server_averages_what_sites_learned() -> None:
    asked = mechanism(q=1.0, steps=1)
    sites = {
        name: plain_site(Case(people=users(4, seed=seed)), seed)
        for seed, name in enumerate(("a", "b"))
    }

    (made,) = federate(sites, asked, noise=0.0).values()

    own = [next(iter(site.model.adapter().values())).numpy() for site in sites.values()]
    assert np.abs(own[0] - own[1]).max() > 0.01
    np.testing.assert_allclose(made, (own[0] + own[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("noise", [None, 0.0])
def test_a_step_without_users_is_noise_alone_unless_there_is_none(
    noise: float | None,
) -> None:
    model = plain_site(Case()).model
    _, optimizer = with_opacus(model, mechanism(clip=0.1, sigma=1.0), 4, noise)

    one_step(model, optimizer, [], [1])

    changed = [bool(b.any()) for b in model.adapter().values()]
    assert changed == [noise is None]


def test_a_site_that_fails_fails_the_run() -> None:
    outside = UserExample(1, np.array([500, 501, 502]))

    with pytest.raises(RoundError, match="no site"):
        federate({"a": plain_site(Case(people=[outside]))}, mechanism(q=1.0))
