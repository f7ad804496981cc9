"""A site of any size without encoding a text: vectors that lie as texts' vectors do.

Nothing in it describes anybody. Texts, attributes and histories are generated; each
item's vector is drawn, 2,000 clusters in 48 directions plus noise, and lies where
``tacit site serve`` keeps what it encoded. Only requests meet the real encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.data import SiteData, UserHistory, load, save
from client.policy import SitePolicy
from client.policy_file import policy_text
from client.prior import log_prior
from client.serving.build import FOLDER, chosen, vectors_key
from client.serving.model import Ints
from client.serving.settings import FILE as SERVING
from client.site import PLAN, Site, SiteSettings, open_site, settings_text
from client.workbench import require_same_items
from server.registry import Registry
from shared.catalogue import Catalogue
from shared.encoder import TextEncoder, base_digest, load_base
from shared.protocol import AdapterSpec, Array, Mechanism, Recipe, RoundPlan
from shared.start import write_start
from simulations.phrases import CREATORS, MOODS, THEMES, TITLE_FIRST, TITLE_LAST

CLUSTERS, LATENT, SPREAD, NOISE = 2000, 48, 0.5, 0.3
FAVOURITES, STRAY = 3, 10  # clusters that a user likes, and items anywhere
LIKES = (10, 60)  # of each user, the second excluded
SIGMA = 4.0  # of the released popularity
RUN, SITE = "bench", "bench"
YEARS = (1950, 2026)
FIRST = 1_700_000_000  # epoch seconds of the first event
SETTINGS = """\
explore = 0.0
adapt = false
requests-per-minute = 10000000
"""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Synthetic:
    """A generated site, and all that an exact scan needs to know of it.

    Attributes:
        folder: Of the site.
        release: Of the adapter that it serves.
        data: Its catalogue and users.
        encoder: With that adapter, in plain float32.
        centre: Taken off every text's vector, [width].
        vectors: Of the items' texts, [n, width].
        factors: Of the head, then its bias, [n, f + 1].
        prior: Log prior, [n].
        recipe: Scales of the score.
    """

    folder: Path
    release: Path
    data: SiteData
    encoder: TextEncoder
    centre: Array
    vectors: Array
    factors: Array
    prior: Array
    recipe: Recipe

    def __repr__(self) -> str:
        return f"Synthetic({self.data.catalogue!r})"


def synthetic(
    folder: Path, *, items: int, users: int, base: str, rng: np.random.Generator
) -> Synthetic:
    """Write a site that serves at once, with its release; return what is in it.

    Args:
        folder: Empty; the site is ``folder/site``.
        items: Of the catalogue.
        users: With a history each.
        base: Encoder of the requests.
        rng: Decides everything.
    """
    cluster = rng.integers(CLUSTERS, size=items)
    made = SiteData(catalogue_of(cluster, rng), _users(users, cluster, rng))
    site = _folder(folder / "site", made, base)
    data = load(site.data, site.folder)
    encoder = TextEncoder(load_base(base), AdapterSpec(base=base_digest(base)))
    centre = encoder.encode(data.catalogue.texts[: CLUSTERS // 8]).mean(0)
    plan = _plan(encoder)
    release = _release(folder, base, plan, rng)
    factors, prior = _trained(site, plan, data.catalogue, cluster, rng)
    vectors = _vectors(cluster, encoder.width, rng)
    choice = chosen(site, release)
    encoder.set_adapter(choice.adapter)
    place = site.folder / FOLDER / "vectors"
    place.mkdir(mode=0o700, parents=True)
    name = vectors_key(choice, data.catalogue)
    np.save(place / f"{name}.npy", np.vstack([vectors, centre]))
    return Synthetic(
        folder=site.folder,
        release=release,
        data=data,
        encoder=encoder,
        centre=centre,
        vectors=vectors,
        factors=factors,
        prior=prior,
        recipe=plan.recipe,
    )


def catalogue_of(cluster: Ints, rng: np.random.Generator) -> Catalogue:
    """Return items that the clusters name the theme of, no two with one text."""
    count = len(cluster)
    first, last = rng.choice(TITLE_FIRST, count), rng.choice(TITLE_LAST, count)
    theme, mood = [THEMES[c % len(THEMES)] for c in cluster], rng.choice(MOODS, count)
    year, story = rng.integers(*YEARS, count), rng.integers(1 << 30, size=count)
    maker = rng.choice(CREATORS, count)
    return Catalogue(
        ids=tuple(f"item-{n}" for n in range(count)),
        texts=tuple(
            f"{first[n]} {last[n]} {n} ({year[n]}), by {maker[n]}: "
            f"{theme[n].stories[story[n] % len(theme[n].stories)]}"
            for n in range(count)
        ),
        attributes={
            "theme": tuple((each.name,) for each in theme),
            "mood": tuple((str(each),) for each in mood),
            "maker": tuple((str(each),) for each in maker),
            "year": tuple((str(each),) for each in year),
        },
    )


def _folder(folder: Path, data: SiteData, base: str) -> Site:
    """Write a site's folder with its data, settings and policy."""
    save(folder / "data", data)
    settings = SiteSettings(name=SITE, base=base, device="cpu")
    policy = SitePolicy(epsilon=8.0, users=max(10, round(len(data.histories), -1)))
    (folder / "site.toml").write_text(settings_text(settings), "utf-8")
    (folder / "policy.toml").write_text(policy_text(policy), "utf-8")
    (folder / SERVING).write_text(SETTINGS, "utf-8")
    return open_site(folder)


