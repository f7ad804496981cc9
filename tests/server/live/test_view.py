"""What the operator sees of a federation that really ran."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events import (
    Answered,
    Asked,
    Begun,
    Ended,
    Event,
    RoundReport,
    read_events,
    to_line,
)
from server.flower import Node
from server.live.view import SiteView, View, activities, look, unready
from shared.errors import QuorumLost
from tests.server.operated import SITES, an_operator, carry_out, task
from tests.server.world import raising, refusing
from tests.standin import a_client

SEEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
NODE = Node(name="north", node_id=2, status="online", last_seen=SEEN)


class Ctrl(BaseException):
    """The server's process is gone."""


def seen(folder: Path, nodes: list[Node] | None = None, later_s: float = 0.0) -> View:
    return look(folder, nodes, datetime.now(UTC) + timedelta(seconds=later_s))


def site(view: View, name: str) -> SiteView:
    return next(one for one in view.sites if one.name == name)


def doing(view: View) -> dict[str, tuple[str, str]]:
    return {one.name: (one.doing, one.why) for one in view.sites}


def stopped_at(
    folder: Path, kind: type[Event], times: int = 1, **client: object
) -> View:
    """What was to see when the run wrote its so-manieth event of a kind, and died."""
    left = times

    def tell(event: Event) -> None:
        nonlocal left
        left -= isinstance(event, kind)
        if left == 0:
            raise Ctrl

    app = a_client(**client)  # type: ignore[arg-type]
    with pytest.raises(Ctrl):
        carry_out(task(folder), app, tell=tell)
    return seen(folder)


def test_a_finished_run_is_shown_with_every_round_and_release(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))

    view = seen(folder, [])

    assert view.run is not None
    assert (view.run.state, view.run.reason) == ("completed", "")
    assert (view.run.number, view.run.of, view.run.left_s) == (2, 2, None)
    assert [report.number for report in view.run.rounds] == [1, 2]
    assert [one.name for one in view.releases] == ["spring/2", "spring/1"]
    assert "epsilon" in view.releases[0].statement
    assert doing(view) == dict.fromkeys(SITES, ("waiting", ""))
    assert {one.rounds for one in view.sites} == {2}
    assert view.run.bytes_up == sum(one.bytes_up for one in view.sites) > 0
    sent = sum(3 * report.bytes_down for report in view.run.rounds)
    assert view.run.bytes_down == sent
    assert view.faults == ()


def test_before_any_run_there_are_the_admitted_sites(tmp_path: Path) -> None:
    view = seen(an_operator(tmp_path / "op"), [])

    assert (view.run, view.releases, view.faults) == (None, (), ())
    assert [one.name for one in view.sites] == sorted(SITES)
    assert unready(view) == []


def test_a_site_that_was_asked_is_training_until_it_answers(tmp_path: Path) -> None:
    view = stopped_at(an_operator(tmp_path / "op"), Asked)

    assert doing(view) == dict.fromkeys(SITES, ("training", ""))
    assert view.run is not None
    assert (view.run.number, view.run.state, view.run.left_s) == (1, "running", None)


def test_an_answer_is_shown_before_the_round_is_over(tmp_path: Path) -> None:
    view = stopped_at(
        an_operator(tmp_path / "op"), Answered, 2, dishonest={"north": refusing}
    )

    assert doing(view) == {
        "north": ("refused", "PolicyRefused"),
        "south": ("answered", ""),
        "west": ("training", ""),
    }


def test_the_time_left_is_that_of_the_median_round_for_each_to_come(
    tmp_path: Path,
) -> None:
    view = stopped_at(an_operator(tmp_path / "op"), Asked, 2)

    assert view.run is not None
    assert view.run.left_s == view.run.rounds[0].seconds * 1


