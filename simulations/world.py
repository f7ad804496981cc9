"""The sites of a simulation on disk, and the held-out events that no site sees."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from client.data import SiteData, save
from client.policy import RELEASES, SitePolicy
from client.policy_file import policy_text
from client.site import SiteSettings, settings_text
from shared.errors import ConfigError, DataError
from simulations.datasets.open import open_dataset
from simulations.partition import How, partition
from simulations.population import generate
from simulations.scenario import Scenario, site_names
from simulations.split import Split, leave_two_out


@dataclass(frozen=True, slots=True)
class World:
    """One site's name, training data and held-out events, for all sites.

    Attributes:
        names: Public names, in order.
        training: What each site may train on.
        splits: What each site's users did next; stays with the simulation.
    """

    names: tuple[str, ...]
    training: tuple[SiteData, ...]
    splits: tuple[Split, ...]

    def __repr__(self) -> str:
        return f"World({len(self.names)} sites)"


def make_world(scenario: Scenario) -> World:
    """Load or generate the data, divide it over the sites, hold two events out.

    Raises:
        DataError: If the data cannot be used, or a site is left without users.
    """
    asked = scenario.simulation
    rng = np.random.default_rng([asked.seed, 1])
    whole = (
        open_dataset(Path(asked.data))
        if asked.data
        else generate(rng, users=asked.users).data
    )
    parts = partition(
        whole,
        sites=asked.sites,
        how=_how(asked.partition),
        rng=rng,
        attribute=asked.attribute or None,
    )
    names = site_names(asked.sites)
    splits = tuple(leave_two_out(part.histories) for part in parts)
    for name, split in zip(names, splits, strict=True):
        if not split.users:
            raise DataError(f"{name} has no user with three likes: use fewer sites")
    training = tuple(
        SiteData(part.catalogue, split.train, part.people_of(split.train))
        for part, split in zip(parts, splits, strict=True)
    )
    return World(names, training, splits)


def _how(name: str) -> How:
    return cast("How", name)  # checked by Simulation.faults


def write_data(folder: Path, world: World) -> None:
    """Write each site's training data once; all arms read the same files."""
    for name, data in zip(world.names, world.training, strict=True):
        save(folder / name, data)


def write_site(
    folder: Path,
    name: str,
    data: Path,
    *,
    scenario: Scenario,
    users: int,
    private: bool,
) -> Path:
    """Write a site's folder with its settings and policy; return it.

    Args:
        folder: Of the arm; the site lies below it, in ``sites``.
        name: The site's name.
        data: Folder of its training data.
        scenario: Gives encoder, budget and delta.
        users: Number of users; the declared number is this, rounded to tens.
        private: Whether the site has a finite budget.

    Raises:
        ConfigError: If delta is above one in the number of users.
    """
    site, asked = folder / "sites" / name, scenario.simulation
    site.mkdir(parents=True, exist_ok=True)
    budget = scenario.budgets.get(name, asked.epsilon) if private else float("inf")
    declared = max(10, round(users, -1))
    if asked.delta > 1 / declared:
        raise ConfigError(
            f"delta={asked.delta} is over 1/users = {1 / declared} at {name}: give a "
            "smaller --delta"
        )
    settings = SiteSettings(
        name=name,
        data=os.path.relpath(data, site),
        base=asked.base,
        precision=asked.precision,
        cache=str(cache_folder()),
    )
    policy = SitePolicy(
        epsilon=budget,
        delta=asked.delta,
        users=declared,
        modules=(scenario.spec("0" * 64).modules,),
        releases=RELEASES,
        insecure_test_noise=asked.insecure_test_noise,
    )
    (site / "site.toml").write_text(settings_text(settings), "utf-8")
    (site / "policy.toml").write_text(policy_text(policy), "utf-8")
    return site


def cache_folder() -> Path:
    """Return where activations of public texts are kept between runs.

    ``TACIT_CACHE``, or ``tacit`` in the user's cache folder.
    """
    named = os.environ.get("TACIT_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "tacit"
