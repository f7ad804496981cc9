"""One round at a site: policy, charge, data, training, door; in this order.

Nothing is read before the policy agrees, nothing is trained before the ledger holds the
charge durably, nothing leaves but what ``client/egress.py`` seals.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client.data import SiteData, load
from client.egress import seal
from client.examples import UserExample, make_examples
from client.head import FactorHead
from client.heap import keep_freed_memory
from client.model import HybridModel
from client.noise import SecretStreams, insecure_streams, secret_streams
from client.policy import require_allowed
from client.prior import log_prior, release_popularity
from client.site import Site, round_name
from client.train import train_round
from shared.accounting import GaussianEvent
from shared.activations import Activations
from shared.adapter import subtract
from shared.encoder import TextEncoder, base_digest, open_encoder
from shared.errors import LedgerBroken, PolicyRefused
from shared.ledger import Ledger
from shared.protocol import Adapter, AdapterSpec, AdapterUpdate, Array, RoundPlan
from shared.wire import sealed_bytes, update_from_bytes


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a site needs every round: its data, its catalogue under the encoder."""

    data: SiteData
    examples: list[UserExample]
    encoder: TextEncoder
    activations: Activations
    centre: Tensor

    def __repr__(self) -> str:
        return "Workbench(...)"


def answer(site: Site, plan: RoundPlan, adapter: Adapter) -> AdapterUpdate:
    """Follow the plan and return the sealed update.

    Guarantee: everything in the update is a function of Gaussian releases that stand in
    the ledger before the data is touched. Asked again for a sealed round, the site
    sends the same bytes and spends nothing.

    Raises:
        PrivacyError: If policy, budget, ledger or door refuse.
    """
    keep_freed_memory()
    require_allowed(
        plan, site.policy, site.settings.name, base_digest(site.settings.base)
    )
    ledger = site.open_ledger()
    earlier = _sealed_earlier(site, ledger, plan)
    if earlier is not None:
        return earlier
    _charge_prior(site, ledger, plan)
    planned = _charge(
        ledger, plan, "training", plan.mechanism.sigma, steps=plan.mechanism.steps
    )
    model, examples = prepare(site, plan, adapter)
    train_round(
        model,
        examples,
        plan.mechanism,
        users=site.policy.users,
        streams=_streams(site, plan, "training"),
        key=_round_key(site, plan),
    )
    delta = subtract(model.encoder.adapter(), adapter)
    update = seal(delta, plan, site=site.settings.name, ledger_head=ledger.head())
    content = sealed_bytes(update)
    site.keep_bytes(plan.run, round_name(plan, "update"), content)
    site.keep(plan.run, round_name(plan, "head"), model.head.state())
    ledger.sealed(
        planned, run=plan.run, number=plan.number, content=content, tensors=list(delta)
    )
    return update


def prepare(
    site: Site, plan: RoundPlan, adapter: Adapter
) -> tuple[HybridModel, list[UserExample]]:
    """Return the model as it stands before the round, and one example per user."""
    bench = workbench(site, plan.spec)
    bench.encoder.set_adapter(adapter)
    head = FactorHead(len(bench.data.catalogue), plan.recipe.factors, plan.recipe.seed)
    earlier = site.newest_head(plan.run, plan.number - 1)
    if earlier is not None:
        head.load(earlier)
    prior = popularity_prior(site, plan.run)
    model = HybridModel(
        bench.encoder, bench.activations, bench.centre, head, prior, plan.recipe
    )
    return model, bench.examples


def popularity_prior(site: Site, run: str) -> Array:
    """Return the log prior from the popularity that the site released for a run.

    Raises:
        LedgerBroken: If it was never released or its file is gone.
    """
    kept = site.kept(run, "popularity")
    if kept is None:
        raise LedgerBroken(f"run {run!r} has no released popularity at {site.folder}")
    return log_prior(kept["popularity"], float(kept["sigma"]))


