"""Neighbour replay: the same round with and without one user, and nothing else changed.

The noise stream is silent here, so what the optimiser is handed is the very sum that a
real round hides. All else that is drawn is public or one user's own, and stays the same
whoever else is there: what moves must be that user's, and at most ``clip`` long
(PRIVACY.md 7.5). Nothing here is left to chance, and no real user's data is read.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client import examples, train
from client.data import UserHistory
from client.examples import Batch
from client.head import FactorHead
from client.model import HybridModel
from client.noise import SecretStreams
from client.reach import BETAS
from client.sampler import Uniform
from shared.encoder import TextEncoder, load_base
from shared.protocol import Mechanism, Recipe
from simulations.audit.finding import Finding
from simulations.audit.observe import Step, observed_steps
from simulations.audit.subject import make_model

ITEMS = 72  # the smallest catalogue that is generated
BAD = ITEMS - 1  # liked by nobody but the user whose gradient is not finite
DECLARED = 10  # public number of users; never how many there are
COINS = 2026  # names coins with which each user meets steps with them and without
ORDERS = (1, 2, 3)  # data orders, see ``replay``
SLACK = 1e-5  # float32 rounding, as a share of the longest that is summed
STILL = Recipe(
    learning_rate=1e-12,  # parameters stay where they are, so that steps compare
    head_learning_rate=1e-12,
    factors=4,
    history=6,
    targets=2,
    negatives=1,
)
MOVING = replace(STILL, learning_rate=0.02, head_learning_rate=0.05)
MECHANISM = Mechanism(q=0.5, sigma=1.0, clip=0.3, steps=6)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one round did: its steps, the noise draws it asked for, how it crashed."""

    steps: tuple[Step, ...]
    asked: tuple[int, ...]
    crash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Users at one point of the parameters; any part of them can be replayed.

    Attributes:
        model: What is trained; put back to ``start`` before every round.
        histories: All users.
        mechanism: Public q, clip and steps.
        start: The trained tensors.
        order: Public number of the data order.
    """

    model: HybridModel
    histories: Sequence[UserHistory]
    mechanism: Mechanism
    start: tuple[Tensor, ...]
    order: int

    def everyone(self) -> list[int]:
        """Return the numbers of all users."""
        return list(range(len(self.histories)))

    def without(self, user: int) -> list[int]:
        """Return the numbers of all users but one."""
        return [n for n in self.everyone() if n != user]

    def drawn(self, user: int) -> Tensor:
        """Return in which steps the coins draw ``user``, [T]."""
        shape = self.mechanism.steps, len(self.histories)
        coins = np.random.default_rng(COINS).random(shape)
        return torch.from_numpy(coins[:, user] < self.mechanism.q)

    def run(self, kept: Sequence[int]) -> Trace:
        """Train one round on the users ``kept``, in silence, and return what it did."""
        _put(self.model, self.start)
        asked: list[int] = []
        coins = _coins_of(kept, len(self.histories))
        crash = ""
        with observed_steps() as seen:
            try:
                train.train_round(
                    self.model,
                    examples.make_examples([self.histories[n] for n in kept]),
                    self.mechanism,
                    users=DECLARED,
                    streams=SecretStreams(coins, _silence(asked)),
                    key=[self.order],
                )
            except Exception as error:  # noqa: BLE001  # a crash tells who was drawn
                crash = type(error).__name__
        return Trace(tuple(seen), tuple(asked), crash)

    def sums(self, kept: Sequence[int]) -> Tensor:
        """Return what would be noised in each step, [T, d]; NaN if it was no round."""
        trace, steps = self.run(kept), self.mechanism.steps
        whole = not trace.crash and len(trace.steps) == steps
        if whole and all(_covers(step, self.start) for step in trace.steps):
            handed = torch.stack([step.joined() for step in trace.steps])
            return handed * (self.mechanism.q * DECLARED)
        return torch.full((steps, sum(t.numel() for t in self.start)), torch.nan)


class Spoiled(HybridModel):
    """The real model, but that the loss of who likes ``BAD`` is multiplied."""

    def __init__(self, subject: HybridModel, factor: float) -> None:
        """Take over every part of ``subject``; none is copied."""
        vars(self).update(vars(subject))
        self._factor = factor

    def losses(self, batch: Batch, catalogue: Tensor, *, shared_rows: bool) -> Tensor:
        """Return one term per user, [U]."""
        terms = super().losses(batch, catalogue, shared_rows=shared_rows)
        spoiled = torch.from_numpy((batch.items == BAD).any(axis=1))
        return terms * torch.where(spoiled, self._factor, 1.0)


def replay(cache: Path) -> list[Finding]:
    """Return what adding and removing single users shows.

    A softmax is rounded by how many users share a product, and where a draw of the data
    order lies on a rounded edge a user gets another negative: by our count under fewer
    than one data order in 100. A leak shows under every order, so a failure counts when
    it comes under three.

    Args:
        cache: Folder of the activations.
    """
    model = make_model(cache, items=ITEMS, recipe=STILL)
    by_item = _row_by_row(model, cache)
    findings: list[Finding] = []
    for order in ORDERS:
        small = _site(model, order, scale=0.1, clip=0.3)
        sites = [
            small,
            _site(model, order, scale=1.0, clip=0.01),
            _site(model, order, scale=3.0, clip=100.0),
            _site(by_item, order, scale=0.3, clip=0.01),
        ]
        findings = [
            *_single_users(sites),
            _not_finite(small),
            _count(small),
            _microbatches(small),
            *_shape_of_a_round(small),
            *_after_a_round(cache, order),
        ]
        if all(finding.holds for finding in findings):
            break
    return findings


def _single_users(sites: Sequence[Site]) -> list[Finding]:
    """Remove each user from all others, and compare with a site of that user alone."""
    reached, undrawn, apart = [], [], []
    for site in sites:
        together, clip = site.sums(site.everyone()), site.mechanism.clip
        for user in site.everyone():
            moved = together - site.sums(site.without(user))
            own, drawn = site.sums([user]), site.drawn(user)
            reached.append(_longest(torch.cat([moved, own])) / clip)
            undrawn.append(_longest(torch.cat([moved[~drawn], own[~drawn]])) / clip)
            apart.append(_longest(moved - own) / _longest(together))
    most, idle, mixed = (float(np.max(each)) for each in (reached, undrawn, apart))
    return [
        Finding(
            audit="replay.unit",
            holds=0.99 <= most <= 1 + SLACK and idle <= SLACK,
            says=f"one user moves the sum by at most {most:.6f} of the clip in a step "
            f"that draws them, by {idle:.1e} in others; {len(reached)} removals",
            figures={
                "removals": len(reached),
                "most_in_clips": _figure(most),
                "undrawn_in_clips": _figure(idle),
            },
        ),
        Finding(
            audit="replay.alone",
            holds=mixed <= SLACK,
            says="what a user adds to a sum differs from what that user adds alone by "
            f"{mixed:.1e} of the sum",
            figures={"apart": _figure(mixed), "removals": len(apart)},
        ),
    ]


def _not_finite(site: Site) -> Finding:
    """Add a user whose loss, and so whose gradient, overflows or is no number."""
    spoiler = _liked("spoiler", [BAD] * 8)
    users, always = [*site.histories[:3], spoiler], replace(site.mechanism, q=1.0)
    honest = replace(site, histories=users, mechanism=always)
    left = []
    for factor in (torch.inf, torch.nan, 1e30):
        spoiled = replace(honest, model=Spoiled(site.model, factor))
        together, others = spoiled.sums([0, 1, 2, 3]), spoiled.sums([0, 1, 2])
        left.append(_longest(torch.cat([together - others, spoiled.sums([3])])))
    most, before = float(np.max(left)), _longest(honest.sums([3]))
    return Finding(
        audit="replay.finite",
        holds=most <= SLACK * site.mechanism.clip < before,
        says=f"a user whose gradient is infinite, no number or too long adds {most:.1e}"
        f", and {before:.1e} when it is finite",
        figures={"added": _figure(most), "added_when_finite": _figure(before)},
    )


def _count(site: Site) -> Finding:
    """Add users with no likes, whose gradient is zero: they can change only a count."""
    silent = [_liked(f"silent {n}", []) for n in range(30)]
    crowd = replace(site, histories=[*site.histories, *silent])
    few, many = crowd.sums(site.everyone()), crowd.sums(crowd.everyone())
    changed = _longest(many - few) / _longest(few)
    return Finding(
        audit="replay.count",
        holds=changed <= SLACK,
        says=f"{len(silent)} users without likes beside {len(site.histories)} change "
        f"the sum by {changed:.1e} of it",
        figures={"added": len(silent), "changed": _figure(changed)},
    )


def _microbatches(site: Site) -> Finding:
    """Fold the users a few at a time."""
    together, changed, sizes = site.sums(site.everyone()), [], []
    for users in (1, 2, 3):
        with _room_for(users, site.model):
            sizes.append(train.microbatch_size(site.model))
            changed.append(_longest(site.sums(site.everyone()) - together))
    most = float(np.max(changed)) / _longest(together)
    return Finding(
        audit="replay.microbatch",
        holds=most <= SLACK,
        says=f"microbatches of {sizes} users change the sum by {most:.1e} of it",
        figures={"sizes": sizes, "changed": _figure(most)},
    )


def _shape_of_a_round(site: Site) -> list[Finding]:
    """Compare rounds of three users and of every part of them; most steps are empty."""
    steps, three = 12, site.histories[:3]
    parts = [part for size in range(4) for part in combinations(range(3), size)]
    traces = [
        replace(site, histories=three, mechanism=mechanism).run(part)
        for mechanism in (replace(site.mechanism, q=q, steps=steps) for q in (0.1, 1.0))
        for part in parts
    ]
    taken = sorted({len(trace.steps) for trace in traces})
    crashes = sorted({trace.crash for trace in traces} - {""})
    draws = sorted({sum(trace.asked) for trace in traces})
    alike = len({trace.asked for trace in traces}) == 1
    missing = sum(not _covers(s, site.start) for trace in traces for s in trace.steps)
    return [
        Finding(
            audit="replay.steps",
            holds=taken == [steps] and alike and not crashes,
            says=f"{len(traces)} rounds of 0 to 3 users take {taken} steps of {steps} "
            f"and {draws} draws of noise; crashes: {', '.join(crashes) or 'none'}",
            figures={"steps": taken, "noise_draws": draws, "crashes": crashes},
        ),
        Finding(
            audit="replay.tensors",
            holds=bool(taken[-1]) and not missing,
            says=f"{missing} steps have other gradients than one for each of the "
            f"{len(site.start)} tensors of adapter and head",
            figures={"tensors": len(site.start), "steps_with_others": missing},
        ),
    ]


def _after_a_round(cache: Path, order: int) -> list[Finding]:
    """Follow a round that moves: Adam moves it, by what was to be noised alone."""
    model, twin = (make_model(cache, items=ITEMS, recipe=MOVING) for _ in range(2))
    site = _site(model, order, scale=0.1, clip=0.3)
    _put(twin, site.start)
    seen = site.run(site.everyone()).steps
    off = [_off(twin, step.parameters) for step in _led(twin, seen)]
    off.append(_off(twin, [tensor.detach() for tensor in trained(model)]))
    likes = [history.items[:9] for history in site.histories]
    off.append(float(np.abs(model.score(likes) - twin.score(likes)).max()))
    kept = sorted({name for p in trained(model) for name in _tensors_on(p)})
    most = float(np.max(off))
    return [
        Finding(
            audit="replay.release",
            holds=len(seen) == MECHANISM.steps and most <= SLACK,
            says=f"in {len(seen)} steps parameters and scores are at most {most:.1e} "
            "off a twin that Adam moves by the clipped sums alone",
            figures={"steps": len(seen), "off": _figure(most)},
        ),
        Finding(
            audit="replay.leftover",
            holds=not kept,
            says=f"gradients that outlive a round: {', '.join(kept) or 'none'}",
            figures={"kept": kept},
        ),
    ]


def _led(twin: HybridModel, seen: Sequence[Step]) -> Iterator[Step]:
    """Yield each step before the twin takes it, with nothing but its gradients."""
    adapter = len(twin.encoder.trained)
    weights, recipe = trained(twin), twin.recipe
    adam = torch.optim.Adam(
        [
            {"params": weights[:adapter], "lr": recipe.learning_rate},
            {"params": weights[adapter:], "lr": recipe.head_learning_rate},
        ],
        betas=BETAS,
    )
    for step in seen:
        yield step
        if not _covers(step, weights):
            return
        for weight, gradient in zip(weights, step.gradients, strict=True):
            weight.grad = gradient
        adam.step()


def _off(twin: HybridModel, tensors: Sequence[Tensor]) -> float:
    """Return the largest distance of the twin's tensors from ``tensors``."""
    own = [tensor.detach() for tensor in trained(twin)]
    if [t.shape for t in own] != [t.shape for t in tensors]:
        return math.inf
    pairs = zip(own, tensors, strict=True)
    return float(torch.stack([(a - b).abs().max() for a, b in pairs]).max())


