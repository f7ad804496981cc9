"""What every arm of a run comes to: who ranks which site by what, and what it cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np

from client.data import SiteData
from shared.limits import PURPOSES
from shared.protocol import Array
from simulations import arms, jobs
from simulations.arms import Trained
from simulations.attack import exposure
from simulations.baselines import FITS, Setting, matrix
from simulations.crew import at_once
from simulations.evaluate import Facts, Outcome
from simulations.jobs import Lab, Task
from simulations.ranking import Ints, Ranked, constant
from simulations.scenario import NOT_PRIVATE
from simulations.split import Split
from simulations.stage import CENTRAL, LOCAL, RELEASED, Stage, releasing_arm
from simulations.world import centre, places_in

TrainedArms = Mapping[str, Sequence[Trained]]
Tasks = Mapping[str, Task]
Coming = Mapping[str, Future[Ranked]]  # site -> its rankings
Pool = tuple[dict[str, Ranked], Setting]


def outcomes(stage: Stage, trained: TrainedArms) -> list[Outcome]:
    """Rank the held-out events of every site by every arm that is asked for.

    The users of hostile sites count nowhere. Sites that never trained are ranked by the
    arms that can: by their texts and what the others trained.
    """
    asked, world = stage.scenario.simulation, stage.world
    tasks = {
        name: Task(world.split(name), world.catalogue(name).texts)
        for name in (*stage.honest(), *world.unseen)
    }
    pools = {arm: _by_baseline(stage, arm, tasks) for arm in asked.arms if arm in FITS}
    sites = {
        arm: _by_site(stage, arm, trained, tasks)
        for arm in asked.arms
        if arm != "popularity" and arm not in FITS
    }
    facts = _facts(stage, tasks)
    sites["popularity"] = _by_popularity(tasks, facts)
    made = []
    for arm in asked.arms:
        if arm in FITS:
            ranked, chosen = _joined([pool.result() for pool in pools[arm]])
        else:
            ranked = {name: coming.result() for name, coming in sites[arm].items()}
            chosen = {}
        outcome = _outcome(stage, arm, ranked, facts)
        outcome = replace(outcome, chosen=chosen, epsilon=_spent(stage, arm, trained))
        shown = exposure(stage.scenario, world, outcome)
        made.append(replace(outcome, exposure=shown))
    return made


def _outcome(
    stage: Stage, arm: str, ranked: Mapping[str, Ranked], facts: Mapping[str, Facts]
) -> Outcome:
    """Return what an arm came to, from its rankings of every site."""
    mine = {name: ranked[name] for name in stage.honest()}
    return Outcome(
        arm,
        math.inf,
        {name: each.test for name, each in mine.items()},
        facts,
        negatives=stage.scenario.simulation.negatives,
        unseen={n: each.test for n, each in ranked.items() if n not in mine},
        validation={n: r.validation for n, r in mine.items() if r.validation},
        curves={n: each.curve for n, each in mine.items() if each.curve},
    )


def _lab(stage: Stage) -> Lab:
    return Lab(stage.scenario, stage.bench.spec, stage.bench.start)


def _by_baseline(stage: Stage, arm: str, tasks: Tasks) -> list[Future[Pool]]:
    """Let a baseline be fitted and ranked for each group of equal catalogues."""
    world, pools = stage.world, dict[tuple[str, ...], list[str]]()
    for name in tasks:
        pools.setdefault(world.catalogue(name).ids, []).append(name)
    coming = []
    for ids, names in pools.items():
        users = tuple(
            user
            for name in names
            if name not in world.unseen
            for user in world.split(name).users
        )
        if users:
            pooled = Split(users, np.zeros((len(users), 0), np.int64))
            job = partial(jobs.rank_baseline, arm, _lab(stage), pooled, len(ids))
            theirs = {name: tasks[name] for name in names}
            coming.append(stage.crew.do(stage.bench.data / arm, job, theirs))
    return coming


def _joined(pools: Sequence[Pool]) -> Pool:
    """Return the rankings of all groups, and what was chosen for each."""
    ranked = {name: each for made, _ in pools for name, each in made.items()}
    if len(pools) == 1:
        return ranked, pools[0][1]
    chosen = {
        f"{key} ({next(iter(made))})": value
        for made, setting in pools
        for key, value in setting.items()
    }
    return ranked, chosen


def _by_site(stage: Stage, arm: str, trained: TrainedArms, tasks: Tasks) -> Coming:
    """Let every site that an arm can rank be ranked by it."""
    stage = stage.of(arm)
    if arm == "text":
        return {
            name: stage.crew.do(stage.bench.data / name, jobs.rank_text, _lab(stage), t)
            for name, t in tasks.items()
        }
    honest = {name: tasks[name] for name in stage.honest()}
    if arm in RELEASED:
        job = partial(jobs.rank_released, text=arm == "text-dp-popularity")
        return _at_sites(stage, job, trained[releasing_arm(stage.scenario)], honest)
    if arm == "cf":
        job = partial(jobs.rank_trained, alpha=0.0)
        return _at_sites(stage, job, trained["local"], honest)
    job = partial(jobs.rank_trained, curve=stage.scenario.simulation.curves)
    by = trained[arm]
    if arm == CENTRAL:
        by, honest = _for_centre(stage, by[0], honest)
    coming = _at_sites(stage, job, by, honest)
    if arm in LOCAL:
        return coming
    for name in stage.world.unseen:
        site = stage.bench.data / name
        coming[name] = stage.crew.do(
            site, jobs.rank_unseen, _lab(stage), by[0], tasks[name]
        )
    return coming


def _at_sites(
    stage: Stage,
    job: Callable[[Lab, Trained, Task], Ranked],
    trained: Sequence[Trained],
    tasks: Tasks,
) -> dict[str, Future[Ranked]]:
    """Let each task be done by what was trained for its site."""
    return {
        site.name: stage.crew.do(site.folder, job, _lab(stage), site, tasks[site.name])
        for site in trained
        if site.name in tasks
    }


def _for_centre(
    stage: Stage, whole: Trained, tasks: Tasks
) -> tuple[Sequence[Trained], dict[str, Task]]:
    """Return the one trained site under every name, and where each one's items are."""
    world = stage.world
    [catalogue] = centre(world, stage.honest()).grown
    mapped = {
        name: replace(
            task,
            places=places_in(catalogue, world.catalogue(name)),
            among=catalogue.texts,
        )
        for name, task in tasks.items()
    }
    return [replace(whole, name=name) for name in tasks], mapped


