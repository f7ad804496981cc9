"""The operator's report: counted by hand on a site that is small enough."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from client.commands.report import report as report_command
from client.data import SiteData, UserHistory
from client.forgotten import NOBODY, add, forgotten_at
from client.serving.events import Event
from client.serving.feedback import report as module
from client.serving.feedback.exposure import exposure
from client.serving.feedback.findings import Report
from client.serving.feedback.log import opened
from client.serving.feedback.report import report
from client.serving.records import ShownList
from client.site import Site
from shared.errors import DataError, StoreFailed
from tests.client.serving.feedback.logged import (
    LESS,
    MORE,
    START,
    USUAL,
    did,
    log,
    shown,
)
from tests.client.serving.served import served
from tests.factories import write_site

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = served(40)
DAY = 86_400
command_line = typer.Typer()
command_line.command()(report_command)


def history(user: str, *places: int) -> UserHistory:
    count = len(places)
    return UserHistory(
        user=user,
        items=np.array(places, np.int64),
        times=np.arange(count),
        likes=np.ones(count, np.bool_),
    )


class Built:
    """What ``build`` returns, over the model that needs no encoder."""

    served = MODEL
    data = SiteData(
        MODEL.catalogue,
        (history("ann", 0, 1, 2), history("bob", 0, 1), history("cem", 0)),
        {"ann": {"age": "young"}, "bob": {"age": "old"}, "cem": {"age": "young"}},
    )

    @staticmethod
    def vectors(texts: Sequence[str]) -> Any:
        return np.tile(np.eye(1, MODEL.width, dtype=np.float32), (len(texts), 1))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(module, "build", lambda *_: Built)
    monkeypatch.setattr(module, "chosen", lambda *_: None)
    return write_site(tmp_path)


def listed(name: str, user: str, places: Sequence[int], **changes: Any) -> ShownList:
    """A list of items of the model; of one ranking unless ``teams`` says more."""
    items = [f"item-{place}" for place in places]
    teams = changes.pop("teams", "." * len(items))
    arms = changes.pop("arms", ())
    return shown(name, user, teams, items=items, arms=arms, **changes)


def chose(user: str, place: int, name: str, kind: Any = "click") -> Event:
    return did(user, f"item-{place}", name, kind)


def told(site: Site, lists: list[ShownList], events: list[Event]) -> Report:
    log(site.folder, lists, events)
    return report(site, None, NOW)


def value(estimate: Any) -> float:
    assert estimate.low <= estimate.value <= estimate.high
    return float(estimate.value)


def test_clicks_and_conversions_are_counted_by_list_and_place(site: Site) -> None:
    lists = [listed("x", "ann", (0, 1, 2, 3)), listed("y", "bob", (4, 5, 6, 7))]
    events = [
        *(chose("ann", 0, "x"), chose("ann", 1, "x", "like")),
        chose("ann", 1, "x", "click"),  # the same item again
        chose("bob", 5, "x"),  # of another's list
        chose("bob", 9, "y"),  # not in the list
        chose("bob", 4, "y", "skip"),  # speaks for nothing
    ]

    found = told(site, lists, events).whole

    assert (found.users, found.lists) == (2, 2)
    assert value(found.ctr) == 2 / 8
    assert value(found.conversion) == 1 / 2
    assert found.coverage == 8 / 40


def test_visitors_count_as_one_user_a_list_and_by_the_lists_id(site: Site) -> None:
    lists = [listed("x", "", (0, 1)), listed("y", "", (0, 1))]

    found = told(site, lists, [chose("someone", 0, "x")]).whole

    assert (found.users, found.lists) == (2, 2)
    assert value(found.ctr) == 1 / 4


def test_novelty_is_the_surprise_of_what_was_shown(site: Site) -> None:
    """Item 0 was met by 3 of 3 users, item 1 by 2, item 5 by none: by half of one."""
    found = told(site, [listed("x", "ann", (0, 1, 5))], []).whole

    shares = (3.5 / 4, 2.5 / 4, 0.5 / 4)
    assert value(found.novelty) == pytest.approx(
        sum(-math.log2(share) for share in shares) / 3
    )


def test_the_most_popular_tenth_is_told_from_the_rest(site: Site) -> None:
    """Of 40 items 4 are of the top: the three that were met, and one more."""
    found = told(site, [listed("x", "ann", (0, 1, 2, 20, 30))], []).whole

    assert value(found.popular) == 3 / 5


def test_diversity_is_the_mean_distance_within_a_list(site: Site) -> None:
    places = [0, 1, 2, 3], [0, 4, 8]
    lists = [listed(f"l{n}", "ann", each) for n, each in enumerate(places)]
    by_hand = []
    for each in places:
        vectors = MODEL.vectors.rows(np.array(each))
        cosines = vectors @ vectors.T
        apart = 1 - cosines[~np.eye(len(each), dtype=bool)]
        by_hand.append(float(apart.mean()))

    found = told(site, [*lists, listed("one", "ann", [9])], []).whole

    assert value(found.diversity) == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_distances_do_not_depend_on_the_size_of_a_block(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    lists = [
        listed(f"l{n}", "ann", rng.permutation(40)[: 1 + n % 5].tolist())
        for n in range(23)
    ]
    log(site.folder, lists, [])

    def distances() -> list[float]:
        with opened(site.folder) as db:
            data = exposure(db, NOBODY, MODEL, Built.data, 0)
        return data.lists.sort("list")["distance"].to_list()

    whole = distances()
    monkeypatch.setattr("client.serving.feedback.exposure.BLOCK", 3)

    assert distances() == whole
    assert len(whole) == 23


def test_days_releases_and_segments_are_told_apart(site: Site) -> None:
    lists = [
        listed("x", "ann", (0, 1), segment="new", release="spring/1"),
        listed("y", "ann", (0, 2), segment="few", time=START + DAY, release="spring/2"),
        listed("z", "bob", (0, 3), segment="few", time=START + DAY, release="spring/2"),
    ]

    found = told(site, lists, [chose("bob", 0, "z")])

    assert [(one.name, one.lists) for one in found.releases] == [
        ("spring/1", 1),
        ("spring/2", 2),
    ]
    assert [(one.name, one.lists) for one in found.segments] == [("new", 1), ("few", 2)]
    assert [one.lists for one in found.days] == [1, 2]
    assert found.days[0].name == datetime.fromtimestamp(START, UTC).date().isoformat()
    assert [value(one.ctr) for one in found.releases] == [0, 1 / 4]
    (change,) = found.changes
    assert (change.before, change.after) == ("spring/1", "spring/2")
    assert value(change.ctr) == 1 / 4


def two_releases(first: float, second: float, users: int = 60) -> Any:
    """Lists of two releases to the same users, who choose at two rates."""
    rng, lists, events = np.random.default_rng(5), [], []
    for n in range(users):
        for release, rate, later in (("spring/1", first, 0), ("spring/2", second, DAY)):
            name = f"{release}-{n}"
            user = f"u{n}"
            at = {"time": START + later, "release": release}
            lists.append(listed(name, user, range(10), **at))
            events += [
                chose(user, place, name) for place in range(10) if rng.random() < rate
            ]
    return lists, events


def test_a_release_that_does_worse_is_warned_of_with_the_way_back(site: Site) -> None:
    found = told(site, *two_releases(0.4, 0.2))

    (warning,) = found.warnings
    assert "spring/2 does worse than spring/1: CTR changed by -0." in warning
    assert warning.endswith(f"tacit site rollback spring/1 {site.folder}")


@pytest.mark.parametrize(
    ("rates", "users"),
    [
        *(((0.3, 0.3), 60), ((0.2, 0.4), 60)),
        ((0.4, 0.2), 19),  # too few to speak of
    ],
)
def test_what_does_no_worse_is_not_warned_of(
    site: Site, rates: tuple[float, float], users: int
) -> None:
    assert told(site, *two_releases(*rates, users)).warnings == ()


def test_once_it_was_rolled_back_nobody_is_warned_any_more(site: Site) -> None:
    lists, events = two_releases(0.4, 0.2)
    back = listed("back", "u0", (0, 1), time=START + 2 * DAY, release="spring/1")

    assert told(site, [*lists, back], events).warnings == ()


def test_what_was_served_before_any_release_has_no_command_back(site: Site) -> None:
    lists, events = two_releases(0.4, 0.2)
    lists = [
        replace(one, release="frozen") if one.release == "spring/1" else one
        for one in lists
    ]

    (warning,) = told(site, lists, events).warnings

    assert "worse than frozen" in warning
    assert "rollback" not in warning


def test_groups_are_told_apart_with_their_distance_from_the_others(
    site: Site,
) -> None:
    (site.folder / "serving.toml").write_text('groups = ["age"]\n')
    lists = [listed(f"of {u}", u, (0, 1)) for u in ("ann", "bob", "cem", "dan")]
    events = [chose("ann", 0, "of ann"), chose("cem", 1, "of cem")]

    found = told(site, lists, events).groups

    young = next(group for group in found if group.figures.name == "young")
    assert [(g.attribute, g.figures.name, g.figures.lists) for g in found] == [
        ("age", "old", 1),
        ("age", "young", 2),
    ]
    assert value(young.figures.ctr) == 1 / 2
    assert value(young.gap) == 1 / 2


def test_providers_have_their_share_of_places_and_of_the_catalogue(
    site: Site,
) -> None:
    (site.folder / "serving.toml").write_text('provider = "maker"\n')
    lists = [listed("x", "ann", (0, 10, 20, 1)), listed("y", "bob", (30, 2, 3, 4))]

    first, *others = told(site, lists, []).providers

    assert (first.name, value(first.shown)) == ("maker 0", 4 / 8)
    assert first.catalogue == 4 / 40
    assert len(others) == 9


def test_compared_ways_are_counted_by_users(site: Site) -> None:
    two = {"teams": "abab", "segment": "some"}
    lists = [
        *(listed(f"a{n}", "ann", range(4), arms=(MORE, USUAL), **two) for n in "123"),
        listed("b", "bob", range(4), arms=(USUAL, MORE), **two),
        listed("c", "cem", range(4), arms=(MORE, USUAL), **two),
        listed("d", "dan", range(4), arms=(LESS, MORE), **two),
    ]
    events = [chose("ann", 0, f"a{n}") for n in "123"]  # three lists, one voice
    events += [chose("bob", 0, "b"), chose("cem", 0, "c"), chose("cem", 1, "c")]
    events += [chose("dan", 1, "d")]

    first, second = told(site, lists, events).duels

    assert (first.first, first.second, first.won, first.lost) == (LESS, MORE, 0, 1)
    assert (second.first, second.second) == (USUAL, MORE)
    assert (second.won, second.lost, second.tied) == (1, 1, 1)
    assert value(second.share) == 1 / 2


def test_who_was_forgotten_is_in_no_figure(site: Site) -> None:
    lists = [listed("x", "ann", (0, 1)), listed("y", "bob", (0, 1))]
    log(site.folder, lists, [chose("ann", 0, "x")])
    add(site.folder, "ann")

    found = report(site, None, NOW)

    assert (found.whole.users, value(found.whole.ctr)) == (1, 0.0)
    assert "ann" in forgotten_at(site.folder)


def test_a_report_may_begin_at_a_day(site: Site) -> None:
    lists = [listed("x", "ann", (0, 1)), listed("y", "bob", (2,), time=START + DAY)]
    log(site.folder, lists, [])

    found = report(site, datetime.fromtimestamp(START + 5, UTC), NOW)

    assert (found.whole.lists, found.whole.coverage) == (1, 1 / 40)


def test_where_nothing_was_shown_it_says_so(site: Site) -> None:
    with pytest.raises(StoreFailed, match="served nobody yet"):
        report(site, None, NOW)
    log(site.folder, [], [])
    with pytest.raises(DataError, match="no list was shown at site-1"):
        report(site, None, NOW)


def test_it_writes_nothing(site: Site) -> None:
    log(site.folder, [listed("x", "ann", (0, 1))], [])
    before = {
        path: path.read_bytes()
        for path in site.folder.rglob("serving*")
        if path.is_file()
    }

    report(site, None, NOW)

    assert {path: path.read_bytes() for path in before} == before
    assert not site.ledger.exists()


def test_the_command_shows_tables_and_json_and_says_what_they_are(site: Site) -> None:
    lists, events = two_releases(0.4, 0.2)
    log(site.folder, lists, events)

    def run(*words: str) -> str:
        done = CliRunner().invoke(
            command_line,
            [str(site.folder), *words],
            catch_exceptions=False,
            env={"COLUMNS": "200"},
        )
        return str(done.output)

    shown_, said = run(), json.loads(run("--json"))

    assert "These figures are exact and stay at this site." in shown_
    assert "WARNING: spring/2 does worse" in shown_
    for title in ("By day", "By release", "By segment", "From release to release"):
        assert title in shown_
    assert "Providers" not in shown_
    assert said["label"] == "These figures are exact and stay at this site."
    assert said["whole"]["ctr"]["low"] < said["whole"]["ctr"]["value"]
    assert len(said["releases"]) == 2
    assert "u1" not in shown_ + json.dumps(said)
