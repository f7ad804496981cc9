"""One round at a site: policy, charge, data, training, door; in this order.

Nothing is read before the policy agrees, nothing is trained before the ledger holds the
charge durably, nothing leaves but what ``client/egress.py`` seals.
"""

import hashlib
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from client.cooccurrence import looked_at, release_cooccurrence
from client.egress import release_metric_value, release_update
from client.examples import UserExample
from client.heap import keep_freed_memory
from client.metric import NAME, release_metric
from client.model import HybridModel
from client.noise import SecretStreams, insecure_streams, secret_streams
from client.policy import (
    Circumstances,
    require_allowed,
    require_one_popularity,
    require_shapes,
    require_start,
)
from client.prior import release_popularity
from client.shared_prior import require_same_catalogue, shared_change
from client.site import PLAN, Site, round_name
from client.standing import require_taking_part
from client.train import train_round
from client.version import hold
from client.workbench import prepare, site_encoder, workbench
from shared.accounting import GaussianEvent
from shared.adapter import subtract
from shared.code import code_digest
from shared.encoder import base_digest
from shared.errors import EgressRefused, LedgerBroken, PolicyRefused, RoundError
from shared.ledger import Ledger
from shared.limits import EVERYBODY
from shared.popularity import encoder_part
from shared.protocol import (
    COOCCURRENCE,
    Adapter,
    AdapterUpdate,
    Array,
    MetricRelease,
    Reply,
    RoundPlan,
)
from shared.sealing import metric_from_bytes, update_from_bytes
from shared.witness import Witness

PROBED = 16  # texts whose vectors must move


def answer(
    site: Site, plan: RoundPlan, adapter: Adapter, seen: Witness | None = None
) -> Reply:
    """Follow the plan and return all that leaves.

    Guarantee: everything in the reply is a function of Gaussian releases that stand in
    the ledger before the data is touched, and of the ledger's own signed end. Asked
    again for a sealed round, the site sends the same bytes and spends nothing.

    Args:
        site: Whose policy, ledger and data decide.
        plan: What the server asks.
        adapter: The global adapter that the round starts from.
        seen: The newest end of this site's ledger that the server knows of.

    Raises:
        PrivacyError: If policy, budget, ledger or door refuse.
    """
    keep_freed_memory()
    require_taking_part(site.folder, plan.number)
    require_allowed(plan, site.policy, circumstances(site))
    require_start(adapter, site.policy)
    encoder = site_encoder(site, plan.spec)
    require_shapes(plan, encoder.shapes())
    require_one_popularity(plan)
    if seen is not None and not site.ledger.exists():
        raise LedgerBroken(
            f"ledger {site.ledger} is missing, but the server has seen "
            f"{seen.entries} entries of it: restore its newest copy"
        )
    ledger = site.open_ledger()
    with ledger.alone():
        if seen is not None:
            ledger.require_witnessed(seen)
        hold(site, plan, adapter)
        update, metric = _sealed_earlier(site, ledger, plan) or _train(
            site, ledger, plan, adapter
        )
        return Reply(update=update, metric=metric, witness=ledger.witness())


def circumstances(site: Site) -> Circumstances:
    """Return what a plan is held against beside the policy."""
    return Circumstances(
        site=site.settings.name,
        base=base_digest(site.settings.base),
        code=code_digest(),
        now=datetime.now().astimezone().time(),
    )


def _train(
    site: Site, ledger: Ledger, plan: RoundPlan, adapter: Adapter
) -> tuple[AdapterUpdate, MetricRelease | None]:
    """Charge, train, and let the noised change out; the metric comes first."""
    _require_constant(ledger, plan)
    site.keep_bytes(plan.run, PLAN, plan.to_json().encode())
    _charge_prior(site, ledger, plan)
    if plan.recipe.head == COOCCURRENCE:
        _charge_head(site, ledger, plan)
    measured = _charge_metric(ledger, plan)
    planned = _charge(
        ledger, plan, "training", plan.mechanism.sigma, steps=plan.mechanism.steps
    )
    model, examples = prepare(site, plan, adapter)
    metric = _measure(site, ledger, plan, measured, model, examples)
    before = _probe(model)
    train_round(
        model,
        examples,
        plan.mechanism,
        users=site.policy.users,
        streams=_streams(site, plan, "training"),
        key=_round_key(site, plan),
    )
    if torch.equal(_probe(model), before):
        raise EgressRefused("training did not move the encoder's output")
    delta = {
        **subtract(model.encoder.adapter(), encoder_part(adapter)),
        **shared_change(site, plan, adapter),
    }
    site.keep(plan.run, round_name(plan, "head"), model.head.state())
    return release_update(site, ledger, plan, planned, delta), metric


def _require_constant(ledger: Ledger, plan: RoundPlan) -> None:
    """Refuse a mechanism other than that of the run's earlier rounds.

    Epsilon is composed as if all parameters were fixed in advance; were they chosen
    after looking at earlier updates, that would not bound it (PRIVACY.md 3.3).

    Raises:
        PolicyRefused: If q, sigma, clip or steps changed within the run.
    """
    noise = plan.mechanism
    now = (noise.q, noise.sigma, noise.clip, noise.steps)
    for entry in ledger.entries():
        body = entry.body
        if entry.state == "planned" and body["run"] == plan.run:
            then = (body["q"], body["sigma"], body["clip"], body["steps"])
            if body["what"] == "training" and noise.sigma and then != now:
                raise PolicyRefused(
                    f"round {plan.number} refused: run {plan.run!r} began with (q, "
                    f"sigma, clip, steps) = {then}, not {now}; start a new run"
                )


def _probe(model: HybridModel) -> Tensor:
    """Return the vectors of the catalogue's first texts, which are public."""
    return model.text_vectors(PROBED)


