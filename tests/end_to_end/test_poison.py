"""One dishonest site among five: refused or bounded, told, and the run goes on.

What each rule leaves of an attack is printed by ``python -m tests.end_to_end.poison``.
"""

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from server.aggregate import make_rule
from server.registry import Registry
from server.rounds import run
from shared.adapter import norm, subtract
from shared.errors import QuorumLost
from shared.protocol import Adapter, Array
from shared.wire import open_plan
from simulations.grid import LocalGrid
from tests.end_to_end.poison import (
    BOUNDED,
    EVIL,
    MAX_NORM,
    PLAIN,
    REFUSED,
    SITES,
    VICTIM,
    attacked,
    learnt,
    scaled,
)
from tests.standin import (
    SHAPE,
    B,
    a_plan,
    an_update,
    node_configs,
    packed,
    write_start,
)

ROUNDING = 1 + 1e-5  # sums of float32


@pytest.mark.parametrize("attack", REFUSED)
def test_what_is_poisoned_beyond_doubt_is_refused_and_named_in_every_round(
    attack: str, tmp_path: Path
) -> None:
    behaviour, reason = REFUSED[attack]
    out = {EVIL, VICTIM} if reason == "UpdateCopied" else {EVIL}

    told = attacked(tmp_path, behaviour, rounds=2)

    assert [report.number for report in told.reports] == [1, 2]
    for report in told.reports:
        assert report.refused == dict.fromkeys(out, reason)
        assert report.sites_ok == tuple(site for site in SITES if site not in out)
        assert report.norms.keys() == report.cosines.keys() == {*SITES} - out
        assert report.outliers == {}
    assert np.isfinite(told.adapter[B]).all()


@pytest.mark.parametrize("attack", BOUNDED)
def test_what_could_be_honest_counts_for_a_fifth_and_its_figures_are_told(
    attack: str, tmp_path: Path
) -> None:
    behaviour, outliers = BOUNDED[attack]
    (tmp_path / "honest").mkdir()
    honest = attacked(tmp_path / "honest", scaled(1), rounds=2)

    told = attacked(tmp_path, behaviour, rounds=2)

    for report in told.reports:
        assert report.refused == {}
        assert report.outliers == outliers
        assert report.norms.keys() == report.cosines.keys() == {*SITES}
        assert max(report.norms.values()) <= MAX_NORM
    moved = norm(subtract(told.adapter, honest.adapter))
    assert moved <= 2 * 2 * MAX_NORM / 5 * ROUNDING  # in two rounds


def test_a_turned_update_is_told_where_nothing_hides_it(tmp_path: Path) -> None:
    told = attacked(tmp_path, scaled(-1), agreement=PLAIN)

    assert told.reports[0].outliers == {EVIL: "cosine"}
    assert told.reports[0].cosines[EVIL] < -0.4
    assert learnt(told) > 0


def test_a_copy_costs_the_round_when_too_few_are_left(tmp_path: Path) -> None:
    """Neither counts, so whoever can see an update in time can silence its site."""
    world, app = Registry.open(tmp_path, write_start(tmp_path / "start")), ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        plan, _, _ = open_plan(message.content)
        return Message(
            packed(an_update(plan, str(context.node_config["site"]))), reply_to=message
        )

    grid = LocalGrid(app, node_configs("a", "b", "c"))
    with pytest.raises(QuorumLost, match="a: UpdateCopied, b: UpdateCopied"):
        run([a_plan()], grid, make_rule("fedavg"), world, lambda _: None)

    assert world.newest() == 0


@pytest.mark.parametrize("rule", ["fedmedian", "fedtrimmedavg"])
def test_rules_that_look_at_the_middle_lose_less_to_the_longest_turned_update(
    rule: str, tmp_path: Path
) -> None:
    evil = scaled(-1, to=99.9)
    learnt_by = {}
    for name in ("fedavg", rule):
        (tmp_path / name).mkdir()
        made = attacked(
            tmp_path / name, evil, name, agreement=PLAIN, rounds=2, max_norm=100.0
        )
        learnt_by[name] = learnt(made)

    assert learnt_by["fedavg"] < 0 < learnt_by[rule]


def test_krum_takes_an_honest_update_unless_somebody_sends_nothing(
    tmp_path: Path,
) -> None:
    """Under noise a short update is nearest to all: so it is told as an outlier."""
    for name in ("turned", "nothing"):
        (tmp_path / name).mkdir()
    turned = attacked(tmp_path / "turned", scaled(-1), "krum", agreement=PLAIN)
    nothing = attacked(tmp_path / "nothing", scaled(0), "krum", agreement=PLAIN)

    assert learnt(turned) > 0
    assert norm(nothing.adapter) == 0
    assert nothing.reports[0].outliers == {EVIL: "norm"}


LIMIT = 10.0
entries = st.floats(-LIMIT, LIMIT, width=32) | st.sampled_from([0.0, 1e-30, 1e30])
tensors = st.lists(entries, min_size=6, max_size=6).map(
    lambda values: np.array(values, np.float32).reshape(SHAPE)
)
odd = st.sampled_from([np.nan, np.inf, -np.inf]).map(
    lambda value: np.full(SHAPE, value, np.float32)
)


def honest_delta(site: str) -> Array:
    """As long as may be, in a direction of the site's own."""
    drawn = np.random.default_rng([*site.encode()]).normal(size=SHAPE)
    return np.asarray(0.999 * LIMIT * drawn / np.linalg.norm(drawn), np.float32)


@lru_cache
def honest_average(sites: str) -> Adapter:
    return average(sites, honest_delta(sites[0]))


def average(sites: str, sent: Array) -> Adapter:
    """The adapter after a round in which the first site sent this."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        plan, _, _ = open_plan(message.content)
        site = str(context.node_config["site"])
        delta = sent if site == sites[0] else honest_delta(site)
        content = packed(replace(an_update(plan, site), delta={B: delta}))
        return Message(content, reply_to=message)

    plan = replace(a_plan(1, tuple(sites)), max_norm=LIMIT, quorum=1)
    with tempfile.TemporaryDirectory() as folder:
        start = write_start(Path(folder) / "start")
        registry = Registry.open(Path(folder) / "registry", start)
        grid = LocalGrid(app, node_configs(*sites))
        run([plan], grid, make_rule("fedavg"), registry, lambda _: None)
        return registry.current()[1]


@settings(max_examples=30, deadline=None)
@given(sites=st.sampled_from(["ab", "abc", "abcdef"]), sent=tensors | odd)
def test_one_site_of_n_moves_the_average_by_at_most_2_max_norm_over_n(
    sites: str, sent: Array
) -> None:
    """Whatever it sends: one that does not count moves it no further than that."""
    moved = subtract(average(sites, sent), honest_average(sites))

    assert norm(moved) <= 2 * LIMIT / len(sites) * ROUNDING


@pytest.mark.parametrize("sites", ["abc", "abcdef"])
def test_one_that_silences_another_by_a_copy_moves_it_by_at_most_twice_that(
    sites: str,
) -> None:
    moved = subtract(average(sites, honest_delta("b")), honest_average(sites))

    assert norm(moved) <= 4 * LIMIT / len(sites) * ROUNDING
