"""What a site works with in a round: data, catalogue under the encoder, model.

A database is read once a round; what was read is loaded anew only if it changed or a
user was forgotten, and nothing of it leaves. A catalogue is refused in which a run's
items stand elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from client.cooccurrence import Cooccurrence, factors
from client.data import SiteData, load
from client.examples import UserExample, make_examples
from client.forgotten import forgotten_at
from client.head import FactorHead
from client.model import HybridModel
from client.prior import log_prior
from client.shared_prior import shared_prior
from client.site import Site
from client.sources.refresh import first_read, for_round
from client.sources.snapshot import current
from shared.activations import Activations
from shared.catalogue import Catalogue
from shared.encoder import TextEncoder, open_encoder
from shared.errors import DataError, LedgerBroken
from shared.popularity import order
from shared.protocol import COOCCURRENCE, Adapter, AdapterSpec, Array, RoundPlan

KEPT = 256  # sites whose data stay: 0.3 MiB, or 10 ms to load, for 20 users each


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Texts:
    """A catalogue's texts under an encoder: public, the same at every site.

    Attributes:
        encoder: The one that reads them.
        activations: Of the texts, in the catalogue's order.
        centre: Their frozen mean vector, [width].
    """

    encoder: TextEncoder
    activations: Activations
    centre: Tensor


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a site needs every round: its data, its catalogue under the encoder."""

    data: SiteData
    examples: list[UserExample]
    texts: Texts

    def __repr__(self) -> str:
        return "Workbench(...)"


def prepare(
    site: Site, plan: RoundPlan, adapter: Adapter
) -> tuple[HybridModel, list[UserExample]]:
    """Return the model as it stands before the round, and one example per user.

    Items that are new since the run began have no popularity yet, and factors as at the
    start.

    Raises:
        DataError: If the data cannot be used, or the run's items do not lead the
            catalogue in their order.
    """
    for_round(site.data, f"{plan.run}/{plan.number}", site.folder)
    bench = workbench(site, plan.spec)
    require_same_items(site, plan.run, bench.data.catalogue)
    texts = bench.texts
    texts.encoder.set_adapter(adapter)
    items = len(bench.data.catalogue)
    head = FactorHead(items, plan.recipe.factors, plan.recipe.seed)
    if plan.recipe.head == COOCCURRENCE:
        head.load(released_head(site, plan, items))
    elif (earlier := site.newest_head(plan.run, plan.number - 1)) is not None:
        head.load(grown(earlier, head.state()))
    prior = popularity_prior(site, plan, adapter)
    prior = np.pad(prior, (0, items - len(prior)))
    model = HybridModel(
        texts.encoder, texts.activations, texts.centre, head, prior, plan.recipe
    )
    return model, bench.examples


def require_same_items(site: Site, run: str, catalogue: Catalogue) -> None:
    """Keep the order of a run's items, and refuse a catalogue that does not begin so.

    Raises:
        DataError: If an item of the run is gone or stands elsewhere.
    """
    if trained_items(site, run, catalogue) is None:
        digest = np.frombuffer(order(catalogue.ids), np.uint8)
        now = {"count": np.array(len(catalogue)), "sha256": digest}
        site.keep(run, "items", now)


def trained_items(site: Site, run: str, catalogue: Catalogue) -> int | None:
    """Return how many items the run began with, or None before its first round.

    Head and popularity stand by an item's place: an item that moved would take over
    what another one learned.

    Raises:
        DataError: If an item of the run is gone or stands elsewhere.
    """
    kept = site.kept(run, "items")
    if kept is None:
        return None
    count = int(kept["count"])
    same = kept["sha256"].tobytes() == order(catalogue.ids[:count])
    if count > len(catalogue) or not same:
        raise DataError(
            f"run {run!r} began with {count} items that no longer lead the catalogue "
            f"of {len(catalogue)}; restore their order, or start a new run"
        )
    return count


