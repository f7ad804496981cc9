"""One request for recommendations: ranked, perhaps two ways, answered and logged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from client.serving.ask import Answer, Ask, Parts, Reason, Recommended
from client.serving.contract import NotHere
from client.serving.diversity import spread
from client.serving.feedback.adaptation import Choice
from client.serving.feedback.arms import USUAL, Arm
from client.serving.feedback.interleave import interleave
from client.serving.feedback.segments import segment_of
from client.serving.loaded import Loaded
from client.serving.model import Served
from client.serving.rank import Ranked, Wish, prepare, rank, similar
from client.serving.reasons import Named, reasons
from client.serving.records import ShownItem, ShownList, Team
from client.serving.taste import taste_of
from client.serving.wishes import Person, Said, notes, wish_of
from shared.errors import DataError

NO_PARTS = Parts(text=0.0, query=0.0, cf=0.0, prior=0.0, interests=0.0, rules=0.0)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Way:
    """One way in which a wish was ranked; a list may be made of two."""

    wish: Wish
    ranked: Ranked
    team: Team
    reasons: tuple[Reason, ...] | tuple[None, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """One place of a list: which of a way's own it is."""

    way: Way
    at: int

    @property
    def place(self) -> int:
        """Of the item in the catalogue."""
        return int(self.way.ranked.places[self.at])


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a list is known by: its id, when it was made, and its conversation."""

    list: str
    time: int
    conversation: str


def answered(
    loaded: Loaded, ask: Ask, said: Said | None, mark: Mark, rng: np.random.Generator
) -> tuple[Answer, ShownList]:
    """Return the answer to a request, and the list as it is to be noted down.

    Raises:
        ConfigError: If a filter is on an attribute that the catalogue lacks.
    """
    person = Person.of(loaded, ask, said)
    wish = wish_of(loaded, ask, person, said)
    choice = _choice(loaded, ask, said, wish, rng)
    terms = [*person.interests, *(said.terms(loaded.served) if said else ())]
    alpha, ways = _ways(loaded, wish, choice, terms if ask.explain else None, rng)
    rows = _drafted(ways, wish.k, rng)
    answer = Answer(
        list=mark.list,
        release=loaded.served.release,
        items=tuple(_recommended(loaded.served, row) for row in rows),
        alpha=alpha,
        diversity=spread(loaded.served, np.array([row.place for row in rows], int)),
        understood=said.understood if said else None,
        conversation=mark.conversation,
        notes=notes(loaded, ask, wish, said),
    )
    return answer, _shown(ask, mark, choice, answer, rows)


def alike(loaded: Loaded, item: str, k: int) -> tuple[Recommended, ...]:
    """Return the items whose texts are nearest to an item's; scores are cosines.

    Raises:
        NotHere: If there is no such item.
    """
    model = loaded.served
    try:
        place = model.catalogue.position(item)
    except DataError:
        raise NotHere("no such item in the catalogue") from None
    places, cosines = similar(model, place, k, loaded.index)
    found = zip(places.tolist(), cosines.tolist(), strict=True)
    return tuple(
        Recommended(
            item=model.catalogue.ids[place],
            text=model.catalogue.texts[place],
            attributes=_attributes(model, place),
            score=cosine,
            parts=replace(NO_PARTS, text=cosine),
            explored=False,
            reason=None,
        )
        for place, cosine in found
    )


def _choice(
    loaded: Loaded,
    ask: Ask,
    said: Said | None,
    wish: Wish,
    rng: np.random.Generator,
) -> Choice:
    """Return how the list is made; who asks for a way of their own gets that."""
    likes = int(wish.past.strengths.sum())
    segment, adaptation = segment_of(likes), loaded.adaptation
    if adaptation is None or not ask.user or said is not None or ask.alpha is not None:
        return Choice(segment=segment, arm_a=USUAL)
    if ask.candidates is not None or any(rule.most for rule in wish.rules):
        return Choice(segment=segment, arm_a=adaptation.best(segment))  # no draft here
    return adaptation.choose(likes, rng)


def _ways(
    loaded: Loaded,
    wish: Wish,
    choice: Choice,
    named: Sequence[Named] | None,
    rng: np.random.Generator,
) -> tuple[float, list[Way]]:
    """Return the alpha of a list, and its wish ranked in one way or two to compare.

    Of two ways it is the usual alpha, between theirs.
    """
    model, index = loaded.served, loaded.index
    usual = taste_of(model, wish.past, wish.alpha).alpha
    arms = [arm for arm in (choice.arm_a, choice.arm_b) if arm is not None]
    wishes = [_under(wish, usual, arm) for arm in arms]
    alphas = tuple(each.alpha for each in wishes if each.alpha is not None)
    prepared = prepare(model, wish, index=index, alphas=alphas)
    teams: tuple[Team, ...] = ("a", "b") if len(arms) > 1 else ("",)
    ways = []
    for each, team in zip(wishes, teams, strict=True):
        ranked = rank(model, each, rng, prepared=prepared)
        why: tuple[Reason, ...] | tuple[None, ...] = (None,) * len(ranked.places)
        if named is not None:
            why = reasons(model, each, ranked, named)
        ways.append(Way(each, ranked, team, why))
    return ways[0].ranked.alpha if len(ways) == 1 else usual, ways


def _under(wish: Wish, usual: float, arm: Arm) -> Wish:
    """Return a wish as an arm would have it ranked."""
    shifted = float(np.clip(usual + arm.alpha, 0.0, 1.0))
    return replace(
        wish,
        alpha=shifted if arm.alpha else wish.alpha,
        explore=min(1.0, wish.explore * arm.explore),
    )


def _drafted(ways: Sequence[Way], k: int, rng: np.random.Generator) -> list[Row]:
    """Return the rows of the list; two ways choose in turns."""
    if len(ways) == 1:
        return [Row(ways[0], at) for at in range(len(ways[0].ranked.places))]
    first, second = (way.ranked.places for way in ways)
    places, teams = interleave(first, second, k, rng)
    drafted = []
    for place, team in zip(places.tolist(), teams.tolist(), strict=True):
        [at] = np.flatnonzero(ways[team].ranked.places == place)
        drafted.append(Row(ways[team], int(at)))
    return drafted


def _recommended(model: Served, row: Row) -> Recommended:
    place, at, scores = row.place, row.at, row.way.ranked.scores
    return Recommended(
        item=model.catalogue.ids[place],
        text=model.catalogue.texts[place],
        attributes=_attributes(model, place),
        score=float(scores.total[at]),
        parts=Parts(
            text=float(scores.text[at]),
            query=float(scores.query[at]),
            cf=float(scores.cf[at]),
            prior=float(scores.prior[at]),
            interests=float(scores.interests[at]),
            rules=float(scores.rules[at]),
        ),
        explored=bool(row.way.ranked.explored[at]),
        reason=row.way.reasons[at],
    )


def _attributes(model: Served, place: int) -> dict[str, tuple[str, ...]]:
    attributes = model.catalogue.attributes.items()
    return {name: values[place] for name, values in attributes}


def _shown(
    ask: Ask, mark: Mark, choice: Choice, answer: Answer, rows: Sequence[Row]
) -> ShownList:
    """Return the list as the site's own log has it."""
    return ShownList(
        id=mark.list,
        time=mark.time,
        user=ask.user,
        release=answer.release,
        segment=choice.segment,
        alpha=answer.alpha,
        explore=rows[0].way.wish.explore if rows else 0.0,
        arms=(choice.team_a, choice.team_b) if choice.arm_b else (),
        items=[
            ShownItem(
                item=recommended.item,
                team=row.way.team,
                explored=recommended.explored,
                propensity=float(row.way.ranked.propensity[row.at]),
            )
            for row, recommended in zip(rows, answer.items, strict=True)
        ],
    )
