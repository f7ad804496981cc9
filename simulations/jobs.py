"""What a simulation does with an encoder, here or at one of its workers.

What these jobs need takes seconds to import, so each imports it when it runs.
"""

from pathlib import Path

from shared.protocol import AdapterSpec, Array, Recipe
from simulations import evaluate
from simulations.arms import Trained, final_adapter
from simulations.evaluate import Ranking
from simulations.scenario import Scenario
from simulations.split import Split
from simulations.world import World


def begin(start: Path, scenario: Scenario) -> AdapterSpec:
    """Write the start adapter in ``start``, once; return the spec it is made by."""
    import simulations.preloaded  # noqa: F401, PLC0415
    from shared.encoder import base_digest  # noqa: PLC0415
    from shared.start import write_start  # noqa: PLC0415

    base = scenario.simulation.base
    spec = scenario.spec(base_digest(base))
    write_start(start, base, spec)
    return spec


def popularity(world: World) -> list[Array]:
    """Return each site's exact popularity, pooled: see ``exact_popularity``."""
    from simulations.scores import exact_popularity  # noqa: PLC0415

    return exact_popularity(world)


def rank_frozen(
    site: Trained, spec: AdapterSpec, recipe: Recipe, split: Split, items: int
) -> Ranking:
    """Rank a site's held-out events by the frozen encoder and released popularity."""
    from simulations.scores import frozen_score  # noqa: PLC0415

    return evaluate.rank_site(frozen_score(site, spec, recipe), split, items)


def rank_trained(
    site: Trained,
    spec: AdapterSpec,
    recipe: Recipe,
    start: Path,
    split: Split,
    items: int,
) -> Ranking:
    """Rank a site's held-out events by the newest adapter and the site's own head."""
    from simulations.scores import trained_score  # noqa: PLC0415

    number, adapter = final_adapter(site, start)
    score = trained_score(site, spec, recipe, adapter, number)
    return evaluate.rank_site(score, split, items)
