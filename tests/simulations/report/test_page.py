"""Pages: whole, offline, and no arm without a promise goes unmarked anywhere."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.report.content import Page
from simulations.report.page import NAME, PAGES, html, write_page
from simulations.report.run_price import SHOWN
from simulations.scenario import ARMS, NOT_PRIVATE
from tests.simulations.report.examples import OPEN, TRAINED, a_run, a_sweep, figure

MARK = "NOT PRIVATE"
EVIL = "<script>alert('x')</script> & \"co\""
SWEPT: Mapping[str, Any] = {"epsilon": [1, 2], "sites": [1, 5]}


def page(made: Mapping[str, Any]) -> Page:
    return PAGES[made["schema"]](made)


def parsed(made: Mapping[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(html(page(made)).partition("\n")[2])  # noqa: S314


def whole(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def names(made: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is named by an arm: rows of tables, words in charts."""
    root = parsed(made)
    for row in root.iter("th"):
        if row.get("scope") == "row":
            yield whole(row)
    for word in root.iter("{http://www.w3.org/2000/svg}text"):
        yield whole(word)


def arms_in(name: str) -> set[str]:
    """The arms that a name is of, such as both of a pair."""
    parts = name.replace(MARK, "").strip(" ,").split(" \N{MINUS SIGN} ")
    return {part for part in map(str.strip, parts) if part in ARMS}


def relabelled(bare: set[str]) -> dict[str, Any]:
    """A run in which exactly these arms promise nothing."""
    made = a_run()
    for arm, figures in made["metrics"].items():
        figures.pop("label", None)
        figures.update(OPEN if arm in bare else {"epsilon": 1.0})
    return made


@pytest.mark.parametrize(
    "made", [a_run(), a_run(("popularity",), 1, rounds=[]), a_sweep(), a_sweep(SWEPT)]
)
def test_a_page_is_well_formed_and_asks_for_nothing_from_elsewhere(
    made: dict[str, Any],
) -> None:
    text = html(page(made)).replace("http://www.w3.org/2000/svg", "")

    assert parsed(made).tag == "html"
    assert set(re.findall(r"url\([^)]*\)", text)) <= {"url(#hatch)"}
    for word in (
        "http:",
        "https:",
        "//",
        "<script",
        "<link",
        "<img",
        "@import",
        "src=",
    ):
        assert word not in text


@settings(max_examples=8, deadline=None)
@given(bare=st.sets(st.sampled_from(ARMS)))
def test_an_arm_is_marked_wherever_it_stands_if_and_only_if_it_promises_nothing(
    bare: set[str],
) -> None:
    seen = set()
    for name in names(relabelled(bare)):
        if arms := arms_in(name):
            seen |= arms
            assert (MARK in name) == bool(arms & bare), name

    assert seen == {*ARMS}


@pytest.mark.parametrize("keys", [None, SWEPT])
def test_a_sweep_marks_every_arm_that_promises_nothing(keys: Any) -> None:
    seen = set()
    for name in names(a_sweep(keys)):
        if arms := arms_in(name):
            seen |= arms
            assert (MARK in name) == bool(arms & {*NOT_PRIVATE}), name

    assert seen == {*ARMS}


def test_the_whole_page_alarms_if_the_first_arm_promises_nothing() -> None:
    made = a_run(("federated-no-dp",), arm="federated-no-dp")
    made["privacy"] = {**made["privacy"], "claim": MARK}

    assert page(made).verdict.startswith(MARK)
    assert 'class="verdict bad"' in html(page(made))
    assert 'class="verdict bad"' not in html(page(a_run()))


@pytest.mark.parametrize("key", ["no-dp", "insecure-test-noise"])
def test_an_arm_that_was_trained_for_another_is_marked_too(key: str) -> None:
    made = a_run()
    made["config"]["simulation"][key] = True
    made["privacy"] = {**made["privacy"], "claim": MARK}
    made["metrics"] = {arm: made["metrics"][arm] for arm in ("popularity", "text")}
    made["differences"] = made["slice_differences"] = {}
    found = {section.key: section for section in page(made).sections}

    for table in (*found["traffic"].tables, *found["privacy"].tables):
        assert all(row[0].mark == MARK for row in table.rows), table.caption


def test_gains_within_a_slice_stand_below_it_and_are_marked() -> None:
    found = {section.key: section for section in page(a_run()).sections}

    (gains,) = [t for t in found["slices"].tables if "paired" in t.caption]
    assert "Unseen sites" in gains.caption
    marks = {row[0].text: row[0].mark for row in gains.rows}
    assert marks == {
        "federated \N{MINUS SIGN} text": "",
        "federated \N{MINUS SIGN} federated-no-dp": MARK,
    }


