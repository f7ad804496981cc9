"""A served model whose best answers are known: no encoder, no files."""

import numpy as np

from client.serving.model import Blocks, Served
from shared.catalogue import Catalogue
from shared.protocol import Recipe

GENRES = ("comedy", "horror", "sci-fi", "drama")
WIDTH, FACTORS = 16, 4


def served(items: int = 200, *, seed: int = 3, **recipe: object) -> Served:
    """Items of four genres, whose vectors lie round their genre's own direction.

    Item n is of genre n mod 4, of the year 1960 + n mod 60, and of one of ten makers;
    the last tenth is fresh.
    """
    rng = np.random.default_rng(seed)
    genre = np.arange(items) % len(GENRES)
    vectors = np.eye(WIDTH)[genre] + rng.normal(0, 0.15, (items, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fresh = np.arange(items) >= items - items // 10
    factors = rng.normal(0, 0.3, (items, FACTORS + 1)) * ~fresh[:, None]
    return Served(
        release="spring/3",
        digest="0" * 64,
        catalogue=Catalogue(
            ids=tuple(f"item-{n}" for n in range(items)),
            texts=tuple(f"Title {n}. {GENRES[n % 4]}" for n in range(items)),
            attributes={
                "genres": tuple((GENRES[n % 4],) for n in range(items)),
                "year": tuple((str(1960 + n % 60),) for n in range(items)),
                "maker": tuple((f"maker {n % 10}",) for n in range(items)),
            },
        ),
        vectors=Blocks((vectors.astype(np.float32),)),
        factors=Blocks((factors.astype(np.float32),)),
        prior=(rng.random(items) * ~fresh).astype(np.float32),
        fresh=fresh,
        recipe=Recipe(**{"factors": FACTORS, **recipe}),  # type: ignore[arg-type]
        width=WIDTH,
    )


def textlike(items: int, *, width: int = 384, seed: int = 0) -> Served:
    """Items as texts lie: 2,000 clusters, 48 latent dimensions, and noise on all."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(2000, 48))[rng.integers(0, 2000, items)]
    latent += rng.normal(0, 0.5, latent.shape)
    vectors = latent @ rng.normal(0, 48**-0.5, (48, width))
    vectors += rng.normal(0, 0.35, vectors.shape)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    recipe, names = Recipe(), tuple(map(str, range(items)))
    return Served(
        release="spring/3",
        digest="0" * 64,
        catalogue=Catalogue(ids=names, texts=names),
        vectors=Blocks((vectors.astype(np.float32),)),
        factors=Blocks(
            (rng.normal(0, 0.3, (items, recipe.factors + 1)).astype(np.float32),)
        ),
        prior=np.log1p(rng.pareto(1.2, items)).astype(np.float32),
        fresh=np.zeros(items, np.bool_),
        recipe=recipe,
        width=width,
    )
