"""Killed at any point of a round, a site has charged all it did, and goes on.

Real rounds in real processes, killed by SIGKILL before every call that lasts: on disk,
in SQLite, or in the model. Before the next call is after this one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from client.data import save
from client.policy import RELEASES, SitePolicy
from client.policy_file import policy_text
from client.site import LEDGER, SiteSettings, settings_text
from shared.accounting import GaussianEvent, epsilon
from shared.chain import Chain
from shared.entries import Entry
from shared.ledger_file import read_ledger
from simulations.population import generate
from tests.end_to_end.mortal import NOISE, REFUSED, Life, line_of

pytestmark = pytest.mark.slow

DELTA, USERS = 1e-5, 30
ROOM = 100.0  # for every attempt; one round costs 2.0 or so
SERVER = [sys.executable, "-m", "tests.end_to_end.mortal"]
ALONE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
MOMENTS = 12  # at which somebody else kills the process


@dataclass(frozen=True)
class Fates:
    """The program that lives and dies, and the folder that it does so in."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, life: Life) -> int:
        """Live a life to its end and return the exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line_of(life))
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def site(self, budget: float = ROOM) -> Path:
        """A fresh site beside the data that all of them share."""
        return write_site(self.folder, f"site-{len([*self.folder.iterdir()])}", budget)


@dataclass(frozen=True)
class Story:
    """A site that died in a round and was asked for the same round again, twice.

    Attributes:
        point: Where it died.
        done: What lasting calls it had come to.
        left: Its ledger then, if there was one.
        code: How the second process ended.
        redone: What lasting calls both came to.
        ended: Its ledger in the end.
        replies: What the second process sent.
    """

    point: str
    done: list[str]
    left: Chain | None
    code: int
    redone: list[str]
    ended: Chain
    replies: list[bytes]


def write_site(folder: Path, name: str, budget: float) -> Path:
    """Write settings and policy; where all sites have their data, they read it once."""
    site = folder / name
    site.mkdir()
    settings = SiteSettings(
        name="site-1",
        data=str(folder / "data"),
        base="tiny",
        cache=str(folder / "cache"),
        device="cpu",
    )
    policy = SitePolicy(epsilon=budget, delta=DELTA, users=USERS, releases=RELEASES)
    (site / "site.toml").write_text(settings_text(settings), "utf-8")
    (site / "policy.toml").write_text(policy_text(policy), "utf-8")
    return site


@pytest.fixture(scope="module")
def fates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fates]:
    folder = tmp_path_factory.mktemp("fates")
    save(folder / "data", generate(np.random.default_rng(3), users=USERS).data)
    warm = write_site(folder, "warm", ROOM)
    with subprocess.Popen(
        [*SERVER, str(warm)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ALONE},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "warm\n"
        yield Fates(process, folder)


@pytest.fixture(scope="module")
def whole(fates: Fates) -> tuple[list[str], float]:
    """The lasting calls of a round that nobody interrupts, and its seconds."""
    site, start = fates.site(), time.monotonic()
    assert fates.run(Life(site=str(site), out=str(site))) == 0
    return log_of(site), time.monotonic() - start


@pytest.fixture(scope="module")
def points(whole: tuple[list[str], float]) -> list[str]:
    """The lasting calls of a whole round, in order."""
    return whole[0]


@pytest.fixture(scope="module")
def stories(fates: Fates, whole: tuple[list[str], float]) -> list[Story]:
    """One death before every point, and some at any moment."""
    points, seconds = whole
    before = [
        tell(fates, f"{n} before {name}", dies_before=n)
        for n, name in enumerate(points, start=1)
    ]
    rng = np.random.default_rng(7)
    moments = [
        tell(fates, f"after {moment:.3f} s", dies_after_s=moment)
        for moment in rng.uniform(0.0, seconds, MOMENTS).tolist()
    ]
    return [*before, *moments]


def tell(
    fates: Fates, point: str, *, dies_before: int = 0, dies_after_s: float = 0.0
) -> Story:
    """Kill a fresh site in its round, look at it, and ask it again."""
    site = fates.site()
    first, second = site / "first", site / "second"
    first.mkdir()
    second.mkdir()
    code = fates.run(
        Life(
            site=str(site),
            out=str(first),
            dies_before=dies_before,
            dies_after_s=dies_after_s,
        )
    )
    assert code in {-signal.SIGKILL, 0 if dies_after_s else -signal.SIGKILL}
    left = ledger_of(site, site / "copy")  # "left" would mean that it left
    code = fates.run(Life(site=str(site), out=str(second), asked=2))
    done = log_of(first)
    return Story(
        point=point,
        done=done,
        left=left,
        code=code,
        redone=[*done, *log_of(second)],
        ended=read_ledger(site / LEDGER),
        replies=[path.read_bytes() for path in sorted(second.glob("reply-*"))],
    )


def ledger_of(site: Path, to: Path) -> Chain | None:
    """The verified ledger of a copy, so that looking changes nothing."""
    to.mkdir()
    for path in site.glob(f"{LEDGER}*"):
        shutil.copy(path, to)
    return read_ledger(to / LEDGER) if (to / LEDGER).exists() else None


def log_of(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text("utf-8").splitlines() if log.exists() else []


def spent_by(done: list[str]) -> float:
    """Epsilon of everything that the process may have done to the data."""
    kinds = [
        ("release_popularity", 1.0, NOISE.prior_sigma),
        ("release_metric", NOISE.q, NOISE.metric_sigma),
        ("step", NOISE.q, NOISE.sigma),
    ]
    return epsilon(
        [
            GaussianEvent(q=q, sigma=sigma, steps=done.count(name))
            for name, q, sigma in kinds
            if name in done
        ],
        DELTA,
    )


def sealed(chain: Chain | None, what: str) -> list[Entry]:
    """What was sealed for a purpose."""
    entries = chain.entries if chain else []
    return [
        entry
        for entry in entries
        if entry.state == "sealed"
        and entries[entry.body["planned"]].body["what"] == what
    ]


def test_a_site_is_killed_at_every_kind_of_point(points: list[str]) -> None:
    assert len(points) >= 20
    assert set(points) == {
        *("SCHEMA", "BEGIN", "INSERT", "COMMIT", "close"),
        *("fsync", "link", "replace"),
        *("release_popularity", "release_metric", "step", "reply"),
    }
    assert points.count("step") == NOISE.steps
    assert points.count("INSERT") == 7  # opened; three planned, three sealed


def test_the_ledger_of_a_killed_site_is_intact_and_goes_on_from_there(
    stories: list[Story],
) -> None:
    for story in stories:
        before = story.left.entries if story.left else []
        assert story.ended.entries[: len(before)] == before, story.point


def test_whatever_was_done_to_the_data_was_charged_before(
    stories: list[Story],
) -> None:
    for story in stories:
        charged = story.left.epsilon("add_remove") if story.left else 0.0
        assert charged >= spent_by(story.done), story.point
        assert story.ended.epsilon("add_remove") >= spent_by(story.redone), story.point


def test_the_round_goes_on_after_every_kill(stories: list[Story]) -> None:
    assert {story.point: story.code for story in stories if story.code} == {}
    assert all(len(story.replies) == 2 for story in stories)


def test_a_round_that_was_sealed_is_sent_as_it_was_sealed_and_costs_nothing(
    stories: list[Story],
) -> None:
    found = [story for story in stories if sealed(story.left, "training")]
    for story in found:
        assert story.left is not None
        assert story.ended.entries == story.left.entries, story.point
        assert "step" not in story.redone[len(story.done) :], story.point
    assert len(found) >= 4
    assert len(stories) - len(found) >= 20


def test_a_round_is_sealed_once_and_the_same_bytes_are_sent_again(
    stories: list[Story],
) -> None:
    for story in stories:
        (update,) = sealed(story.ended, "training")
        content = story.replies[0].split(b"\n", 2)[2]
        assert sha256(content).hexdigest() == update.body["sha256"], story.point
        assert story.replies[0] == story.replies[1], story.point
        assert story.ended.entries[-1] == update, story.point  # none after the first


def test_no_charge_pays_for_two_releases(stories: list[Story]) -> None:
    for story in stories:
        seals = [e.body["planned"] for e in story.ended.entries if e.state == "sealed"]
        assert len(set(seals)) == len(seals), story.point
        for what in ("training", "metrics"):
            releases = sealed(story.ended, what)
            assert len({e.body["sha256"] for e in releases}) == len(releases)


def test_a_killed_site_without_room_to_pay_again_is_refused(
    fates: Fates, points: list[str]
) -> None:
    """What was charged may have been used: it is neither given back nor overdrawn."""
    tight = fates.site(budget=spent_by(points))
    where = 1 + points.index("step")
    second_step = Life(site=str(tight), out=str(tight), dies_before=where + 1)
    assert fates.run(second_step) == -signal.SIGKILL
    left = read_ledger(tight / LEDGER)

    assert fates.run(Life(site=str(tight), out=str(tight))) == REFUSED

    assert (tight / "refusal").read_text("utf-8") == "BudgetSpent"
    assert [e.body["reason"] for e in read_ledger(tight / LEDGER).entries[-1:]] == [
        "BudgetSpent"
    ]
    assert read_ledger(tight / LEDGER).events == left.events
    assert log_of(tight).count("step") == 1
