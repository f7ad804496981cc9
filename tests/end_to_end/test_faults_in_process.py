"""What goes wrong between a server and its sites, without a network; real apps.

Every test ends in a stated state: which rounds there are, who counts in them, what each
ledger was charged. A site killed in a round is in ``test_kill.py``, one that raises in
``test_wire.py``, a run killed between rounds in ``test_resume.py``, a disk or a clock
that fails a ledger in ``tests/shared/test_ledger_file.py``.
"""

import copy
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import client.app
import server.rounds
from client.data import save
from client.site import Site
from server.app import federate
from server.events import RoundReport, read_events
from server.registry import Registry
from server.settings import Federation, Settings
from shared.entries import Entry
from shared.errors import ConfigError, QuorumLost, RoundError
from shared.ledger import Ledger
from shared.protocol import plan_from_json
from simulations.grid import LocalGrid
from simulations.population import generate
from tests.end_to_end.runs import Crash
from tests.factories import (
    mechanism,
    small_recipe,
    tiny_encoder,
    tiny_plan,
    tiny_spec,
    write_site,
)

pytestmark = pytest.mark.slow  # real rounds at real sites

NAMES = ("site-1", "site-2", "site-3")
LATE = NAMES[-1]
Around = Callable[[str, RecordDict], AbstractContextManager[object]]


@dataclass(frozen=True)
class World:
    """Three real sites, and the settings of a run of theirs."""

    sites: dict[str, Site]
    settings: Settings

    @property
    def out(self) -> Path:
        return Path(self.settings.federation.out)

    def run(self, grid: LocalGrid | None = None, **changes: object) -> None:
        federation = replace(self.settings.federation, **changes)  # type: ignore[arg-type]
        federate(grid or self.grid(), replace(self.settings, federation=federation))

    def grid(
        self,
        around: Around = lambda _site, _content: nullcontext(),
        hold: Callable[[Message], bool] = lambda _reply: False,
    ) -> LocalGrid:
        """The real client, with something around each of its answers."""
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            site = Path(str(context.node_config["site"])).name
            with around(site, message.content):
                return client.app.train(message, context)

        nodes = {name: {"site": str(s.folder)} for name, s in self.sites.items()}
        return LocalGrid(app, nodes, hold=hold)

    def rounds(self) -> list[RoundReport]:
        """What was told of each round."""
        told = read_events(self.out / "events.jsonl")
        return [RoundReport.of(event) for event in told if event["event"] == "round"]

    def refused(self) -> list[dict[str, str]]:
        return [dict(report.refused) for report in self.rounds()]

    def versions(self) -> list[str]:
        """What lies in the registry, half-written versions too."""
        kept = (path.name for path in (self.out / "registry").iterdir())
        return sorted(name for name in kept if name != "witnesses")

    def weights(self) -> bytes:
        newest = self.out / "registry" / self.versions()[-1]
        return (newest / "adapter_model.safetensors").read_bytes()

    def ledger(self, site: str) -> Ledger:
        return self.sites[site].open_ledger()

    def charged(self, site: str) -> list[tuple[str, int]]:
        """Every charge of a site: for what, in which round."""
        return [(e.body["what"], e.body["round"]) for e in self._of(site, "planned")]

    def sealed(self, site: str) -> list[int]:
        """The rounds of which an update left, or could have left."""
        return [e.body["round"] for e in self._of(site, "sealed") if e.body["leaves"]]

    def _of(self, site: str, state: str) -> list[Entry]:
        return [e for e in self.ledger(site).entries() if e.state == state]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and start adapter, which every test copies."""
    folder = tmp_path_factory.mktemp("untouched")
    rng = np.random.default_rng(3)
    save(folder / "data", generate(rng, users=12, items=72).data)
    encoder = tiny_encoder()
    encoder.set_adapter({n: np.zeros(s, "f4") for n, s in encoder.shapes().items()})
    encoder.save(folder / "start")
    return folder


@pytest.fixture
def world(untouched: Path, tmp_path: Path) -> World:
    return a_world(untouched, tmp_path)


def a_world(untouched: Path, folder: Path) -> World:
    """Three sites that have done nothing yet; noise from seeds, to be compared."""
    sites = {
        name: write_site(folder / name, name=name, insecure_test_noise=True)
        for name in NAMES
    }
    for site in sites.values():
        shutil.copytree(untouched / "data", site.data)
    federation = Federation(
        run="run",
        out=str(folder / "out"),
        start=str(untouched / "start"),
        sites=",".join(NAMES),
        rounds=2,
        deadline_s=60.0,
    )
    (folder / "out").mkdir()
    settings = Settings(
        federation=federation,
        spec=tiny_spec(),
        mechanism=mechanism(),
        recipe=small_recipe(),
    )
    return World(sites, settings)


ONE_ROUND = [("popularity", 1), ("training", 1)]
TWO_ROUNDS = [*ONE_ROUND, ("training", 2)]


@pytest.fixture(scope="module")
def whole(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run of one round in which nothing goes wrong; only to be looked at."""
    made = a_world(untouched, tmp_path_factory.mktemp("whole"))
    made.run(rounds=1)
    return made


