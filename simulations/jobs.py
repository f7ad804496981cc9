"""What a simulation does with an encoder, here or at one of its workers.

What these jobs need takes seconds to import, so each imports it when it runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.numpy import load_file

from server.registry import Registry
from shared.protocol import Adapter, AdapterSpec, Array
from shared.release import WEIGHTS, trained
from simulations import ranking
from simulations.arms import Trained, final_adapter
from simulations.ranking import Ints, Ranked, Ranking, Score
from simulations.scenario import Scenario
from simulations.split import Split


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Task:
    """One site's held-out events, and how its items are called.

    Attributes:
        split: The events.
        texts: Of the site's items.
        places: Where its items stand in the catalogue that an arm was trained on; None
            where that is the site's own.
        among: Texts of that catalogue, where it is another one.
    """

    split: Split
    texts: Sequence[str]
    places: Ints | None = None
    among: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Lab:
    """What every job needs: the scenario, the adapter's spec and start."""

    scenario: Scenario
    spec: AdapterSpec
    start: Path


def begin(start: Path, scenario: Scenario, shared: Sequence[str]) -> AdapterSpec:
    """Write the start adapter in ``start``, once; return the spec it is made by.

    Args:
        start: Its folder.
        scenario: Of the run.
        shared: Ids of the items whose popularity is shared, in order; none for no such.
    """
    import simulations.preloaded  # noqa: F401, PLC0415
    from shared.encoder import base_digest  # noqa: PLC0415
    from shared.popularity import items_of  # noqa: PLC0415
    from shared.start import write_start  # noqa: PLC0415

    base = scenario.simulation.base
    spec = scenario.spec(base_digest(base))
    write_start(start, base, spec, items_of(shared) if shared else None)
    return spec


def text_vectors(lab: Lab, texts: Sequence[str]) -> Array:
    """Return the frozen vectors of texts, [texts, width]."""
    from simulations import scores  # noqa: PLC0415

    return scores.text_vectors(scores.opened(lab.scenario, lab.spec, texts))


def rank_baseline(
    arm: str, lab: Lab, pooled: Split, items: int, tasks: Mapping[str, Task]
) -> tuple[dict[str, Ranked], Mapping[str, float]]:
    """Rank the sites of one catalogue by a plain baseline, fitted on ``pooled``.

    Returns:
        Site -> its rankings, and the hyper-parameters that were chosen.
    """
    from simulations.baselines import choose  # noqa: PLC0415

    fitted = choose(arm, pooled, items, lab.scenario.simulation.seed)
    made = {name: ranked(fitted.score, task) for name, task in tasks.items()}
    return made, fitted.chosen


def rank_text(lab: Lab, task: Task) -> Ranked:
    """Rank by the frozen encoder alone."""
    return _rank_texts(lab, task, None)


def rank_unseen(lab: Lab, by: Trained, task: Task) -> Ranked:
    """Rank a site that never trained by the newest adapter of another one."""
    return _rank_texts(lab, task, final_adapter(by, lab.start)[1])


def _rank_texts(lab: Lab, task: Task, adapter: Adapter | None) -> Ranked:
    from simulations.scores import opened, text_score  # noqa: PLC0415

    texts = opened(lab.scenario, lab.spec, task.texts)
    return ranked(text_score(texts, lab.scenario.recipe(), adapter), task)


def rank_released(lab: Lab, by: Trained, task: Task, *, text: bool) -> Ranked:
    """Rank by a site's released popularity, alone or with the frozen encoder."""
    from simulations.scores import (  # noqa: PLC0415
        frozen_score,
        opened,
        released_score,
    )

    if text:
        texts = opened(lab.scenario, lab.spec, task.texts)
        return ranked(frozen_score(by, texts, lab.scenario.recipe()), task)
    return ranked(released_score(by, len(task.texts)), task)


def rank_trained(
    lab: Lab,
    by: Trained,
    task: Task,
    *,
    alpha: float | None = None,
    curve: bool = False,
) -> Ranked:
    """Rank by the newest adapter, the site's own head and its released popularity.

    Args:
        lab: Of the run.
        by: The site as it was trained.
        task: What is asked.
        alpha: Weight of text against CF; by default that of each user's history.
        curve: Whether every earlier version is asked for validation events as well.
    """
    from simulations.scores import opened, trained_score  # noqa: PLC0415

    recipe = lab.scenario.recipe()
    texts = opened(lab.scenario, lab.spec, task.among or task.texts)

    def after(number: int) -> Score:
        adapter = _version(by, lab.start, number)
        score = trained_score(by, texts, recipe, adapter, number, alpha)
        return score if task.places is None else _part(score, task.places)

    newest, _ = final_adapter(by, lab.start)
    made = ranked(after(newest), task)
    if not curve or made.validation is None:
        return made
    earlier = {
        number: _validated(after(number), task).rank for number in range(1, newest)
    }
    return replace(made, curve={**earlier, newest: made.validation.rank})


def ranked(score: Score, task: Task) -> Ranked:
    """Rank a site's test events, and its validation events if nothing learned them."""
    test = ranking.rank_site(score, task.split, len(task.texts))
    return Ranked(test, _validated(score, task) if task.split.validates else None)


def _validated(score: Score, task: Task) -> Ranking:
    return ranking.rank_site(score, task.split, len(task.texts), which="validation")


def _part(score: Score, places: Ints) -> Score:
    """Return the scores of a part of the items that ``score`` knows."""
    return lambda histories: score([places[past] for past in histories])[:, places]


def _version(by: Trained, start: Path, number: int) -> Adapter:
    """Return the exchanged tensors after a round; 0 is the start."""
    registry = Registry.open(by.registry, start)
    if not number:
        return trained(registry.start_tensors())
    registry.manifest(number)  # whose digests still hold
    return trained(load_file(registry.folder(number) / WEIGHTS))