def test_a_site_that_fails_and_one_that_is_away_are_told_apart(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    quick = task(folder, deadline_s=0.05, quorum=1)
    carry_out(quick, a_client(dishonest={"north": raising}), ["north", "south"])

    view = seen(folder)

    assert view.run is not None
    assert view.run.refusals == {"FlowerError2": 2, "NotOnline": 2}
    assert [one.rounds for one in view.sites] == [0, 2, 0]


def test_a_run_that_lost_its_quorum_says_so_and_goes_on_when_resumed(
    tmp_path: Path,
) -> None:
    folder = an_operator(tmp_path / "op")
    with pytest.raises(QuorumLost):
        carry_out(task(folder, deadline_s=0.05), online=["north"])
    failed = seen(folder).run
    carry_out(task(folder, resume=True))
    resumed = seen(folder).run

    assert failed is not None
    assert (failed.state, failed.reason) == ("failed", "QuorumLost")
    assert resumed is not None
    assert resumed.state == "completed"


def test_a_run_that_says_nothing_for_too_long_is_silent(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    stopped_at(folder, Asked)

    states = [seen(folder, later_s=s).run for s in (50, 70)]

    assert [run.state for run in states if run] == ["running", "silent"]


def test_a_run_that_the_operator_stopped_is_not_called_failed(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    stopped_at(folder, Asked)
    note = folder / "runs" / "spring" / "run.json"
    note.write_text(json.dumps({"name": "spring", "stopped": True}), "utf-8")

    run = seen(folder).run

    assert run is not None
    assert run.state == "stopped"


def test_the_run_with_the_newest_event_is_shown(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    for name in ("spring", "autumn"):
        carry_out(task(folder, name, rounds=1))

    view = seen(folder)

    assert view.run is not None
    assert view.run.name == "autumn"
    assert [one.name for one in view.releases] == ["autumn/1", "spring/1"]


def test_what_flower_says_of_nodes_is_joined_with_what_was_admitted(
    tmp_path: Path,
) -> None:
    folder = an_operator(tmp_path / "op", ("north", "south"))
    nodes = [
        Node(name="east", node_id=1, status="registered", last_seen=None),
        NODE,
    ]

    known, unknown = seen(folder, nodes), seen(folder)

    assert [(one.name, one.status, one.last_seen) for one in known.sites] == [
        ("east", "registered", ""),
        ("north", "online", "2026-03-01T12:00:00+00:00"),
        ("south", "unregistered", ""),
    ]
    assert {one.status for one in unknown.sites} == {"unknown"}
    assert "does not answer" in unready(unknown)[0]


def test_a_damaged_newest_version_is_a_fault_and_the_others_are_shown(
    tmp_path: Path,
) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))
    version = folder / "runs" / "spring" / "registry" / "round-0002"
    (version / "adapter_config.json").write_text("{}", "utf-8")

    view = seen(folder, [])

    assert "adapter_config.json changed" in view.faults[0]
    assert unready(view) == list(view.faults)
    assert [one.name for one in view.releases] == ["spring/1"]


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"event": "round"}'])
def test_events_that_cannot_be_read_are_a_fault_and_the_rest_is_shown(
    tmp_path: Path, line: str
) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))
    with (folder / "runs" / "spring" / "events.jsonl").open("a") as file:
        file.write(f"{line}\n")

    view = seen(folder, [])

    assert "events.jsonl cannot be read" in view.faults[0]
    assert view.run is None
    assert len(view.releases) == 2


def test_a_lost_key_is_a_fault(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    (folder / "operator.key").unlink()

    assert "operator.key" in seen(folder, []).faults[0]


NAMES = st.sampled_from(SITES)
WHY = st.sampled_from(["BudgetSpent", "PolicyRefused"])
BEGUN = Begun(run="r", rounds=3, first=1, sites=SITES, deadline_s=1.0)
REPORT = RoundReport(
    number=1,
    seconds=1.0,
    sites_ok=(),
    refused={},
    update_norm=0.0,
    bytes_up={},
    bytes_down=0,
    metrics={},
)
EVENTS = st.one_of(
    st.builds(
        lambda asked, absent: Asked(
            number=1,
            sites=tuple(sorted(asked)),
            absent={s: w for s, w in absent.items() if s not in asked},
        ),
        st.sets(NAMES),
        st.dictionaries(NAMES, WHY),
    ),
    st.builds(
        lambda site, why: Answered(number=1, site=site, reason=why, bytes=1),
        NAMES,
        WHY | st.just(""),
    ),
    st.builds(lambda why: replace(REPORT, refused=why), st.dictionaries(NAMES, WHY)),
    st.builds(lambda why: Ended(reason=why), WHY | st.just("Completed")),
)


@given(events=st.lists(EVENTS, max_size=12))
def test_whatever_is_told_every_site_does_one_thing_and_none_trains_after_the_end(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.getbasetemp() / "events.jsonl"
    whole = [BEGUN, *events]
    path.write_text("".join(f"{to_line(event)}\n" for event in whole), "utf-8")

    now = activities(read_events(path))

    assert now.keys() == set(SITES)
    assert all(
        bool(why) == (what in {"refused", "absent"}) for what, why in now.values()
    )
    if isinstance(whole[-1], Ended):
        assert "training" not in {what for what, _ in now.values()}