def test_a_late_site_is_charged_once_and_counts_again_in_the_next_round(
    world: World,
) -> None:
    def hold(reply: Message) -> bool:
        """What the third site sends to the first question comes too late."""
        return reply.metadata.src_node_id == 3 and reply.metadata.group_id == "1"

    world.run(world.grid(hold=hold), deadline_s=0.5)

    assert world.refused() == [{LATE: "NoAnswer"}, {}]
    for site in NAMES:
        assert world.charged(site) == TWO_ROUNDS
        assert world.sealed(site) == [1, 2]


def test_a_late_answer_to_the_next_question_is_refused_and_costs_nothing(
    world: World,
) -> None:
    """The site hears the first question again when it is asked the second."""
    asked: dict[str, object] = {}

    @contextmanager
    def around(site: str, content: RecordDict) -> Iterator[None]:
        if site == LATE:
            first = asked or {name: content[name] for name in ("plan", "adapter")}
            asked.update(first)
            content.update(first)  # type: ignore[arg-type]
        yield

    world.run(world.grid(around))

    assert world.refused() == [{}, {LATE: "RoundError"}]
    assert world.charged(LATE) == ONE_ROUND
    assert world.sealed(LATE) == [1]


DEATHS = [
    (server.rounds, "count", False),  # all have answered
    (Registry, "keep_witnesses", True),
    (server.rounds, "step", True),
    (Registry, "publish", False),
]


@pytest.mark.parametrize(("where", "name", "after"), DEATHS)
def test_a_server_that_dies_before_it_publishes_gets_the_same_answers_for_nothing(
    world: World, whole: World, where: object, name: str, *, after: bool
) -> None:
    honest = getattr(where, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if after:
            honest(*args, **kwargs)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, deadly)
        with pytest.raises(Crash):
            world.run(rounds=1)
    spent = [world.ledger(site).epsilon() for site in NAMES]
    entries = [world.ledger(site).entries() for site in NAMES]
    assert world.versions() == []

    world.run(rounds=1, resume=True)

    assert world.weights() == whole.weights()
    assert world.refused() == [{}]
    assert [world.ledger(site).epsilon() for site in NAMES] == spent
    assert [world.ledger(site).entries() for site in NAMES] == entries


