import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from client.data import SiteData, load, save
from shared.errors import DataError
from simulations import cold
from simulations.cold import HOW, Slice, cold_start
from simulations.newcomers import Fold, before
from simulations.population import generate
from simulations.run import prepare
from simulations.scenario_file import read_scenario
from simulations.stage import Stage
from simulations.world import make_world


def whole(users: int = 60, items: int = 144) -> SiteData:
    """A population of which every other user declared something."""
    data = generate(np.random.default_rng(5), users=users, items=items).data
    people = {h.user: {"age": f"{n % 3}0+"} for n, h in enumerate(data.histories[::2])}
    return replace(data, people=people)


DATA = whole()


def stage_of(
    folder: Path, data: SiteData, *sets: str, **options: object
) -> tuple[Stage, list[str]]:
    """A stage over ``data``, and what it tells while it trains."""
    save(folder / "whole", data)
    asked = {"data": str(folder / "whole"), "sites": 1, "rounds": 1, "no-dp": True}
    scenario = read_scenario(
        None, {**asked, "base": "tiny", **options}, ["spec.rank=32", *sets]
    )
    world, told = make_world(scenario), list[str]()
    bench = prepare(folder, scenario, world)
    return (
        Stage(
            folder,
            *(scenario, world, bench),
            resume=False,
            tell=lambda arm, of, report: told.append(f"{arm} {report.number}/{of}"),
        ),
        told,
    )


@given(name=st.text(max_size=9), seed=st.integers(0, 9), of=st.integers(1, 7))
def test_everybody_and_everything_is_new_in_exactly_one_fold(
    name: str, seed: int, of: int
) -> None:
    folds = [Fold(seed, number, of) for number in range(of)]

    assert sum(fold.holds("user", name) for fold in folds) == 1
    assert sum(fold.holds("item", name) for fold in folds) == 1


@pytest.mark.parametrize("number", range(3))
def test_what_was_before_has_no_trace_of_newcomers_and_all_of_the_others(
    number: int,
) -> None:
    fold = Fold(4, number, 3)
    known = before(DATA, fold)

    left = {(h.user, known.catalogue.ids[i]) for h in known.histories for i in h.items}
    expected = {
        (h.user, DATA.catalogue.ids[i])
        for h in DATA.histories
        for i in h.items
        if not fold.holds("user", h.user)
        and not fold.holds("item", DATA.catalogue.ids[i])
    }
    assert left == expected
    assert 0 < len(known.catalogue) < len(DATA.catalogue)
    assert not any(fold.holds("item", item) for item in known.catalogue.ids)
    assert not any(fold.holds("user", user) for user in known.people)
    text = dict(zip(DATA.catalogue.ids, DATA.catalogue.texts, strict=True))
    assert [text[item] for item in known.catalogue.ids] == [*known.catalogue.texts]


def test_a_world_of_newcomers_alone_is_refused() -> None:
    with pytest.raises(DataError, match="no user left before the newcomers"):
        before(DATA, Fold(0, 0, 1))


class Run(NamedTuple):
    stage: Stage
    told: list[str]
    slices: tuple[Slice, ...]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    stage, told = stage_of(tmp_path_factory.mktemp("cold"), DATA, "mechanism.steps=2")
    return Run(stage, told, cold_start(stage, folds=2))


def test_every_kind_of_newcomer_is_measured_on_all_events_that_make_one(
    run: Run,
) -> None:
    made, folds = (
        {each.name: each for each in run.slices},
        [Fold(0, number, 2) for number in range(2)],
    )
    split = run.stage.world.splits[0]
    apart = [
        user
        for user in split.users
        if folds[0].holds("user", user.train.user)
        != folds[0].holds("item", DATA.catalogue.ids[user.test.item])
    ]
    declared = [user for user in apart if user.train.user in DATA.people]

    assert list(made) == list(HOW)
    assert made["nothing"].users == made["query"].users == len(apart)
    assert made["new item"].users == made["new item, among new"].users == len(apart)
    assert made["attributes"].users == len(declared) < len(apart)
    assert made["one event"].users <= len(apart)


def test_figures_are_paired_and_popularity_knows_no_new_item(
    run: Run,
) -> None:
    for each in run.slices:
        gain = each.ndcg["mean"] - each.popularity["mean"]
        assert each.gain["mean"] == pytest.approx(gain)
        for figure in (each.ndcg, each.popularity, each.gain):
            assert figure["low"] <= figure["mean"] <= figure["high"]
        assert (each.popularity["mean"] == 0) == each.name.startswith("new item")


def test_no_site_of_a_fold_holds_an_event_of_its_newcomers(
    run: Run,
) -> None:
    for number in range(2):
        data = load(run.stage.out / "cold" / str(number + 1) / "data" / "site-1")
        fold = Fold(0, number, 2)
        assert len(data.histories) > 5
        assert not any(fold.holds("user", h.user) for h in data.histories)
        assert not any(fold.holds("item", item) for item in data.catalogue.ids)


def test_progress_is_told_for_every_fold(run: Run) -> None:
    assert run.told == ["cold 1/2", "cold 1/2"]


def test_a_report_holds_the_slices_and_a_person_reads_them(
    run: Run,
) -> None:
    section = cold.section(run.slices)
    screen = StringIO()
    Console(file=screen, width=120).print(cold.table(section))

    assert json.loads(json.dumps(section)) == section
    for each in section:
        assert each["name"] in screen.getvalue()
        assert f"{each['gain']['mean']:+.4f}" in screen.getvalue()


@pytest.mark.slow
def test_requests_and_texts_lead_newcomers_to_what_popularity_does_not_know(
    tmp_path: Path,
) -> None:
    """With the real encoder: the texts of this population hint at its themes."""
    stage, _ = stage_of(tmp_path, whole(300, 300), base="minilm")

    made = {each.name: each for each in cold_start(stage, folds=2)}

    assert made["query"].gain["low"] > 0
    assert made["new item, among new"].gain["low"] > 0
