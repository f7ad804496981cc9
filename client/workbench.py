"""What a site works with in a round: data, catalogue under the encoder, model.

Read anew only if the site's files change; nothing of it leaves.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from client.data import SiteData, load
from client.examples import UserExample, make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.prior import log_prior
from client.site import Site
from shared.activations import Activations
from shared.encoder import TextEncoder, open_encoder
from shared.errors import LedgerBroken
from shared.protocol import Adapter, AdapterSpec, Array, RoundPlan


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
    files = site.data.iterdir() if site.data.is_dir() else ()
    stamp = max((f.stat().st_mtime_ns for f in files), default=0)
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
    encoder = open_encoder(base, spec, device_of(device))
    activations = encoder.open_store(cache).open(loaded.catalogue.texts)
    centre = encoder.frozen_mean(activations)
    return Workbench(
        loaded, make_examples(loaded.histories), encoder, activations, centre
    )


def device_of(wanted: str) -> str:
    """Return the device for ``auto``: CUDA, else Apple's GPU, else the CPU."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