def test_a_server_that_goes_on_under_another_plan_is_refused_and_nothing_is_spent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a plan says is sealed with the round, its deadline too."""
    with monkeypatch.context() as patch:
        patch.setattr(server.rounds, "step", crash)
        with pytest.raises(Crash):
            world.run(rounds=1)

    with pytest.raises(QuorumLost, match="site-1: PolicyRefused, site-2: PolicyRef"):
        world.run(rounds=1, deadline_s=61.0, resume=True)
    world.run(rounds=1, resume=True)

    assert world.versions() == ["round-0001"]
    assert [world.charged(site) for site in NAMES] == [ONE_ROUND] * 3


@contextmanager
def full_disk(size: int = 0) -> Iterator[None]:
    """No file can grow beyond a size; Python ignores the signal that tells of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_server_without_room_publishes_nothing_says_so_and_goes_on_when_there_is(
    world: World, whole: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the first witness, then in the middle of a version."""
    told = []
    for name, size in (("keep_witnesses", 0), ("publish", 0), ("publish", 1000)):
        honest = getattr(Registry, name)

        def crowded(*args: Any, **kwargs: Any) -> Any:
            with full_disk(size):  # noqa: B023 - called in this turn alone
                return honest(*args, **kwargs)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(Registry, name, crowded)
            with pytest.raises(RoundError) as caught:
                world.run(rounds=1, resume=True)
        told.append(str(caught.value))
        assert world.versions() == []

    world.run(rounds=1, resume=True)

    for message in told:
        assert message.startswith("round 1 cannot be written to ")
        assert "File too large" in message
        assert message.endswith("make room, and go on with --resume")
    assert world.weights() == whole.weights()
    assert [world.charged(site) for site in NAMES] == [ONE_ROUND] * 3


def test_a_site_without_room_for_its_ledger_trains_nothing_until_there_is(
    world: World,
) -> None:
    world.ledger(LATE)  # is there, and empty

    @contextmanager
    def around(site: str, content: RecordDict) -> Iterator[None]:
        with full_disk() if site == LATE and number_of(content) == 1 else nullcontext():
            yield

    world.run(world.grid(around))

    assert world.refused() == [{LATE: "LedgerBroken"}, {}]
    assert world.charged(LATE) == [("popularity", 2), ("training", 2)]


def test_a_site_without_room_for_its_update_has_paid_and_goes_on_when_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was charged may have been used; it is charged once, and sent never."""
    honest = Site.keep

    def keep(site: Site, run: str, name: str, tensors: Any) -> None:
        full = site.settings.name == LATE and name == "head-0001"
        with full_disk() if full else nullcontext():
            honest(site, run, name, tensors)

    monkeypatch.setattr(Site, "keep", keep)

    world.run()

    assert world.refused() == [{LATE: "InternalError"}, {}]
    assert world.charged(LATE) == TWO_ROUNDS
    assert world.sealed(LATE) == [2]


def test_a_site_that_is_still_in_a_round_is_left_out_and_not_charged(
    world: World,
) -> None:
    ledger = world.ledger(LATE)

    with ledger.alone():
        world.run(rounds=1)

    assert world.refused() == [{LATE: "LedgerBusy"}]
    assert world.charged(LATE) == []


def of_another_version(content: RecordDict, change: Callable[[Any], object]) -> None:
    """Write the plan as a server of another version would."""
    said = json.loads(str(content.config_records["plan"]["json"]))
    change(said)
    line = json.dumps(said, sort_keys=True, separators=(",", ":"))
    content["plan"] = ConfigRecord({"json": line})


VERSIONS: dict[str, Callable[[Any], object]] = {
    "one key more": lambda said: said.update(protocol=2),
    "one key less": lambda said: said.pop("quorum"),
    "one key more of the noise": lambda said: said["mechanism"].update(unit="item"),
    "one key less of the noise": lambda said: said["mechanism"].pop("metric_sigma"),
}


@pytest.mark.parametrize("change", VERSIONS.values(), ids=VERSIONS)
def test_a_plan_of_another_version_is_refused_before_anything_is_charged(
    world: World, change: Callable[[Any], object]
) -> None:
    @contextmanager
    def around(_site: str, content: RecordDict) -> Iterator[None]:
        of_another_version(content, change)
        yield

    with pytest.raises(QuorumLost, match="site-1: ConfigError, site-2: ConfigError"):
        world.run(world.grid(around), rounds=1)

    assert [world.charged(site) for site in NAMES] == [[], [], []]
    assert world.versions() == []


def test_without_any_one_key_a_plan_is_none() -> None:
    whole = json.loads(tiny_plan().to_json())
    parts = [(), ("spec",), ("mechanism",), ("recipe",)]
    for part in parts:
        for key in whole[part[0]] if part else whole:
            said = copy.deepcopy(whole)
            (said[part[0]] if part else said).pop(key)

            with pytest.raises(ConfigError):
                plan_from_json(json.dumps(said, sort_keys=True, separators=(",", ":")))


def crash(*_args: object) -> None:
    raise Crash


def number_of(content: RecordDict) -> int:
    """The round that is asked for."""
    return plan_from_json(str(content.config_records["plan"]["json"])).number
