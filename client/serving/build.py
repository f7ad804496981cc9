"""From a site's folder to what it serves: release, head, prior and catalogue, joined.

The item vectors of a release are computed once, kept in ``serving/vectors`` and
memory-mapped, so that all workers of a site share them. What a release lacks at this
site is left out and said in a note; what cannot be believed is refused.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy
from filelock import FileLock
from safetensors import SafetensorError

from client.data import SiteData, load
from client.head import FactorHead
from client.model import HybridModel
from client.releases import current
from client.serving.expected import expectation
from client.serving.model import Blocks, Mask, Served
from client.site import PLAN, Site
from client.workbench import device_of, grown, popularity_prior, trained_items
from shared.adapter import digest
from shared.catalogue import Catalogue
from shared.encoder import TextEncoder, load_base
from shared.errors import DataError, ModelError
from shared.protocol import Adapter, AdapterSpec, Array, Recipe, kept_plan
from shared.release import (
    RULE_STATE,
    WEIGHTS,
    file_digests,
    read_manifest,
    read_spec,
    require_files,
    trained,
)

FOLDER = "serving"
KEPT_VECTORS = 3  # newest files of item vectors that stay
FROZEN = "frozen"  # what is served before the first release


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which adapter is served.

    Attributes:
        name: Such as ``spring/3``; ``frozen`` before the first release.
        run: Its run; empty for none.
        number: Its round; 0 for none.
        spec: Which LoRA.
        adapter: Its trained tensors; empty for the frozen encoder.
    """

    name: str
    run: str
    number: int
    spec: AdapterSpec
    adapter: Adapter