def grown(kept: Mapping[str, Array], start: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors of a head kept for fewer items; the rest are as they start."""
    return {
        name: np.concatenate([array, start[name][len(array) :]])
        for name, array in kept.items()
    }


def popularity_prior(site: Site, plan: RoundPlan, adapter: Adapter) -> Array:
    """Return the log prior: of all sites' popularity if it is shared, else the site's.

    Args:
        site: Which released its own for the run.
        plan: Of any round of the run.
        adapter: The exchanged tensors, which may hold a shared popularity.

    Raises:
        LedgerBroken: If it was never released or its file is gone.
    """
    kept = site.kept(plan.run, "popularity")
    if kept is None:
        raise LedgerBroken(
            f"run {plan.run!r} has no released popularity at {site.folder}"
        )
    shared = shared_prior(site, plan, adapter)
    if shared is not None:
        return shared
    return log_prior(kept["popularity"], float(kept["sigma"]))


def released_head(site: Site, plan: RoundPlan, items: int) -> dict[str, Array]:
    """Return the head that the site's co-occurrence release of the run makes.

    Raises:
        LedgerBroken: If it was never released or its file is gone.
    """
    kept = site.kept(plan.run, "cooccurrence")
    if kept is None:
        raise LedgerBroken(
            f"run {plan.run!r} has no released co-occurrence at {site.folder}"
        )
    released = Cooccurrence(
        kept["items"].astype(np.int64), kept["gram"], float(kept["sigma"])
    )
    return factors(released, items, plan.recipe.factors, site.policy.users)


def workbench(site: Site, spec: AdapterSpec) -> Workbench:
    """Return data and catalogue under the encoder; loaded anew only if data change."""
    first_read(site.data, site.folder)
    state = current(site.data)
    number = state.number if state else 0
    stamp = (_files(site.data), number, forgotten_at(site.folder))
    asked = site.settings
    held = _held(
        *(site.data, site.cache, spec), *(asked.base, asked.device, asked.precision)
    )
    if held.bench is None or held.stamp != stamp:
        held.bench = None
        held.bench, held.stamp = _laid_out(site, spec), stamp
    return held.bench


def _files(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return what tells of every file that it is another one, or has changed."""
    found = ((f.name, f.stat()) for f in sorted(folder.iterdir()) if f.is_file())
    return [(name, s.st_mtime_ns, s.st_size, s.st_ino) for name, s in found]


@dataclass(slots=True)
class _Held:
    """The newest workbench of a site; what was loaded before does not stay."""

    stamp: object = None
    bench: Workbench | None = None

    def __repr__(self) -> str:
        return "_Held(...)"


@lru_cache(maxsize=KEPT)
def _held(*_of: Path | str | AdapterSpec) -> _Held:
    """Return where the workbench of a site, a base and an adapter is held."""
    return _Held()


def _laid_out(site: Site, spec: AdapterSpec) -> Workbench:
    """Read the data, and encode the catalogue or take it from the cache."""
    loaded = load(site.data, site.folder)
    texts = open_texts(site_encoder(site, spec), site.cache, loaded.catalogue.texts)
    return Workbench(loaded, make_examples(loaded.histories), texts)


_opened: WeakValueDictionary[tuple[TextEncoder, Path, tuple[str, ...]], Texts] = (
    WeakValueDictionary()
)


def open_texts(encoder: TextEncoder, cache: Path, texts: tuple[str, ...]) -> Texts:
    """Return texts under an encoder: read once in a process while anybody holds them.

    Args:
        encoder: The one that this process has for a base and a spec.
        cache: Folder of the activations of public texts.
        texts: Of a catalogue, in its order; all sites that have the same share them.
    """
    key = encoder, cache, texts
    opened = _opened.get(key)
    if opened is None:
        activations = encoder.open_store(cache).open(texts).to(encoder.device)
        opened = Texts(encoder, activations, encoder.frozen_mean(activations))
        _opened[key] = opened
    return opened


def site_encoder(site: Site, spec: AdapterSpec) -> TextEncoder:
    """Return the encoder that a site trains, one for each process."""
    asked = site.settings
    return open_encoder(asked.base, spec, device_of(asked.device), asked.precision)


def device_of(wanted: str) -> str:
    """Return the device for ``auto``: CUDA, else Apple's GPU, else the CPU."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
