"""Small honest inputs for tests: a tiny encoder, a catalogue, users, a site."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from client.data import save
from client.examples import UserExample
from client.head import FactorHead
from client.model import HybridModel
from client.policy import SitePolicy
from client.policy_file import policy_text
from client.site import Site, SiteSettings, open_site, settings_text
from shared.encoder import TextEncoder, base_digest, load_base, open_encoder
from shared.protocol import Adapter, AdapterSpec, Mechanism, Recipe, RoundPlan
from simulations.population import generate

WORDS = [
    *("night", "train", "desert", "cook", "chess", "storm"),
    *("violin", "harbour", "fox", "winter", "map", "comet"),
]


def texts(count: int) -> tuple[str, ...]:
    """Different short texts."""
    return tuple(
        f"{WORDS[n % 12]} and {WORDS[(n * 5 + n // 12) % 12]} number {n}"
        for n in range(count)
    )


@lru_cache(maxsize=1)
def tiny_digest() -> str:
    return base_digest("tiny")


def tiny_spec(**changes: object) -> AdapterSpec:
    values = {"base": tiny_digest(), "rank": 4, "max_tokens": 12, **changes}
    return AdapterSpec(**values)  # type: ignore[arg-type]


def tiny_encoder(*, training: str = "float32", **changes: object) -> TextEncoder:
    """A fresh encoder; tests may change its adapter."""
    return TextEncoder(load_base("tiny"), tiny_spec(**changes), training=training)


def small_recipe(**changes: object) -> Recipe:
    values = {"factors": 4, "history": 6, "targets": 2, "negatives": 8, **changes}
    return Recipe(**values)  # type: ignore[arg-type]


def tiny_model(
    folder: Path,
    items: int = 30,
    *,
    modules: str = "output",
    training: str = "float32",
    **recipe: object,
) -> HybridModel:
    """A hybrid model over ``items`` generated texts; its adapter is not zero."""
    encoder = tiny_encoder(modules=modules, training=training)
    rng = np.random.default_rng(5)
    encoder.set_adapter(
        {
            n: rng.normal(0, 0.1, s).astype(np.float32)
            for n, s in encoder.shapes().items()
        }
    )
    activations = encoder.open_store(folder).open(texts(items))
    made = small_recipe(**recipe)
    return HybridModel(
        encoder,
        activations,
        encoder.frozen_mean(activations),
        FactorHead(items, made.factors, made.seed),
        np.linspace(0, 1, items, dtype=np.float32),
        made,
    )


def users(
    count: int, items: int = 30, likes: int = 8, seed: int = 0
) -> list[UserExample]:
    """Examples of users with ``likes`` distinct likes each."""
    rng = np.random.default_rng(seed)
    return [UserExample(100 + n, rng.permutation(items)[:likes]) for n in range(count)]


def mechanism(**changes: object) -> Mechanism:
    values = {"q": 0.5, "sigma": 1.0, "clip": 0.5, "steps": 3, **changes}
    return Mechanism(**values)  # type: ignore[arg-type]


def plan(shapes: Mapping[str, tuple[int, ...]], **changes: object) -> RoundPlan:
    """A plan that a test site accepts."""
    values: dict[str, object] = {
        "run": "run",
        "number": 1,
        "sites": ("site-1",),
        "spec": tiny_spec(),
        "mechanism": mechanism(),
        "recipe": small_recipe(),
        "shapes": dict(shapes),
        "max_norm": 100.0,
        "quorum": 1,
        "deadline_s": 60.0,
        **changes,
    }
    return RoundPlan(**values)  # type: ignore[arg-type]


def tiny_plan(**changes: object) -> RoundPlan:
    """A plan for the tensors that the tiny encoder has."""
    spec = changes.get("spec", tiny_spec())
    assert isinstance(spec, AdapterSpec)
    return plan(open_encoder("tiny", spec, "cpu").shapes(), **changes)


def zeros(asked: RoundPlan) -> Adapter:
    """The adapter that round 1 starts from."""
    return {n: np.zeros(shape, np.float32) for n, shape in asked.shapes.items()}


def write_site(
    folder: Path,
    people: int = 0,
    *,
    name: str = "site-1",
    cache: str = "cache",
    **policy: object,
) -> Site:
    """A site that allows what ``plan`` asks; without people it has no data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if people:
        rng = np.random.default_rng(3)
        save(folder / "data", generate(rng, users=people, items=72).data)
    allowed = {"epsilon": 100.0, "users": 20, **policy}
    made = SitePolicy(**allowed)  # type: ignore[arg-type]
    settings = SiteSettings(name=name, base="tiny", cache=cache, device="cpu")
    (folder / "site.toml").write_text(settings_text(settings), "utf-8")
    (folder / "policy.toml").write_text(policy_text(made), "utf-8")
    return open_site(folder)