@dataclass(frozen=True, slots=True)
class Built:
    """A release as one site serves it, with what encodes new texts alike.

    Attributes:
        served: What is ranked with.
        encoder: With the release's adapter; of this very release alone.
        centre: The catalogue's frozen mean vector [width], taken off every text.
        data: The site's own data.
        kept: File of the item vectors.
    """

    served: Served
    encoder: TextEncoder
    centre: Array
    data: SiteData
    kept: Path
    _added: dict[str, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Built({self.served.release!r})"

    def vectors(self, texts: Sequence[str]) -> Array:
        """Return centred unit vectors [n, width] of texts that are new.

        A text is encoded once, however often it comes.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._added]
        made = centred(self.encoder.encode(new), self.centre)
        self._added.update(zip(new, made, strict=True))
        return np.stack([self._added[text] for text in texts])

    def towards(self, words: str) -> Array:
        """Return the centred unit vector [width] of a few words; they are not kept."""
        [reading] = self.encoder.read([words])
        whole = centred(self.encoder.meaning(reading)[None], self.centre)
        vector: Array = whole[0]
        return vector


def chosen(site: Site, release: Path | None = None) -> Chosen:
    """Return the release in force, or the one in a folder that the operator names.

    Args:
        site: Whose releases.
        release: A release's folder that no operator signed, such as a simulation's
            ``adapter``; its digests are checked, its origin is not.

    Raises:
        ModelError: If it is damaged or not of this site's encoder.
        ConfigError: If what names the release in force cannot be read.
    """
    folder = release or current(site)
    base = load_base(site.settings.base)
    if folder is None:
        return Chosen(FROZEN, "", 0, AdapterSpec(base=base.digest), {})
    manifest = read_manifest(folder)
    found = file_digests(folder)
    found.setdefault(RULE_STATE, manifest["rule_state"])  # which stays at the server
    require_files(found, manifest)
    spec = read_spec(manifest)
    if spec.base != base.digest:
        raise ModelError(
            f"release {folder} is of the encoder {spec.base[:16]}..., and this site "
            f"has {base.digest[:16]}...: give its encoder as 'base' in site.toml"
        )
    name = f"{manifest['run']}/{manifest['round']}"
    try:
        tensors = trained(safetensors.numpy.load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"release {folder} is damaged: {WEIGHTS} cannot be read "
            f"({type(error).__name__})"
        ) from None
    return Chosen(name, manifest["run"], manifest["round"], spec, tensors)


def build(site: Site, choice: Chosen) -> Built:
    """Join a release with the site's data, head and prior.

    Raises:
        InputError: If data, release or encoder cannot be used.
        LedgerBroken: If what the site keeps of the run is damaged.
    """
    data = load(site.data, site.folder)
    asked = site.settings
    encoder = TextEncoder(
        load_base(asked.base),
        choice.spec,
        device=device_of(asked.device),
        precision="auto",
        training=asked.precision,
    )
    if choice.adapter:
        encoder.set_adapter(choice.adapter)
    kept = _kept_vectors(site, encoder, data.catalogue, choice)
    rows: Array = np.load(kept, mmap_mode="r")
    vectors, centre = rows[:-1], np.array(rows[-1])
    own = _local(site, choice, data.catalogue)
    served = Served(
        release=choice.name,
        digest=_digest(data.catalogue, vectors, own.factors, own.prior),
        catalogue=data.catalogue,
        vectors=Blocks((vectors,)),
        factors=Blocks((own.factors,)),
        prior=_expected(vectors, own.prior, own.fresh),
        fresh=own.fresh,
        recipe=own.recipe,
        width=encoder.width,
        notes=own.notes,
    )
    return Built(served, encoder, centre, data, kept)


def centred(vectors: Array, centre: Array) -> Array:
    """Return unit vectors [n, width] after the catalogue's mean was taken off."""
    off = vectors - centre
    lengths = np.linalg.norm(off, axis=1, keepdims=True)
    made: Array = (off / np.maximum(lengths, 1e-12)).astype(np.float32)
    return made


def _kept_vectors(
    site: Site, encoder: TextEncoder, catalogue: Catalogue, choice: Chosen
) -> Path:
    """Return the file of item vectors [n, width] and, as its last row, their centre."""
    folder = site.folder / FOLDER / "vectors"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{vectors_key(choice, catalogue)}.npy"
    with FileLock(folder / "lock"):
        if not path.exists():
            _write_vectors(path, _encoded(site, encoder, catalogue))
            _tidy(folder)
        os.utime(path)
    return path


def vectors_key(choice: Chosen, catalogue: Catalogue) -> str:
    """Return the name of the file with a release's item vectors."""
    said = [asdict(choice.spec), digest(choice.adapter), catalogue.texts]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _encoded(site: Site, encoder: TextEncoder, catalogue: Catalogue) -> Array:
    """Return all item vectors, and as the last row the centre."""
    stored = encoder.open_store(site.cache).open(catalogue.texts)
    activations = stored.to(encoder.device)
    centre = encoder.frozen_mean(activations)
    nothing, recipe = np.zeros(len(catalogue), np.float32), Recipe(factors=1)
    head = FactorHead(len(catalogue), 1, 0)
    model = HybridModel(encoder, activations, centre, head, nothing, recipe)
    rows = model.item_rows()[:, : encoder.width].cpu().numpy()
    return np.vstack([rows, centre.cpu().numpy()])


def _write_vectors(path: Path, rows: Array) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        np.save(file, rows)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _tidy(folder: Path) -> None:
    """Delete the oldest files; who has one mapped keeps it until it ends."""
    files = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
    for path in files[:-KEPT_VECTORS]:
        path.unlink(missing_ok=True)
        path.with_suffix(".faiss").unlink(missing_ok=True)


def _expected(vectors: Array, prior: Array, fresh: Mask) -> Array:
    """Return the prior, with what their texts let expect for items that are fresh."""
    if not fresh.any() or fresh.all():
        return prior
    known = expectation((vectors,), prior, ~fresh)
    whole = prior.copy()
    whole[fresh] = known.of(vectors[fresh])
    return whole


@dataclass(frozen=True, slots=True)
class _Local:
    """What a site itself adds to a release: factors [n, f + 1], prior [n], and more."""

    factors: Array
    prior: Array
    fresh: Mask
    recipe: Recipe
    notes: tuple[str, ...]


def _local(site: Site, choice: Chosen, catalogue: Catalogue) -> _Local:
    """Return what this site learned in the release's run, or why it is left out."""
    if choice.name == FROZEN:
        return _text_alone(
            catalogue, "no release yet: the frozen encoder's texts alone"
        )
    plan = site.kept_bytes(choice.run, PLAN)
    try:
        count = trained_items(site, choice.run, catalogue)
    except DataError as error:
        return _text_alone(catalogue, f"texts alone: {error}")
    if plan is None or count is None:
        return _text_alone(
            catalogue, f"this site took no part in run {choice.run!r}: texts alone"
        )
    asked = kept_plan(plan.decode())
    recipe = asked.recipe
    head = FactorHead(count, recipe.factors, recipe.seed).state()
    learned = site.newest_head(choice.run, choice.number)
    if learned is not None:
        head = {name: array[:count] for name, array in grown(learned, head).items()}
    later = len(catalogue) - count
    factors = np.hstack([head["factors.weight"], head["biases.weight"]])
    prior = popularity_prior(site, asked, choice.adapter)[:count] * recipe.prior_weight
    return _Local(
        factors=np.pad(factors, ((0, later), (0, 0))).astype(np.float32),
        prior=np.pad(prior, (0, len(catalogue) - len(prior))).astype(np.float32),
        fresh=np.arange(len(catalogue)) >= count,
        recipe=recipe,
        notes=(),
    )


def _text_alone(catalogue: Catalogue, note: str) -> _Local:
    """Return what adds nothing; then no item is newer than another."""
    recipe, items = Recipe(), len(catalogue)
    nothing = np.zeros((items, recipe.factors + 1), np.float32)
    flat, none = np.zeros(items, np.float32), np.zeros(items, np.bool_)
    return _Local(nothing, flat, none, recipe, (note,))


def _digest(catalogue: Catalogue, *arrays: Array) -> str:
    """Return the SHA-256 of all that decides a score."""
    attributes = sorted(catalogue.attributes.items())
    said = json.dumps([catalogue.ids, catalogue.texts, attributes])
    whole = hashlib.sha256(said.encode())
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
