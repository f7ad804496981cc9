"""All that one release answers with, made together and swapped as one."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from client.forget import Learned, learned
from client.serving.added_items import NewItem, beside
from client.serving.build import Built, build, chosen
from client.serving.feedback.adaptation import Adaptation
from client.serving.feedback.tallies import PURPOSE, Tallies, read_tallies
from client.serving.feedback.tastes import TOPICS, layout_of
from client.serving.language.understand import Language
from client.serving.model import Served
from client.serving.pool import Index
from client.serving.rules import check_rules
from client.serving.settings import FILE as SETTINGS
from client.serving.settings import ServingSettings, read_settings
from client.serving.store import Store
from client.serving.topics import Topics, topics_of
from client.serving.users import Users
from client.site import Site, open_site
from client.sources.refresh import first_read
from shared.errors import ConfigError


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """A release at work.

    Attributes:
        site: Whose it is.
        settings: Of serving.
        built: The release, joined with the site's data.
        served: The same with the items that were added since.
        index: Of its vectors, where the catalogue is large.
        topics: Of its items.
        users: Of the site, by the data as they were read.
        language: That understands requests for the items.
        tallies: What ``tacit site tune`` released, if anything.
        spent: What the site's ledger says was spent; None before the first charge.
    """

    site: Site
    settings: ServingSettings
    built: Built
    served: Served
    index: Index | None
    topics: Topics
    users: Users
    language: Language
    tallies: Tallies | None
    spent: Learned | None

    def with_items(self, items: list[NewItem]) -> "Loaded":
        """Return the same with items that were put over the API, and no others."""
        base = self.built.served
        added = beside(items, base.catalogue)
        if not len(added):
            return self
        topics = replace(self.topics, of_item=self.topics.of_item[: len(base)])
        served = base.with_items(added, self.built.vectors(added.texts))
        self.users.prepare(served)
        _warm(served)
        return replace(
            self,
            served=served,
            topics=topics.over(served),
            language=self.language.with_catalogue(served.catalogue),
        )

    @cached_property
    def adaptation(self) -> Adaptation | None:
        """How lists are made from what was released; None where the policy forbids.

        Exploring is compared only where there is anything to explore.
        """
        if PURPOSE not in self.site.policy.releases or not self.settings.adapt:
            return None
        explores = self.settings.explore > 0 and bool(self.served.fresh.any())
        axes = ("alpha", "explore") if explores else ("alpha",)
        return Adaptation(self.tallies, axes)

    @property
    def group_tallies(self) -> Tallies | None:
        """What was released of groups, if it is of these very topics and groups."""
        layout = layout_of(self.topics, self.settings.groups)
        fits = self.tallies is not None and self.tallies.layout == layout
        return self.tallies if fits else None


def load(folder: Path, release: Path | None, store: Store) -> Loaded:
    """Load what the site in ``folder`` serves now.

    Args:
        folder: The site's.
        release: A release's folder in place of the one in force.
        store: Of what the site's users do live.

    Raises:
        TacitError: If the site, its release, its data or its rules cannot be used.
    """
    site, settings = open_site(folder), read_settings(folder)
    first_read(site.data, folder)
    built = build(site, chosen(site, release))
    _check(built.served, settings)
    _warm(built.served)
    catalogue = built.served.catalogue  # public, and so is what the head learns of it
    topics = topics_of(built.served, folder / TOPICS)
    return Loaded(
        site=site,
        settings=settings,
        built=built,
        served=built.served,
        index=_index(built),
        topics=topics,
        users=Users(site, built.data, store),
        language=Language(catalogue, built.encoder, site.cache / "language"),
        tallies=read_tallies(folder) if PURPOSE in site.policy.releases else None,
        spent=learned(site),
    )


def _check(served: Served, settings: ServingSettings) -> None:
    """Refuse settings that name attributes which the catalogue does not have."""
    check_rules(served, settings.rules)
    known = served.catalogue.attributes
    if settings.provider and settings.provider not in known:
        raise ConfigError(
            f"{SETTINGS}: provider={settings.provider!r} is no attribute of the "
            f"catalogue; it has: {', '.join(sorted(known)) or 'none'}"
        )


def _warm(served: Served) -> None:
    """Do what the first request would have to wait for."""
    _ = served.attributes, served.numbers


def _index(built: Built) -> Index | None:
    """Return the index of a large catalogue, made once and kept beside the vectors."""
    path = built.kept.with_suffix(".faiss")
    if path.exists():
        return Index.read(path, built.served)
    index = Index.of(built.served)
    if index is not None:
        index.save(path)
    return index