def workbench(site: Site, spec: AdapterSpec) -> Workbench:
    """Return data and catalogue under the encoder; read anew only if files change."""
    stamp = max((f.stat().st_mtime_ns for f in site.data.iterdir()), default=0)
    return _workbench(
        site.data, stamp, site.cache, site.settings.base, spec, site.settings.device
    )


@lru_cache(maxsize=32)
def _workbench(
    data: Path, stamp: int, cache: Path, base: str, spec: AdapterSpec, device: str
) -> Workbench:
    """Read and encode once per state of the files; ``stamp`` is part of the key."""
    del stamp
    loaded = load(data)
    encoder = open_encoder(base, spec, _device(device))
    activations = encoder.open_store(cache).open(loaded.catalogue.texts)
    centre = encoder.frozen_mean(activations)
    return Workbench(
        loaded, make_examples(loaded.histories), encoder, activations, centre
    )


def _device(wanted: str) -> str:
    """Return the device for ``auto``: CUDA, else Apple's GPU, else the CPU."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _sealed_earlier(
    site: Site, ledger: Ledger, plan: RoundPlan
) -> AdapterUpdate | None:
    """Return the update already sealed for this round, if any.

    Raises:
        PolicyRefused: If the round was sealed under another plan.
        LedgerBroken: If the stored bytes are not those that the ledger sealed.
    """
    sealed = ledger.sealed_for(plan.run, plan.number)
    content = site.kept_bytes(plan.run, round_name(plan, "update"))
    if sealed is None or content is None:
        return None
    if hashlib.sha256(content).hexdigest() != sealed.body["sha256"]:
        raise LedgerBroken(
            f"the stored update of round {plan.number} of run {plan.run!r} is not the "
            "one that the ledger sealed; restore it, or start a new run"
        )
    update = update_from_bytes(content)
    if update.plan != plan.digest():
        raise PolicyRefused(
            f"round {plan.number} of run {plan.run!r} is sealed under another plan; "
            "start a new run"
        )
    return update


def _charge(
    ledger: Ledger, plan: RoundPlan, what: str, sigma: float, *, steps: int
) -> int:
    """Write the spend durably, return its entry's number; sigma 0 charges infinity."""
    if sigma == 0:
        return ledger.plan_unprotected(
            run=plan.run, number=plan.number, what=what, plan_digest=plan.digest()
        )
    q = plan.mechanism.q if what == "training" else 1.0
    clip = plan.mechanism.clip if what == "training" else 1.0
    return ledger.plan(
        run=plan.run,
        number=plan.number,
        what=what,
        event=GaussianEvent(q=q, sigma=sigma, steps=steps),
        clip=clip,
        plan_digest=plan.digest(),
    )


def _charge_prior(site: Site, ledger: Ledger, plan: RoundPlan) -> None:
    """Release the site's popularity for this run, unless that was done."""
    if site.kept(plan.run, "popularity") is not None:
        return
    sigma = plan.mechanism.prior_sigma
    _charge(ledger, plan, "popularity", sigma, steps=1)
    bench = workbench(site, plan.spec)
    released = release_popularity(
        bench.examples,
        len(bench.data.catalogue),
        sigma,
        _streams(site, plan, "popularity").noise,
    )
    kept = {"popularity": released, "sigma": np.array(sigma, np.float32)}
    site.keep(plan.run, "popularity", kept)


def _streams(site: Site, plan: RoundPlan, what: str) -> SecretStreams:
    """Return the operating system's streams.

    Seeded ones, so that a run can be repeated, only where nothing is promised: the
    policy says insecure-test-noise, or sets no finite budget.
    """
    if site.policy.private and not site.policy.insecure_test_noise:
        return secret_streams()
    return insecure_streams(*_round_key(site, plan), len(what))


def _round_key(site: Site, plan: RoundPlan) -> list[int]:
    """Return public numbers that name the site's round for seeded streams."""
    return [plan.recipe.seed, plan.number, *site.settings.name.encode()]