def trained(model: HybridModel) -> list[Tensor]:
    """Return what one clip and one noise must cover: adapter, then head."""
    modules = [*model.encoder.trained.values(), model.head]
    return [parameter for module in modules for parameter in module.parameters()]


def _tensors_on(parameter: Tensor) -> list[str]:
    """Return the names under which a parameter holds tensors."""
    held = {"grad": parameter.grad, **vars(parameter)}
    return [name for name, kept in held.items() if isinstance(kept, Tensor | list)]


def _covers(step: Step, tensors: Sequence[Tensor]) -> bool:
    """Return whether a step has one gradient for each of ``tensors``, in order."""
    return [g.shape for g in step.gradients] == [t.shape for t in tensors]


def _site(model: HybridModel, order: int, *, scale: float, clip: float) -> Site:
    """Return the site at random parameters of standard deviation ``scale``."""
    rng = torch.Generator().manual_seed(2026)
    start = tuple(
        torch.randn(tensor.shape, generator=rng) * scale for tensor in trained(model)
    )
    return Site(
        model=model,
        histories=_histories(),
        mechanism=replace(MECHANISM, clip=clip),
        start=start,
        order=order,
    )


def _histories() -> list[UserHistory]:
    """Return users of every kind that could count for more than one, or for none."""
    rng = np.random.default_rng(2026)
    first, twins, last = (rng.permutation(BAD)[:14] for _ in range(3))
    return [
        _liked("first", first),
        _liked("no likes", []),
        _liked("longest", rng.integers(0, BAD, 400)),
        _liked("one item", np.full(64, 7)),
        _liked("twin", twins),
        _liked("other twin", twins),
        _liked("two likes", rng.permutation(BAD)[:2]),
        _liked("last", last),
    ]


