"""What ``tacit bench train`` times: a site's steps, Tacit's and the plain program's.

Both train on one generated site with the same users, texts and recipe. Every round of
Tacit's starts from the same adapter and head, so that it can be timed again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.examples import UserExample
from client.noise import SecretStreams, system_uniform
from client.sampler import Uniform, poisson_draw
from client.train import train_round
from shared.encoder import TextEncoder, base_digest, load_base
from shared.protocol import AdapterSpec, Mechanism, Recipe
from simulations.bench.counting import Count, Work, watched
from simulations.bench.limits import seconds
from simulations.bench.plain import learn, with_opacus
from simulations.bench.plain_model import PlainModel
from simulations.bench.site import Size, TrainingSite, training_site
from simulations.bench.step_parts import parts_ms

MECHANISM = Mechanism(steps=3)  # of one timed round; q, sigma and clip as by default
FEWER = Mechanism(steps=1, q=0.04)  # where a step of so many users takes long
PLAIN_USERS = 16  # whom the plain program is timed with
SEED = 2026
KEY = (SEED, 1, 1)  # names the round: seed, site, number


class Trainer:
    """Tacit's way: a round of ``train_round``, again and again."""

    def __init__(
        self, site: TrainingSite, device: str, mechanism: Mechanism = MECHANISM
    ) -> None:
        self._site, self._device, self._mechanism = site, device, mechanism
        self._adapter = site.model.encoder.adapter()
        self._head = site.model.head.state()

    def step_s(self, sigma: float = MECHANISM.sigma) -> float:
        """Return the seconds of a step: those of a round, shared out."""
        took = seconds(lambda: self._round(sigma), self._device)
        return took / self._mechanism.steps

    def work(self, count: Count) -> Work:
        """Return what the adapter does in a private step, and how long that takes."""
        with watched(self._site.model, count, self._device) as work:
            step_s = self.step_s(self._mechanism.sigma)
        steps = self._mechanism.steps
        return Work(work.amount / steps, work.took_s / steps, step_s)

    def parts_ms(self) -> dict[str, float]:
        """Return where the time of a private step goes; nothing on a card."""
        if self._device != "cpu":
            return {}
        return parts_ms(
            lambda: self._round(self._mechanism.sigma), self._mechanism.steps
        )

    def _round(self, sigma: float) -> None:
        """Train a round; the same users are drawn, the noise is the system's."""
        model, examples = self._site.model, self._site.examples
        model.encoder.set_adapter(self._adapter)
        model.head.load(self._head)
        train_round(
            model,
            examples,
            replace(self._mechanism, sigma=sigma),
            users=len(examples),
            streams=SecretStreams(coins(), system_uniform),
            key=KEY,
        )


class PlainTrainer:
    """The plain program's way: everything anew in every step."""

    def __init__(self, model: PlainModel, site: TrainingSite, device: str) -> None:
        self._model, self._device = model, device
        self._sample = drawn(site.examples)[0][:PLAIN_USERS]
        _, self._optimizer = with_opacus(model, MECHANISM, len(site.examples))

    def catalogue_s(self) -> float:
        """Return the seconds of its pass over the catalogue."""
        return seconds(self._pass, self._device)

    def _pass(self) -> None:
        self._catalogue = self._model.catalogue()

    def user_s(self) -> float:
        """Return the seconds that each user adds to a step, after its pass."""
        given = self._model, self._optimizer, self._catalogue, self._sample, KEY
        return seconds(lambda: learn(*given), self._device) / len(self._sample)


def site_of(
    base: str, device: str, size: Size, folder: Path, modules: str, training: str
) -> TrainingSite:
    """Return the generated site, always the same, under one adapter.

    Args:
        base: Encoder.
        device: Where it computes.
        size: Of the site.
        folder: Of the activations.
        modules: Which modules carry the adapter.
        training: Precision of what never changes.
    """
    spec = AdapterSpec(base=base_digest(base), modules=modules)
    encoder = TextEncoder(load_base(base), spec, device=device, training=training)
    rng = np.random.default_rng([SEED, size.items, size.users])
    return training_site(encoder, size, Recipe(), rng, folder)


def plain(base: str, device: str, site: TrainingSite, *, modules: str) -> PlainTrainer:
    """Return the same site under the plain program."""
    spec = AdapterSpec(base=base_digest(base), modules=modules)
    recipe = site.model.recipe
    model = PlainModel(load_base(base), spec, site.texts, site.prior, recipe, device)
    return PlainTrainer(model, site, device)


def coins() -> Uniform:
    """Return the coins of every timed round."""
    return np.random.default_rng(SEED).random


def drawn(examples: Sequence[UserExample]) -> list[list[UserExample]]:
    """Return who is drawn in each step of a timed round."""
    flipped, q = coins(), MECHANISM.q
    return [
        [examples[n] for n in poisson_draw(len(examples), q, flipped)]
        for _ in range(MECHANISM.steps)
    ]