def test_text_from_outside_is_shown_and_never_run() -> None:
    run = a_run(config={"simulation": {EVIL: EVIL, "sites": 3, "rounds": 5, "seed": 0}})
    run["asked"] |= {"command": EVIL, "scenario": EVIL}
    swept = a_sweep({EVIL: [EVIL, "b"]}, failures=[{"run": EVIL, "error": EVIL}])

    for made in (run, swept):
        assert "<script" not in html(page(made))
        assert EVIL in whole(parsed(made))


def test_a_section_without_content_is_left_out() -> None:
    keys = [section.key for section in page(a_run()).sections]
    bare = a_run(("popularity", "text"), differences={}, rounds=[])
    for figures in bare["metrics"].values():
        figures |= {"slices": {}, "sampled": None, "curve": []}

    assert {"differences", "curves", "slices", "sampled", "traffic"} <= {*keys}
    assert [section.key for section in page(bare).sections] == [
        *("asked", "arms", "sites", "privacy", "digests", "limits")
    ]


def test_optional_parts_appear_with_what_they_are_of() -> None:
    made = a_run()
    ratings = {"events": 77, "mae": 0.111, "rmse": 0.2, "predicts": "the chance"}
    made["metrics"]["local"]["ratings"] = ratings
    made["metrics"]["federated"]["exposure"] = {"target": 7.25}
    made["config"]["attack"] = {"kind": "promotion", "sites": 2, "strength": 3.0}
    made["cold"] = [
        {"name": "query", "how": "one request", "users": 9}
        | dict.fromkeys(("ndcg", "popularity", "gain"), figure(0.05))
    ]
    found = {section.key: section for section in page(made).sections}

    assert "promotion" in found["attack"].says[0]
    assert "7.25" in whole(parsed(made))
    assert [cell.text for cell in found["ratings"].tables[0].rows[0]] == [
        *("local", "0.111", "0.200", *["\N{EN DASH}"] * 4, "77")
    ]
    assert found["newcomers"].tables[0].rows[0][0].text == "query"


def test_sampled_figures_are_called_sampled_in_every_heading() -> None:
    section = next(s for s in page(a_run()).sections if s.key == "sampled")

    assert "99 random items" in section.says[0]
    assert "Sampled, 99" in section.tables[0].caption
    assert all("sampled" in column for column in section.tables[0].columns[1:])


def test_learning_curves_are_those_of_the_trained_arms() -> None:
    section = next(s for s in page(a_run()).sections if s.key == "curves")
    drawn = str(section.figures[0].drawing)

    for arm in ARMS:
        assert (f">{arm}<" in drawn or f">{arm}, {MARK}<" in drawn) == (arm in TRAINED)


@pytest.mark.parametrize("sites", [1, SHOWN, SHOWN + 3])
def test_a_long_table_says_how_many_rows_it_leaves_out(sites: int) -> None:
    section = next(s for s in page(a_run(sites=sites)).sections if s.key == "privacy")
    table = section.tables[0]

    assert len(table.rows) == min(sites, SHOWN)
    assert ("3 more" in table.caption) == (sites > SHOWN)


def test_references_stand_beside_their_own_protocol_alone() -> None:
    published = "CS-670"
    same = a_run()
    same["asked"]["scenario"] = "ml-100k-l2o"
    other = {**same, "config": {"simulation": {**same["config"]["simulation"]}}}
    other["config"]["simulation"]["cold-items"] = 0.2

    assert published in html(page(same))
    assert published not in html(page(other))
    assert published not in html(page(a_run()))
    assert published in html(page(a_sweep()))
    assert published not in html(page(a_sweep(scenario="demo")))
    assert published not in html(page(a_sweep({"epsilon": [1, 2], "split": ["a"]})))


def test_failures_of_a_sweep_are_shown_with_their_reason() -> None:
    assert "WorkerLost: it died" in whole(parsed(a_sweep()))
    assert "Failures" not in whole(parsed(a_sweep(failures=[])))


@pytest.mark.parametrize(
    ("key", "values"), [("partition", ["iid", "taste"]), ("recipe.alpha", [0.5, 0.3])]
)
def test_words_and_numbers_are_swept_alike(key: str, values: list[Any]) -> None:
    made = a_sweep({key: values})
    section = next(s for s in page(made).sections if s.key.startswith("over-"))
    drawn = str(section.figures[0].drawing)

    assert {*map(str, values)} <= {*re.findall(r'class="tick"[^>]*>([^<]+)<', drawn)}


def test_a_sweep_over_seeds_alone_has_a_page_without_curves() -> None:
    keys = [section.key for section in page(a_sweep({})).sections]

    assert "utility" not in keys
    assert "rows" in keys


def test_a_page_is_written_beside_the_report(tmp_path: Path) -> None:
    for made in (a_run(), a_sweep()):
        write_page(tmp_path, made)

        assert (tmp_path / NAME).read_text("utf-8") == html(page(made))