def _liked(user: str, items: npt.ArrayLike) -> UserHistory:
    """Return a user who liked ``items``, oldest first."""
    liked = np.asarray(items, np.int64)
    return UserHistory(
        user=user,
        items=liked,
        times=np.arange(len(liked)),
        likes=np.ones(len(liked), np.bool_),
    )


def _row_by_row(model: HybridModel, cache: Path) -> HybridModel:
    """Return a model whose adapter, in attention, sees each item as a row of its own.

    Its gradients per row are then not yet gradients per user.
    """
    spec = replace(model.encoder.spec, modules="attention:1")
    encoder = TextEncoder(load_base("tiny"), spec)
    texts = [f"Title {n}, {'very ' * (n % 4)}quiet" for n in range(ITEMS)]
    activations = encoder.open_store(cache).open(texts)
    return HybridModel(
        encoder,
        activations,
        encoder.frozen_mean(activations),
        FactorHead(ITEMS, STILL.factors, STILL.seed),
        np.zeros(ITEMS, np.float32),
        STILL,
    )


def _put(model: HybridModel, start: Sequence[Tensor]) -> None:
    """Set the trained tensors."""
    with torch.no_grad():
        for tensor, value in zip(trained(model), start, strict=True):
            tensor.copy_(value)


def _coins_of(kept: Sequence[int], users: int) -> Uniform:
    """Return the coins of the users ``kept``: the same, whoever else is there."""
    rng, columns = np.random.default_rng(COINS), list(kept)
    return lambda count: np.resize(rng.random(users)[columns], count)


def _silence(asked: list[int]) -> Uniform:
    """Return a stream of zeros, of which Box-Muller makes zeros; note what is asked."""

    def zeros(count: int) -> npt.NDArray[np.float64]:
        asked.append(count)
        return np.zeros(count)

    return zeros


@contextmanager
def _room_for(users: int, model: HybridModel) -> Iterator[None]:
    """Leave the trainer memory for the gradients of so many users."""
    memory = train.MEMORY
    train.MEMORY = users * (memory // train.microbatch_size(model))
    try:
        yield
    finally:
        train.MEMORY = memory


def _longest(vectors: Tensor) -> float:
    """Return the largest L2 norm among ``vectors`` [n, d]; NaN if one is NaN."""
    return float(vectors.norm(dim=1).max())


def _figure(value: float) -> float | None:
    """Return a number that JSON knows, or nothing."""
    return value if math.isfinite(value) else None
