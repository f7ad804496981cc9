"""The sites of a simulation on disk, and the held-out events that no site sees."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from client.data import SiteData, save
from client.policy import RELEASES, SitePolicy
from client.policy_file import policy_text
from client.site import SiteSettings, settings_text
from shared.catalogue import Catalogue
from shared.errors import ConfigError, DataError
from simulations.datasets.open import open_dataset
from simulations.partition import How, partition
from simulations.population import generate
from simulations.scenario import Scenario, site_names
from simulations.split import (
    Mask,
    Split,
    cold_items,
    leave_one_out,
    leave_two_out,
    with_negatives,
)

CENTRE = "central"  # name of the one site of all users


@dataclass(frozen=True, slots=True)
class World:
    """One site's name, training data and held-out events, for all sites.

    Attributes:
        names: Public names, in order.
        training: What each site may train on.
        splits: What each site's users did next; stays with the simulation.
        unseen: Names of the sites that never train.
        grown: Each site's items once training is over: those of ``training`` first,
            then late ones, which nobody trained with or against; empty without any.
    """

    names: tuple[str, ...]
    training: tuple[SiteData, ...]
    splits: tuple[Split, ...]
    unseen: tuple[str, ...] = ()
    grown: tuple[Catalogue, ...] = ()

    @property
    def trains(self) -> tuple[str, ...]:
        """Return the names of the sites that train."""
        return tuple(name for name in self.names if name not in self.unseen)

    def data(self, name: str) -> SiteData:
        """Return what a site may train on."""
        return self.training[self.names.index(name)]

    def catalogue(self, name: str) -> Catalogue:
        """Return the items that a site ranks."""
        return (
            self.grown[self.names.index(name)]
            if self.grown
            else (self.data(name).catalogue)
        )

    def split(self, name: str) -> Split:
        """Return what a site's users did next."""
        return self.splits[self.names.index(name)]

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
        else generate(rng, users=asked.users, items=asked.items).data
    )
    whole = _positive(whole) if asked.positives == "all" else whole
    parts = partition(
        _cold_last(whole, scenario),
        sites=asked.sites,
        how=_how(asked.partition),
        rng=rng,
        attribute=asked.attribute or None,
    )
    names = site_names(asked.sites)
    splits = tuple(_held_out(part, scenario, place) for place, part in enumerate(parts))
    for name, split in zip(names, splits, strict=True):
        if not split.users:
            raise DataError(f"{name} has no user with three likes: use fewer sites")
    training = tuple(
        SiteData(
            _warm(part.catalogue, scenario), split.train, part.people_of(split.train)
        )
        for part, split in zip(parts, splits, strict=True)
    )
    unseen = names[asked.sites - asked.unseen_sites :]
    grown = tuple(part.catalogue for part in parts) if asked.cold_items else ()
    return World(names, training, splits, unseen, grown)


def _cold(catalogue: Catalogue, scenario: Scenario) -> Mask:
    """Return which items come when training is over."""
    asked = scenario.simulation
    return cold_items(catalogue.ids, asked.cold_items, asked.seed)


def _cold_last(data: SiteData, scenario: Scenario) -> SiteData:
    """Return the same data with the cold items behind all others, if there are any."""
    if not scenario.simulation.cold_items:
        return data
    order = np.argsort(_cold(data.catalogue, scenario), kind="stable")
    place = np.argsort(order)
    histories = (replace(past, items=place[past.items]) for past in data.histories)
    catalogue = data.catalogue.subset(order.tolist())
    return replace(data, catalogue=catalogue, histories=tuple(histories))


def _warm(catalogue: Catalogue, scenario: Scenario) -> Catalogue:
    """Return the items that a site trains with, which stand first."""
    if not scenario.simulation.cold_items:
        return catalogue
    return catalogue.subset(range(int((~_cold(catalogue, scenario)).sum())))


def _positive(data: SiteData) -> SiteData:
    """Return the same data with every event a like."""
    liked = (
        replace(history, likes=np.ones(len(history), np.bool_))
        for history in data.histories
    )
    return replace(data, histories=tuple(liked))


def _held_out(part: SiteData, scenario: Scenario, place: int) -> Split:
    """Hold out what the scenario asks for, at the site of this place."""
    asked, ids = scenario.simulation, part.catalogue.ids
    cold = _cold(part.catalogue, scenario) if asked.cold_items else None
    hold_out = leave_one_out if asked.split == "leave-one-out" else leave_two_out
    split = hold_out(part.histories, cold)
    if not asked.negatives:
        return split
    rng = np.random.default_rng([asked.seed, 5, place])
    return with_negatives(split, len(ids), asked.negatives, rng)


def centre(world: World, names: Sequence[str]) -> World:
    """Return a world of one site: the users of these sites, all their items.

    Items of equal id are one item. Late items of any site come last.
    """
    parts = [world.data(name) for name in names]
    first = parts[0].catalogue
    same = all(part.catalogue.ids == first.ids for part in parts)
    catalogue = first if same else _union([part.catalogue for part in parts])
    histories = []
    for part in parts:
        places = places_in(catalogue, part.catalogue)
        histories += [
            replace(history, items=places[history.items]) for history in part.histories
        ]
    people = {user: about for part in parts for user, about in part.people.items()}
    data = SiteData(catalogue, tuple(histories), people)
    late = [world.catalogue(name) for name in names] if world.grown else []
    return World((CENTRE,), (data,), (), grown=(_union([*late, catalogue]),))


def places_in(whole: Catalogue, part: Catalogue) -> npt.NDArray[np.int64]:
    """Return where each item of ``part`` stands in ``whole``, which has them all."""
    return np.array([whole.position(item) for item in part.ids], np.int64)


def _union(catalogues: Sequence[Catalogue]) -> Catalogue:
    """Return every item of some catalogues once, as the first that has it tells it.

    The last one's items stand first.
    """
    held = {
        item: (catalogue, place)
        for catalogue in reversed(catalogues)
        for place, item in enumerate(catalogue.ids)
    }
    names = {name for catalogue in catalogues for name in catalogue.attributes}
    return Catalogue(
        ids=tuple(held),
        texts=tuple(catalogue.texts[place] for catalogue, place in held.values()),
        attributes={
            name: tuple(
                catalogue.attributes[name][place]
                if name in catalogue.attributes
                else ()
                for catalogue, place in held.values()
            )
            for name in sorted(names)
        },
    )


def _how(name: str) -> How:
    return cast("How", name)  # checked by Simulation.faults


def write_data(folder: Path, world: World) -> None:
    """Write the data of each site that trains once; all arms read the same files."""
    for name in world.trains:
        save(folder / name, world.data(name))


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
    if not private:  # delta promises nothing here, so it bounds nothing
        declared = min(declared, int(1 / asked.delta))
    elif asked.delta > 1 / declared:
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
