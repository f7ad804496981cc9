"""A plan file whose sites share their popularity, carried out by the real apps.

An operator's folder, admitted sites, their own policies; only the network is left out.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from client.app import app
from client.cli import app as commands
from client.prior import log_prior
from client.site import PLAN as KEPT_PLAN
from client.site import Site
from client.workbench import popularity_prior
from server.app import federate
from server.events import Event, RoundReport
from server.operator import Operator
from server.plan_file import read_plan, settings_for
from server.sites import admit
from shared.identity import to_text
from shared.popularity import shared_part
from shared.protocol import Array, kept_plan
from shared.release import WEIGHTS, trained
from simulations.grid import LocalGrid
from tests.factories import write_site
from tests.server.premises import an_operator
from tests.shared.papers import an_identity
from tests.standin import key_of

PEOPLE = {"north": 12, "south": 16}  # of the same items
ALLOWED = ("popularity", "cooccurrence", "shared-popularity")
NOISE = 2.0
PLAN = """\
run = "{run}"
sites = ["north", "south"]
start = "{start}"
[federation]
rounds = 2
quorum = 1
rule = "spectral"
[spec]
rank = 4
max-tokens = 12
[mechanism]
q = 1
steps = 1
clip = 1
sigma = 2.0
prior-sigma = 2.0
head-sigma = 2.0
[recipe]
optimizer = "sgd"
learning-rate = 2.0
head = "cooccurrence"
prior = "shared"
history = 6
targets = 2
negatives = 8
factors = 4
[catalogue]
digest = "{catalogue}"
items = {items}
"""


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    made = an_operator(tmp_path / "operator")
    made.sites.mkdir()
    for name in PEOPLE:
        admit(made, to_text(an_identity(name), key_of(name)))
    return made


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Site]:
    return {
        name: write_site(tmp_path / name, people, name=name, releases=ALLOWED)
        for name, people in PEOPLE.items()
    }


def carry_out(
    operator: Operator, sites: dict[str, Site], run: str = "spring", start: str = ""
) -> list[RoundReport]:
    """Carry out a plan whose catalogue is what ``north`` shows; return its rounds."""
    north = str(sites["north"].folder)
    shown = CliRunner().invoke(commands, ["data", "check", north, "--json"]).output
    path = operator.folder / f"{run}.toml"
    said = {key: json.loads(shown)[key] for key in ("catalogue", "items")}
    path.write_text(PLAN.format(run=run, start=start, **said), "utf-8")
    settings = settings_for(operator, read_plan(path), resume=False)
    Path(settings.federation.out).mkdir(parents=True)
    nodes = {name: {"site": str(site.folder)} for name, site in sites.items()}
    events: list[Event] = []
    federate(LocalGrid(app, nodes), settings, events.append)
    return [event for event in events if isinstance(event, RoundReport)]


def published(operator: Operator, number: int, run: str = "spring") -> dict[str, Array]:
    version = operator.runs / run / "registry" / f"round-{number:04}"
    return trained(load_file(version / WEIGHTS))


def charged(site: Site) -> list[str]:
    entries = site.open_ledger().entries()
    return [one.body["what"] for one in entries if one.state == "planned"]


def released(site: Site, run: str = "spring") -> Array:
    kept = site.kept(run, "popularity")
    assert kept is not None
    return kept["popularity"]


def test_the_prior_of_every_site_is_made_of_the_mean_of_all_releases(
    operator: Operator, sites: dict[str, Site]
) -> None:
    rounds = carry_out(operator, sites)

    assert [sorted(one.sites_ok) for one in rounds] == [["north", "south"]] * 2
    both = np.sum([released(site) for site in sites.values()], axis=0)
    for number in (1, 2):
        [mean] = shared_part(published(operator, number)).values()
        assert mean == pytest.approx(both / 2 / 20, abs=1e-5)  # 20 users are declared
    for site in sites.values():
        content = site.kept_bytes("spring", KEPT_PLAN)
        assert content is not None
        plan = kept_plan(content.decode())
        prior = popularity_prior(site, plan, published(operator, 2))
        assert prior == pytest.approx(log_prior(both, NOISE * 2**0.5), abs=1e-3)
        assert charged(site) == ["popularity", "cooccurrence", "training", "training"]


def test_a_site_of_another_catalogue_is_left_out_and_charged_nothing(
    operator: Operator, sites: dict[str, Site]
) -> None:
    items = sites["south"].data / "items.parquet"
    pl.read_parquet(items).reverse().write_parquet(items)

    rounds = carry_out(operator, sites)

    assert [dict(one.refused) for one in rounds] == [{"south": "DataError"}] * 2
    assert charged(sites["south"]) == []
    [mean] = shared_part(published(operator, 1)).values()
    assert mean == pytest.approx(released(sites["north"]) / 20, abs=1e-5)


def test_a_later_run_goes_on_from_the_popularity_of_a_release(
    operator: Operator, sites: dict[str, Site]
) -> None:
    carry_out(operator, sites)
    [before] = shared_part(published(operator, 2)).values()

    rounds = carry_out(operator, sites, "summer", "spring/2")

    assert [sorted(one.sites_ok) for one in rounds] == [["north", "south"]] * 2
    both = np.sum([released(site, "summer") for site in sites.values()], axis=0)
    [mean] = shared_part(published(operator, 2, "summer")).values()
    assert mean == pytest.approx(both / 2 / 20, abs=1e-5)
    assert not np.allclose(mean, before)


def test_a_site_whose_policy_does_not_allow_it_is_left_out_and_charged_nothing(
    operator: Operator, sites: dict[str, Site], tmp_path: Path
) -> None:
    south = write_site(tmp_path / "south", 0, name="south")
    strict = replace(sites["south"], policy=south.policy)

    rounds = carry_out(operator, {**sites, "south": strict})

    assert [dict(one.refused) for one in rounds] == [{"south": "PolicyRefused"}] * 2
    assert charged(south) == []
