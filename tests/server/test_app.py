"""A whole run, from run config to versions and events."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from server.app import federate, main
from server.events import read_events
from server.settings import Federation, Settings, defaults, read_settings
from shared.config import Scalar
from shared.errors import ConfigError, QuorumLost
from simulations.grid import LocalGrid
from tests.standin import a_client, node_configs, write_start

SITES = ("a", "b", "c")


@pytest.fixture
def flat(tmp_path: Path) -> dict[str, Scalar]:
    """A run config of four rounds."""
    return defaults() | {
        "federation.run": "rehearsal",
        "federation.out": str(tmp_path / "out"),
        "federation.start": str(write_start(tmp_path / "start", 0.5)),
        "federation.sites": ",".join(SITES),
        "federation.rounds": 4,
        "federation.deadline-s": 0.5,
        "spec.base": "0" * 64,
    }


def grid() -> LocalGrid:
    return LocalGrid(a_client(), node_configs(*SITES))


def changed(settings: Settings, **changes: object) -> Settings:
    federation = replace(settings.federation, **changes)  # type: ignore[arg-type]
    return replace(settings, federation=federation)


def weights(out: Path, number: int) -> tuple[bytes, ...]:
    folder = out / "registry" / f"round-{number:04}"
    names = ("adapter_model.safetensors", "rule_state.safetensors")
    return tuple((folder / name).read_bytes() for name in names)


def rounds(out: Path) -> list[dict[str, object]]:
    return [e for e in read_events(out / "events.jsonl") if e["event"] == "round"]


def test_a_run_leaves_a_version_and_an_event_for_each_round(
    flat: dict[str, Scalar], tmp_path: Path
) -> None:
    context = Context(1, 1, {}, RecordDict(), flat)

    main(grid(), context)

    lines = rounds(tmp_path / "out")
    assert [line["number"] for line in lines] == [1, 2, 3, 4]
    assert lines[0].keys() == {
        "event", "number", "seconds", "sites_ok", "refused",
        "update_norm", "bytes_up", "bytes_down", "metrics", "time",
        "norms", "cosines", "outliers",
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out" / "registry").iterdir()) == [
        *(f"round-000{number}" for number in (1, 2, 3, 4)),
        "witnesses",
    ]


@pytest.mark.parametrize("rule", ["fedavg", "fedadam", "fedavgm", "fedmedian"])
def test_a_resumed_run_ends_as_an_uninterrupted_one_bit_by_bit(
    flat: dict[str, Scalar], tmp_path: Path, rule: str
) -> None:
    settings = changed(read_settings(flat), rule=rule)
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    federate(grid(), changed(settings, out=str(whole)))
    federate(grid(), changed(settings, out=str(parts), rounds=2))
    federate(grid(), changed(settings, out=str(parts), resume=True))

    assert weights(parts, 4) == weights(whole, 4)
    assert weights(whole, 3) != weights(whole, 4)
    assert [line["number"] for line in rounds(parts)] == [1, 2, 3, 4]


def test_a_lost_quorum_can_be_resumed(flat: dict[str, Scalar], tmp_path: Path) -> None:
    settings = changed(read_settings(flat), deadline_s=0.03)
    few = LocalGrid(a_client(), node_configs("a"))

    with pytest.raises(QuorumLost, match="--resume"):
        federate(few, settings)
    federate(grid(), changed(settings, resume=True))

    assert len(rounds(tmp_path / "out")) == 4


def test_the_events_of_a_run_begin_and_end_with_it(
    flat: dict[str, Scalar], tmp_path: Path
) -> None:
    settings = changed(read_settings(flat), deadline_s=0.03)
    path = tmp_path / "out" / "events.jsonl"

    with pytest.raises(QuorumLost):
        federate(LocalGrid(a_client(), node_configs("a")), settings)
    with path.open("ab") as file:
        file.write(b'{"event":"ro')  # a process that was killed while it wrote
    federate(grid(), changed(settings, resume=True))

    told = read_events(path)
    names = [event["event"] for event in told]
    assert names[:3] == ["begun", "ended", "begun"]
    assert names[-1] == "ended"
    assert [e["reason"] for e in told if e["event"] == "ended"] == [
        "QuorumLost",
        "Completed",
    ]
    assert {key: told[2][key] for key in ("run", "rounds", "first")} == {
        "run": "rehearsal",
        "rounds": 4,
        "first": 1,
    }
    assert names.count("answered") == 12


def test_resuming_a_finished_run_changes_nothing(
    flat: dict[str, Scalar], tmp_path: Path
) -> None:
    settings = read_settings(flat)
    federate(grid(), settings)

    federate(grid(), changed(settings, resume=True))

    assert len(rounds(tmp_path / "out")) == 4


def test_a_run_is_not_written_over(flat: dict[str, Scalar]) -> None:
    settings = read_settings(flat)
    federate(grid(), settings)

    with pytest.raises(ConfigError, match="already holds round 4; go on with --resume"):
        federate(grid(), settings)


def test_another_run_is_not_resumed(flat: dict[str, Scalar]) -> None:
    settings = read_settings(flat)
    federate(grid(), settings)
    other = changed(settings, run="other", rule="fedadam", resume=True)

    with pytest.raises(
        ConfigError, match="run='rehearsal', not 'other'; rule='FedAvg'"
    ):
        federate(grid(), other)


def test_the_defaults_name_every_key_and_ask_for_what_has_none() -> None:
    empty = {key for key, value in defaults().items() if value == ""}
    empty -= {"federation.key"}  # without one, no version is signed

    assert empty == {
        "federation.run",
        "federation.out",
        "federation.start",
        "federation.sites",
        "spec.base",
    }
    with pytest.raises(ConfigError) as caught:
        read_settings(defaults())
    assert all(key.partition(".")[2] in str(caught.value) for key in empty)


def test_faults_of_all_groups_are_told_at_once(flat: dict[str, Scalar]) -> None:
    bad = flat | {
        "server.rounds": 3,
        "federation.rule": "best",
        "federation.quorum": 4,
        "mechanism.q": 2.0,
        "recipe.epochs": 3,
        "spec.rank": "high",
    }

    with pytest.raises(ConfigError) as caught:
        read_settings(bad)

    for told in (
        "unknown key 'server.rounds'",
        "rule='best'",
        "quorum=4 is not in 1..3",
        "q=2.0",
        "unknown key 'epochs'",
        "rank='high' is not int",
    ):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sites": "a,b,a"}, "names a site twice"),
        ({"sites": "a,,b"}, "sites=''"),
        ({"run": "../up"}, "run='../up'"),
        ({"out": "runs/1"}, "out='runs/1' is not an absolute path"),
        ({"rounds": 0}, "rounds=0 is below 1"),
        ({"deadline_s": 0.0}, "deadline-s=0.0"),
        ({"max_norm": -1.0}, "max-norm=-1.0"),
        ({"wire": "int4"}, "wire='int4' is not one of float32, float16, int8"),
        ({"trim": 0.5}, "trim=0.5"),
        (
            {"rule": "krum", "malicious": 1},
            r"quorum=2 is not in 5..3 \(3 sites, krum\)",
        ),
    ],
)
def test_an_impossible_federation_is_refused(
    flat: dict[str, Scalar], change: dict[str, object], told: str
) -> None:
    federation = changed(read_settings(flat), **change).federation

    assert re.search(told, "; ".join(federation.faults()))


def test_no_quorum_means_more_than_half() -> None:
    federation = Federation(run="r", out="/o", start="/s", sites="a, b, c, d")

    assert federation.names == ("a", "b", "c", "d")
    assert federation.needed == 3
    assert replace(federation, quorum=2).needed == 2