def _by_popularity(tasks: Tasks, facts: Mapping[str, Facts]) -> Coming:
    """Rank by exact counts, where anybody trained on any of the items."""
    return {
        name: at_once(
            jobs.ranked, constant(facts[name].likers.astype(np.float32)), task
        )
        for name, task in tasks.items()
        if facts[name].likers.any()
    }


def _facts(stage: Stage, tasks: Tasks) -> dict[str, Facts]:
    """Return what is known of every site, whichever arm ranks."""
    world, facts = stage.world, dict[str, Facts]()
    whole = centre(world, stage.honest()).training[0]
    counts = _counts(whole)
    known = dict[tuple[str, ...], tuple[Ints, Array]]()
    for name, task in tasks.items():
        ids = world.catalogue(name).ids
        if ids not in known:
            found = np.array([counts.get(item, (0, 0)) for item in ids], np.int64)
            vectors = stage.crew.do(
                stage.bench.start, jobs.text_vectors, _lab(stage), task.texts
            )
            known[ids] = found, vectors.result()
        found, shown = known[ids]
        users = task.split.users
        facts[name] = Facts(
            events=np.array([len(user.test.seen) for user in users]),
            fresh=found[[user.test.item for user in users], 1] == 0,
            likers=found[:, 0],
            users=len(whole.histories),
            vectors=shown,
        )
    return facts


def _counts(data: SiteData) -> dict[str, tuple[int, int]]:
    """Return item -> how many users like it, and how many events it has."""
    items = len(data.catalogue)
    liked = [history.items[history.likes] for history in data.histories]
    likers = np.asarray(matrix(liked, items).sum(axis=0), np.int64).reshape(-1)
    met = np.concatenate([history.items for history in data.histories])
    events = np.bincount(met, minlength=items)
    pairs = zip(likers.tolist(), events.tolist(), strict=True)
    return dict(zip(data.catalogue.ids, pairs, strict=True))


def _spent(stage: Stage, arm: str, trained: TrainedArms) -> float:
    """Return what an arm's sites spent at most, recomputed from their ledgers."""
    if arm == "text":
        return 0.0  # public texts, and a user's own history
    if arm in NOT_PRIVATE or stage.scenario.simulation.insecure_test_noise:
        return math.inf
    if arm in RELEASED:
        sites = trained[releasing_arm(stage.scenario)]
        return max(arms.spent(site, "popularity") for site in sites)
    sites = trained["local" if arm == "cf" else arm]
    return max(arms.spent(site, *PURPOSES) for site in sites)
