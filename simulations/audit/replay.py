"""Neighbour replay: the same round with and without one user, and nothing else changed.

The noise stream is silent here, so what the optimiser is handed is the very sum that a
real round hides. All else that is drawn is public or one user's own, and stays the same
whoever else is there: what moves must be that user's, and at most ``clip`` long
(PRIVACY.md 7.5). Nothing here is left to chance, and no real user's data is read.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client import train
from client.model import HybridModel
from client.reach import BETAS
from simulations.audit.finding import Finding
from simulations.audit.neighbours import (
    BAD,
    ITEMS,
    MECHANISM,
    MOVING,
    ORDERS,
    SLACK,
    STILL,
    Site,
    Spoiled,
    by_hooks,
    covers,
    liked,
    make_site,
    put,
    room_for,
    tensors_on,
    trained,
)
from simulations.audit.observe import Step
from simulations.audit.subject import make_model


def replay(cache: Path) -> list[Finding]:
    """Return what adding and removing single users shows.

    A softmax is rounded by how many users share a product, and where a draw of the data
    order lies on a rounded edge a user gets another negative: by our count under fewer
    than one data order in 100. In bfloat16 a number on a rounded edge counts for more:
    under 20 orders one reached ``SLACK``. A leak shows under every order, so a failure
    counts when it comes under three.

    Args:
        cache: Folder of the activations.
    """
    model = make_model(cache, items=ITEMS, recipe=STILL)
    rounded = make_model(cache, items=ITEMS, recipe=STILL, training="bfloat16")
    hooked = by_hooks(model, cache)
    findings: list[Finding] = []
    for order in ORDERS:
        small = make_site(model, order, scale=0.1, clip=0.3)
        sites = [
            small,
            make_site(model, order, scale=1.0, clip=0.01),
            make_site(model, order, scale=3.0, clip=100.0),
            make_site(rounded, order, scale=0.3, clip=0.01),
            make_site(hooked, order, scale=0.3, clip=0.01),
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
    spoiler = liked("spoiler", [BAD] * 8)
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
    silent = [liked(f"silent {n}", []) for n in range(30)]
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
        with room_for(users, site.model):
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
    missing = sum(not covers(s, site.start) for trace in traces for s in trace.steps)
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
    site = make_site(model, order, scale=0.1, clip=0.3)
    put(twin, site.start)
    seen = site.run(site.everyone()).steps
    off = [_off(twin, step.parameters) for step in _led(twin, seen)]
    off.append(_off(twin, [tensor.detach() for tensor in trained(model)]))
    likes = [history.items[:9] for history in site.histories]
    off.append(float(np.abs(model.score(likes) - twin.score(likes)).max()))
    kept = sorted({name for p in trained(model) for name in tensors_on(p)})
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
        if not covers(step, weights):
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


def _longest(vectors: Tensor) -> float:
    """Return the largest L2 norm among ``vectors`` [n, d]; NaN if one is NaN."""
    return float(vectors.norm(dim=1).max())


def _figure(value: float) -> float | None:
    """Return a number that JSON knows, or nothing."""
    return value if math.isfinite(value) else None
