"""The plan that docs/deploy.md shows: sites may take it, and it costs what is said."""

import re
import tomllib
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest

from client.policy import Circumstances, SitePolicy, require_allowed
from client.setup import policy_for
from server.plan_file import PlanFile, read_plan
from server.settings import Settings, read_settings
from shared.accounting import GaussianEvent, epsilon
from shared.errors import PolicyRefused
from shared.protocol import RoundPlan
from tests.shared.papers import an_invitation

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text("utf-8")
BASE = "a" * 64
HERE = Circumstances(site="north", base=BASE, code="", now=time(12))
ROW = re.compile(r"^\| \d \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", re.M)


def block(start: str) -> str:
    """The one TOML block that begins so."""
    found = [
        text
        for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        if text.lstrip().startswith(start)
    ]
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def shown(tmp_path: Path) -> PlanFile:
    path = tmp_path / "plan.toml"
    path.write_text(block("run ="), "utf-8")
    return read_plan(path)


def settings(plan: PlanFile) -> Settings:
    flat = {
        f"{table}.{key}": value
        for table, keys in plan.tables.items()
        for key, value in keys.items()
    }
    paths = {"federation.out": "/out", "federation.start": "/start"}
    names = {"federation.run": plan.run, "federation.sites": ",".join(plan.sites)}
    return read_settings({**flat, **paths, **names, "spec.base": BASE})


def first_round(plan: PlanFile) -> RoundPlan:
    asked = settings(plan)
    assert plan.catalogue is not None
    return RoundPlan(
        run=plan.run,
        number=1,
        sites=plan.sites,
        spec=asked.spec,
        mechanism=asked.mechanism,
        recipe=asked.recipe,
        shapes={
            plan.catalogue.tensor: (plan.catalogue.items,),
            "encoder.layer.5.output.dense.lora_B.weight": (384, asked.spec.rank),
        },
        max_norm=asked.federation.max_norm,
        quorum=asked.federation.needed,
        deadline_s=asked.federation.deadline_s,
    )


def policy() -> SitePolicy:
    """What ``tacit site init`` writes for a site that is invited by default."""
    invited = an_invitation(base=BASE)
    return policy_for(invited, users=300, epsilon=8.0, delta=1e-5)


def test_a_new_site_takes_the_plan_once_its_popularity_may_leave(
    shown: PlanFile,
) -> None:
    plan, written = first_round(shown), policy()
    releases = tuple(tomllib.loads(block("releases"))["releases"])

    with pytest.raises(PolicyRefused) as told:
        require_allowed(plan, written, HERE)
    require_allowed(plan, replace(written, releases=releases), HERE)

    assert str(told.value).count(";") == 0
    assert "the released popularity may not leave" in str(told.value)


def test_every_noise_that_is_shown_costs_what_is_said(shown: PlanFile) -> None:
    asked = settings(shown)
    rounds, noise = asked.federation.rounds, asked.mechanism
    rows = [tuple(map(float, row)) for row in ROW.findall(PAGE)]

    assert len(rows) == 4
    assert (noise.prior_sigma, noise.head_sigma, noise.sigma, 3.9997) in rows
    for prior, head, sigma, said in rows:
        events = [
            GaussianEvent(q=1.0, sigma=prior, steps=1),
            GaussianEvent(q=1.0, sigma=head, steps=1),
            GaussianEvent(q=noise.q, sigma=sigma, steps=noise.steps * rounds),
        ]
        assert epsilon(events, 1e-5) == pytest.approx(said, abs=5e-5)
        assert prior >= policy().min_prior_sigma
        assert head >= policy().min_head_sigma
        assert sigma >= policy().min_sigma
