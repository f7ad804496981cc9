"""From what is asked to what is ranked: the user's own past, edits and words.

It sees the asking user's own doings, public values and charged releases, and nothing of
any other user.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from client.serving.allowed import allowed, known_places
from client.serving.ask import Ask
from client.serving.build import centred
from client.serving.interests import adjustment, searched, without
from client.serving.language.constraints import direction, hard, leanings
from client.serving.loaded import Loaded
from client.serving.model import Ints, Mask, Served
from client.serving.people import group_bonus
from client.serving.rank import Wish
from client.serving.reasons import Named
from client.serving.refused import Refused
from client.serving.taste import NOBODY, Past
from client.serving.understood import Range, Term, Understood
from shared.protocol import Array

SEARCHES = 3  # newest interests searched for that count
OF_STRANGERS = 0.1  # diversity of a list for somebody of whom nothing is known


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Said:
    """A request in words, as far as the model can follow it.

    Attributes:
        understood: In parts.
        fits: Which items satisfy every hard part, [n].
        query: Where its meaning points, centred unit vector [width]; None for nowhere.
        leanings: What its wishes by degree add, [n].
    """

    understood: Understood
    fits: Mask
    query: Array | None
    leanings: Array

    @classmethod
    def of(cls, loaded: Loaded, text: str, before: Understood | None) -> Self:
        """Read a request; it takes a forward pass of the encoder.

        Raises:
            Refused: If the encoder cannot spell its language.
        """
        model, centre, towards = (
            loaded.served,
            loaded.built.centre,
            loaded.built.towards,
        )
        understood, vector = loaded.language.understand(text, before)
        meaning = centred(vector[None], centre)[0] if vector.any() else None
        return cls(
            understood,
            hard(understood, model),
            direction(understood, meaning, model),
            leanings(understood, model, lambda words: np.stack([*map(towards, words)])),
        )

    def terms(self, model: Served) -> list[Named]:
        """Return the parts that items match, as causes of their place."""
        made = []
        parts: list[Term | Range] = [*self.understood.wanted, *self.understood.ranges]
        for part in parts:
            holds = np.zeros(len(model), np.bool_)
            holds[_matching(model, part)] = True
            made.append(
                Named(kind="term", name=part.attribute, text=part.words, holds=holds)
            )
        if self.understood.leanings:
            words = ", ".join(
                part.words if part.weight > 0 else f"less {part.words}"
                for part in self.understood.leanings
            )
            wishes = Named(kind="term", name="wishes", text=words, amount=self.leanings)
            made.append(wishes)
        return made


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Person:
    """Who is served: what is known of them, and what that adds to scores.

    Attributes:
        past: Their own, with what an anonymous visitor sent.
        interests: What they pinned or muted, and what their groups like, by name.
    """

    past: Past
    interests: tuple[Named, ...]

    @classmethod
    def of(cls, loaded: Loaded, ask: Ask, said: Said | None) -> Self:
        """Return who asks."""
        model, topics, users = loaded.served, loaded.topics, loaded.users
        past, edits, about, searches = NOBODY, {}, dict(ask.about), list[str]()
        if ask.user:
            past = users.past(ask.user, model)
            edits, about = users.edits(ask.user), users.about(ask.user) | about
            searches = users.searches(ask.user, SEARCHES)
        if any(edit.state == "forgotten" for edit in edits.values()):
            past = without(past, users.events(ask.user), edits, model, topics)
        asked = [
            f"attribute:{name}:{value}"
            for name, wanted in ask.filters.items()
            for value in wanted.any_of
        ]
        if said is not None:
            terms = said.understood.wanted
            asked += [f"attribute:{term.attribute}:{term.value}" for term in terms]
        named = [
            Named(kind="interest", name=key, text=name, amount=amount)
            for key, name, amount in adjustment(edits, model, topics, asked)
        ]
        named += [
            Named(kind="interest", name=f"search:{key}", text=name, amount=amount)
            for key, name, amount in searched(searches, model, topics)
        ]
        groups = _groups(loaded, about, past)
        past = _with_visit(past, known_places(model, ask.history))
        return cls(past, (*named, *groups))

    def adjustment(self, items: int) -> Array | None:
        """Return what all of it adds, [items]; None for nothing."""
        if not self.interests:
            return None
        whole = np.zeros(items, np.float32)
        for each in self.interests:
            whole += each.amount
        return whole


def wish_of(loaded: Loaded, ask: Ask, person: Person, said: Said | None) -> Wish:
    """Return what is to be ranked.

    Raises:
        ConfigError: If a filter is on an attribute that the catalogue lacks.
    """
    known = said is not None or person.interests or len(person.past.items)
    usual = 0.0 if known else OF_STRANGERS
    explores = ask.candidates is None and said is None
    return Wish(
        allowed=_may(loaded.served, person.past, ask, said),
        past=person.past,
        query=said.query if said else None,
        leanings=said.leanings if said and said.leanings.any() else None,
        alpha=ask.alpha,
        adjustment=person.adjustment(len(loaded.served)),
        rules=loaded.settings.rules,
        k=ask.k,
        diversity=usual if ask.diversity is None else ask.diversity,
        explore=loaded.settings.explore if explores else 0.0,
    )


def _matching(model: Served, part: Term | Range) -> Ints:
    """Return the places of the items that one part of a request is true of."""
    if isinstance(part, Range):
        return model.numbers[part.attribute].within(part.low, part.high)
    return model.attributes[part.attribute].get(part.value, np.zeros(0, np.int64))


def sought(loaded: Loaded, words: str) -> tuple[str, ...]:
    """Return the keys of the interests that the words of a search name."""
    try:
        understood, _ = loaded.language.understand(words)
    except Refused:
        return ()  # in a language that the encoder cannot spell
    return tuple(f"attribute:{t.attribute}:{t.value}" for t in understood.wanted)


def notes(loaded: Loaded, ask: Ask, wish: Wish, said: Said | None) -> tuple[str, ...]:
    """Return what whoever asked may wonder about, one sentence each."""
    model, found = loaded.served, list[str]()
    if ask.user and not len(wish.past.seen):
        found.append("nothing is known of this user yet")
    strange = len(ask.candidates or ()) - len(known_places(model, ask.candidates or ()))
    if strange:
        found.append(f"{strange} of the candidates are not in the catalogue")
    if not wish.allowed.any():
        again = replace(ask, include_seen=True)
        may = _may(model, wish.past, again, said)
        met = "this user has met all that fits; include_seen brings it back"
        nothing = "nothing in the catalogue fits all that was asked for"
        found.append(met if may.any() else nothing)
    return tuple(found)


def _may(model: Served, past: Past, ask: Ask, said: Said | None) -> Mask:
    """Return which items may be shown at all, [n]."""
    may = allowed(
        model,
        past,
        filters=ask.filters,
        candidates=ask.candidates,
        exclude=ask.exclude,
        include_seen=ask.include_seen,
    )
    return may if said is None else may & said.fits


def _groups(loaded: Loaded, about: dict[str, str], past: Past) -> list[Named]:
    """Return what the groups that somebody belongs to like, if that was released."""
    tallies = loaded.group_tallies
    if tallies is None or not about:
        return []
    likes = float(past.strengths.sum())
    bonus = group_bonus(
        tallies.groups,
        tallies.groups_noise,
        about,
        loaded.topics,
        loaded.settings.groups,
        likes,
    )
    text = "what people like you enjoy"
    return [Named(kind="interest", name="groups", text=text, amount=bonus)]


def _with_visit(past: Past, visited: Ints) -> Past:
    """Return a past with items that a visitor liked, older than all it holds."""
    if not len(visited):
        return past
    more = np.array([p for p in dict.fromkeys(visited.tolist()) if p not in past.items])
    more = more.astype(np.int64)
    return replace(
        past,
        items=np.append(past.items, more),
        strengths=np.append(past.strengths, np.ones(len(more), np.float32)),
        seen=np.append(past.seen, more),
    )
