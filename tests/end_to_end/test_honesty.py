"""What a run says of itself is true: no arm saw the answers, every epsilon was spent.

Figures are recomputed from the folder that a run leaves, without the code that wrote
them: ledgers are read as the tables that they are, and composed by dp-accounting's own
accountant.
"""

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import (
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant

from client.data import save
from simulations import outcomes as judging
from simulations import run as module
from simulations import world as worlds
from simulations.evaluate import Outcome
from simulations.population import generate
from simulations.report.content import OPEN
from simulations.scenario import ARMS, NOT_PRIVATE, Scenario
from simulations.scenario_file import read_scenario
from simulations.split import Split, leave_two_out
from simulations.sweep import sweep
from simulations.sweep_command import planned
from simulations.world import World, make_world
from tests.end_to_end.runs import SMALL, report_of, run
from tests.honesty import candidates, found, hits_by_chance, unlearnable

USERS, ITEMS, NEGATIVES = 300, 144, 99
BY_HEART = (  # so much that trained arms know their users' items by heart
    "mechanism.q=0.5", "mechanism.steps=20", "recipe.factors=64", "recipe.history=16",
    "recipe.targets=4", "recipe.negatives=32", "recipe.head-learning-rate=0.1",
    "recipe.cf-scale=8",
)  # fmt: skip
RELEASED = ("text-dp-popularity", "dp-popularity")  # by the arm federated
QUICK = tuple(arm for arm in ARMS if arm not in {"als", "bpr"})
LEARN = ("item-knn", "ease", "als", "bpr", "cf", "local", "federated")


@dataclass(frozen=True)
class Played:
    """A run in which nothing could be learned."""

    world: World
    outcomes: Sequence[Outcome]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of which nothing held out can be known."""
    rng = np.random.default_rng(4)
    data = unlearnable(generate(rng, users=USERS, items=ITEMS).data, rng)
    folder = tmp_path_factory.mktemp("noise")
    save(folder / "data", data)
    return folder / "data"


def played(data: Path, out: Path, arms: Sequence[str]) -> Played:
    """Run these arms on two sites, and keep how they ranked."""
    asked = read_scenario(
        None,
        {"data": str(data), "sites": 2, "rounds": 1, "arms": [*arms], "curves": False,
         "negatives": NEGATIVES, "no-dp": True},
        [*SMALL, *BY_HEART],
    )  # fmt: skip
    kept: list[Sequence[Outcome]] = []
    honest = judging.outcomes

    def outcomes(*given: Any) -> list[Outcome]:
        kept.append(honest(*given))
        return [*kept[0]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "outcomes", outcomes)
        run(asked, out)
    return Played(make_world(asked), kept[0])


def leaking(played: Played, outcome: Outcome) -> bool:
    """Whether an arm ranks held-out items better than anybody can."""
    world = played.world
    among = np.concatenate([candidates(world.split(n), ITEMS) for n in outcome.sites])
    sampled = np.concatenate([made.sampled for made in outcome.sites.values()])
    _, high = hits_by_chance(len(sampled), 10 / (NEGATIVES + 1))
    return found(outcome.rank(), among).leaks or float((sampled <= 10).mean()) > high


@contextmanager
def answers_in_training() -> Iterator[None]:
    """A plain leak: sites train on what their users are asked."""

    def with_answers(histories: Any, cold: Any = None) -> Split:
        split = leave_two_out(histories, cold)
        whole = {history.user: history for history in histories}
        users = tuple(
            replace(user, train=whole[user.train.user]) for user in split.users
        )
        return replace(split, users=users)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "leave_two_out", with_answers)
        yield


@pytest.mark.slow
def test_where_nothing_can_be_learned_no_arm_is_above_chance(
    noise: Path, tmp_path: Path
) -> None:
    made = played(noise, tmp_path / "run", ARMS)

    assert [outcome.arm for outcome in made.outcomes] == [*ARMS]
    assert [o.arm for o in made.outcomes if leaking(made, o)] == []


@pytest.mark.slow
def test_arms_that_trained_on_the_answers_are_found_out(
    noise: Path, tmp_path: Path
) -> None:
    with answers_in_training():
        made = played(noise, tmp_path / "run", LEARN)

    assert [o.arm for o in made.outcomes if leaking(made, o)] == [*LEARN]


@dataclass(frozen=True)
class Told:
    """A run with real noise: its folder and its report."""

    out: Path
    made: dict[str, Any]


@pytest.fixture(scope="module")
def told(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    out = tmp_path_factory.mktemp("told") / "run"
    options = {"data": str(data), "sites": 2, "rounds": 2, "epsilon": 2.0}
    asked = read_scenario(
        None,
        {**options, "arms": [*QUICK], "negatives": 20},
        [*SMALL, "insecure-test-noise=false"],
    )
    return Told(out, run(asked, out))


def ledgers(out: Path, arm: str) -> dict[str, Path]:
    """Site -> the ledger that an arm's training there was charged to."""
    main = out / "sites" / "site-1"
    folder = out / "arms" / arm
    there = (out / "sites") if main.exists() and not folder.exists() else folder
    return {path.parent.name: path for path in sorted(there.rglob("ledger.sqlite"))}


@lru_cache
def spent(ledger: Path, *purposes: str, replace_one: bool = False) -> float:
    """Epsilon of what a ledger was charged for these purposes; of all by default."""
    with closing(sqlite3.connect(ledger)) as base:
        lines = [json.loads(line) for (line,) in base.execute("SELECT line FROM entry")]
    charged = [
        line
        for line in lines
        if line["state"] == "planned" and (not purposes or line["what"] in purposes)
    ]
    assert charged
    if any(line["sigma"] is None for line in charged):
        return math.inf
    relation = (
        NeighboringRelation.REPLACE_ONE
        if replace_one
        else NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    accountant = PLDAccountant(relation)
    for line in charged:
        step = PoissonSampledDpEvent(line["q"], GaussianDpEvent(line["sigma"]))
        accountant.compose(SelfComposedDpEvent(step, line["steps"]))
    return float(accountant.get_epsilon(1e-5))


def expected(out: Path, arm: str) -> float | None:
    """What an arm's sites spent at most, by their ledgers; None promises nothing."""
    if arm == "text":
        return 0.0
    if arm in RELEASED:
        return max(
            spent(one, "popularity") for one in ledgers(out, "federated").values()
        )
    if arm in {"popularity", "item-knn", "ease", "als", "bpr"}:
        return None
    found = ledgers(out, "local" if arm == "cf" else arm)
    worst = max(spent(ledger) for ledger in found.values())
    return worst if math.isfinite(worst) else None


def epsilons(made: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a report says what was spent: every key that is called so."""
    if isinstance(made, dict):
        for key, value in made.items():
            if key in {"config", "asked"}:
                continue
            if key.startswith("epsilon") and isinstance(value, (int, float)):
                yield (*path, key)
            yield from epsilons(value, (*path, key))
    elif isinstance(made, list):
        for number, value in enumerate(made):
            yield from epsilons(value, (*path, str(number)))


@pytest.mark.slow
def test_every_epsilon_of_a_report_is_that_of_the_ledgers_in_its_folder(
    told: Told,
) -> None:
    made, checked = told.made, set[tuple[str, ...]]()
    assert made == report_of(told.out)
    for arm, metrics in made["metrics"].items():
        right = expected(told.out, arm)
        assert (metrics["epsilon"] is None) == (right is None), arm
        if right is not None:
            assert metrics["epsilon"] == pytest.approx(right, rel=1e-3), arm
            assert metrics["epsilon"] <= 2.0
            checked.add(("metrics", arm, "epsilon"))
    main = ledgers(told.out, made["arm"])
    for number, site in enumerate(made["sites"]):
        ledger = main[site["name"]]
        assert site["epsilon"] == pytest.approx(spent(ledger), rel=1e-3)
        swapped = spent(ledger, replace_one=True)
        assert site["epsilon_replace_one"] == pytest.approx(swapped, rel=1e-2)
        checked.add(("sites", str(number), "epsilon"))
        checked.add(("sites", str(number), "epsilon_replace_one"))
    worst = max(spent(ledger) for ledger in main.values())
    assert made["privacy"]["epsilon_max"] == pytest.approx(worst, rel=1e-3)
    checked.add(("privacy", "epsilon_max"))

    assert set(epsilons(made)) == checked


@pytest.mark.slow
def test_arms_that_promise_nothing_are_told_so(told: Told) -> None:
    labelled = {a for a, m in told.made["metrics"].items() if m.get("label")}

    assert labelled == {*NOT_PRIVATE} & {*QUICK}


@pytest.fixture(scope="module")
def swept(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Two budgets, and arms that have none."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    arms = ["popularity", "dp-popularity", "federated-no-dp", "federated"]
    options = {"data": str(data), "sites": 2, "rounds": 1, "arms": arms}

    def ask(sets: Sequence[str]) -> Scenario:
        return read_scenario(
            None, options, [*SMALL, "insecure-test-noise=false", *sets]
        )

    asked = planned("small", ask, ["epsilon=1,4"], 1)
    return Told(
        out, sweep(asked, out, resume=False, workers=1, tell=lambda _ended: None)
    )


@pytest.mark.slow
def test_every_epsilon_of_a_sweep_is_that_of_the_ledgers_in_its_runs(
    swept: Told,
) -> None:
    made, met = swept.made, set()

    assert made["failures"] == []
    for row in made["rows"]:
        folders = [
            swept.out / one["folder"]
            for one in made["runs"]
            if one["keys"] == row["keys"]
            and row["arm"] in report_of(swept.out / one["folder"])["metrics"]
        ]
        rights = [expected(folder, row["arm"]) for folder in folders]
        assert len(rights) == row["seeds"] == 1
        assert row["spent"] == (rights[0] and pytest.approx(rights[0], rel=1e-3))
        assert row["spent"] is None or row["spent"] <= row["epsilon"]
        assert ("label" in row) == (rights[0] is None)
        met.add((row["arm"], row["epsilon"]))
    assert met == {
        ("popularity", None),
        ("federated-no-dp", None),
        *((arm, budget) for arm in ("dp-popularity", "federated") for budget in (1, 4)),
    }


def unmarked(page: str) -> list[str]:
    """What a page says in a table's row or a plot of an open arm without the words.

    The list of arms that were asked for is no figure.
    """
    names = "|".join(map(re.escape, NOT_PRIVATE))
    named = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")
    said = re.findall(r"<tr.*?</tr>|<text.*?</text>|<title.*?</title>", page, re.DOTALL)
    plain = [re.sub(r"<[^>]+>", " ", one) for one in said]
    return [
        one
        for one in plain
        if named.search(one)
        and OPEN not in one
        and not one.strip().startswith(("arms", "tacit"))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["told", "swept"])
def test_whoever_promises_nothing_is_marked_in_every_table_and_plot(
    which: str, request: pytest.FixtureRequest
) -> None:
    made: Told = request.getfixturevalue(which)
    page = (made.out / "report.html").read_text("utf-8")
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)

    assert len([one for one in plots if OPEN in one]) >= (3 if which == "told" else 1)
    assert len([one for one in tables if OPEN in one]) >= (5 if which == "told" else 1)
    assert unmarked(page) == []
    for part in [*plots, *tables]:
        if OPEN in part:  # the check can fail: each of them alone would be told
            assert unmarked(part.replace(OPEN, "")) != []