def _users(
    count: int, cluster: Ints, rng: np.random.Generator
) -> tuple[UserHistory, ...]:
    """Return users who like items of a few clusters, and some at random."""
    members = np.split(
        np.argsort(cluster, kind="stable"),
        np.cumsum(np.bincount(cluster, minlength=CLUSTERS))[:-1],
    )
    return tuple(_user(f"user-{n}", members, len(cluster), rng) for n in range(count))


def _user(
    name: str, members: Sequence[Ints], items: int, rng: np.random.Generator
) -> UserHistory:
    size = int(rng.integers(*LIKES))
    favourites = [members[n] for n in rng.integers(CLUSTERS, size=FAVOURITES)]
    near = np.concatenate([*favourites, rng.integers(items, size=STRAY)])
    liked = rng.permutation(np.unique(rng.choice(near, size)))
    return UserHistory(
        user=name,
        items=liked,
        times=FIRST + np.sort(rng.integers(10**7, size=len(liked))),
        likes=np.ones(len(liked), np.bool_),
    )


def _vectors(cluster: Ints, width: int, rng: np.random.Generator) -> Array:
    """Return unit vectors [n, width]: a cluster's place, a spread round it, noise."""
    axes = rng.normal(0, 1 / np.sqrt(LATENT), (LATENT, width)).astype(np.float32)
    centres = rng.standard_normal((CLUSTERS, LATENT), np.float32)
    latent = centres[cluster]
    latent += SPREAD * rng.standard_normal(latent.shape, np.float32)
    made = latent @ axes
    made += NOISE * rng.standard_normal(made.shape, np.float32)
    vectors: Array = made / np.linalg.norm(made, axis=1, keepdims=True)
    return vectors


def _plan(encoder: TextEncoder) -> RoundPlan:
    """Return the plan of the one round that the release came from."""
    return RoundPlan(
        run=RUN,
        number=1,
        sites=(SITE,),
        spec=encoder.spec,
        mechanism=Mechanism(prior_sigma=SIGMA),
        recipe=Recipe(),
        shapes=encoder.shapes(),
        max_norm=100.0,
        quorum=1,
        deadline_s=60.0,
    )


def _release(
    folder: Path, base: str, plan: RoundPlan, rng: np.random.Generator
) -> Path:
    """Write a release with an adapter that is not zero; return its folder."""
    write_start(folder / "start", base, plan.spec)
    registry = Registry.open(folder / "registry", folder / "start")
    adapter = {
        name: rng.normal(0, 0.01, shape).astype(np.float32)
        for name, shape in plan.shapes.items()
    }
    return registry.publish(plan, adapter, rule="fedavg", rule_state={}, received={})


def _trained(
    site: Site,
    plan: RoundPlan,
    catalogue: Catalogue,
    cluster: Ints,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Keep at the site what a round would have left; return factors and prior."""
    items = len(catalogue)
    place = rng.normal(0, 0.3, (CLUSTERS, plan.recipe.factors))
    factors = place[cluster] + rng.normal(0, 0.2, (items, plan.recipe.factors))
    biases = rng.normal(0, 0.3, (items, 1))
    head = {
        "factors.weight": factors.astype(np.float32),
        "biases.weight": biases.astype(np.float32),
    }
    popularity = 500.0 / rng.permutation(np.arange(1.0, items + 1))
    released = (popularity + SIGMA * rng.normal(size=items)).astype(np.float32)
    site.keep_bytes(plan.run, PLAN, plan.to_json().encode())
    require_same_items(site, plan.run, catalogue)
    site.keep(plan.run, "head-0001", head)
    site.keep(
        plan.run, "popularity", {"popularity": released, "sigma": np.array(SIGMA)}
    )
    prior = log_prior(released, SIGMA) * plan.recipe.prior_weight
    return np.hstack(list(head.values())), prior.astype(np.float32)