def _charge_metric(ledger: Ledger, plan: RoundPlan) -> int | None:
    """Charge the metric that the plan asks for, if it does."""
    sigma = plan.mechanism.metric_sigma
    return _charge(ledger, plan, "metrics", sigma, steps=1) if sigma else None


def _measure(
    site: Site,
    ledger: Ledger,
    plan: RoundPlan,
    planned: int | None,
    model: HybridModel,
    examples: list[UserExample],
) -> MetricRelease | None:
    """Release the metric of the model as the round finds it, if it was charged."""
    if planned is None:
        return None
    value = release_metric(
        model,
        examples,
        plan.mechanism,
        users=site.policy.users,
        streams=_streams(site, plan, "metrics"),
    )
    return release_metric_value(site, ledger, plan, planned, NAME, value)


def _sealed_earlier(
    site: Site, ledger: Ledger, plan: RoundPlan
) -> tuple[AdapterUpdate, MetricRelease | None] | None:
    """Return what was already sealed for this round, if the update was.

    Raises:
        PolicyRefused: If the round was sealed under another plan.
        LedgerBroken: If the stored bytes are not those that the ledger sealed.
    """
    content = _sealed_bytes(site, ledger, plan, "training", "update")
    if content is None:
        return None
    update = _of_this_plan(content, plan)
    measured = _sealed_bytes(site, ledger, plan, "metrics", "metric")
    return update, metric_from_bytes(measured) if measured is not None else None


def _of_this_plan(content: bytes, plan: RoundPlan) -> AdapterUpdate:
    """Return the update in bytes that the ledger sealed, if it answers this plan."""
    with suppress(RoundError):  # tensors of another plan, or in another form
        update = update_from_bytes(content, plan.shapes)
        if update.plan == plan.digest():
            return update
    raise PolicyRefused(
        f"round {plan.number} of run {plan.run!r} is sealed under another plan; "
        "start a new run"
    )


def _sealed_bytes(
    site: Site, ledger: Ledger, plan: RoundPlan, what: str, name: str
) -> bytes | None:
    """Return the kept bytes of a release if they are those that the ledger sealed."""
    sealed = ledger.sealed_for(plan.run, plan.number, what)
    content = site.kept_bytes(plan.run, round_name(plan, name))
    if sealed is None or content is None:
        return None
    if hashlib.sha256(content).hexdigest() != sealed.body["sha256"]:
        raise LedgerBroken(
            f"the stored {name} of round {plan.number} of run {plan.run!r} is not the "
            "one that the ledger sealed; restore it, or start a new run"
        )
    return content


def _charge(
    ledger: Ledger, plan: RoundPlan, what: str, sigma: float, *, steps: int
) -> int:
    """Write the spend durably, return its entry's number; sigma 0 charges infinity."""
    if sigma == 0:
        return ledger.plan_unprotected(
            run=plan.run, number=plan.number, what=what, plan_digest=plan.digest()
        )
    q = 1.0 if what in EVERYBODY else plan.mechanism.q
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
    """Release the site's popularity for this run, unless that was done.

    A popularity that is shared for another catalogue is refused before the charge.
    """
    if site.kept(plan.run, "popularity") is not None:
        return
    require_same_catalogue(site, plan)
    sigma = plan.mechanism.prior_sigma
    if sigma == 0 < plan.mechanism.sigma:
        _keep_flat_prior(site, plan)
        return
    planned = _charge(ledger, plan, "popularity", sigma, steps=1)
    bench = workbench(site, plan.spec)
    released = release_popularity(
        bench.examples,
        len(bench.data.catalogue),
        sigma,
        _streams(site, plan, "popularity").noise,
    )
    kept = {"popularity": released, "sigma": np.array(sigma, np.float32)}
    content = save(kept)
    site.keep_bytes(plan.run, "popularity", content)
    ledger.sealed(planned, content=content, tensors=sorted(kept), leaves=False)


def _keep_flat_prior(site: Site, plan: RoundPlan) -> None:
    """Keep a prior that says nothing: the plan asks for no release."""
    catalogue = workbench(site, plan.spec).data.catalogue
    flat = {
        "popularity": np.zeros(len(catalogue), np.float32),
        "sigma": np.zeros((), np.float32),
    }
    site.keep_bytes(plan.run, "popularity", save(flat))


def _charge_head(site: Site, ledger: Ledger, plan: RoundPlan) -> None:
    """Release the co-occurrence that the run's head is made of, unless that was done.

    Without a release the head says nothing.
    """
    if site.kept(plan.run, "cooccurrence") is not None:
        return
    sigma = plan.mechanism.head_sigma
    if sigma == 0 < plan.mechanism.sigma:
        site.keep_bytes(plan.run, "cooccurrence", save(_nothing()))
        return
    planned = _charge(ledger, plan, "cooccurrence", sigma, steps=1)
    bench = workbench(site, plan.spec)
    popular = site.kept(plan.run, "popularity") or {}
    released = release_cooccurrence(
        bench.examples,
        popular["popularity"],
        looked_at(site.policy.users, sigma, plan.recipe.head_items),
        sigma,
        _streams(site, plan, "cooccurrence").noise,
    )
    kept: dict[str, Any] = {
        "items": released.items,
        "gram": released.gram,
        "sigma": np.array(sigma, np.float32),
    }
    content = save(kept)
    site.keep_bytes(plan.run, "cooccurrence", content)
    ledger.sealed(planned, content=content, tensors=sorted(kept), leaves=False)


def _nothing() -> dict[str, Array]:
    """Return a release about no item at all."""
    nothing = np.zeros((0, 0), np.float32)
    return {
        "items": nothing[0:0, 0],
        "gram": nothing,
        "sigma": np.zeros((), np.float32),
    }


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
