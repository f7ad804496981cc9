"""Why each item of a list was recommended: causes with exact amounts, and a sentence.

An amount is by how much the item's score falls when that cause alone is taken away,
computed by taking it away. It names nothing that was not part of the score or, for a
term of a request, part of what was allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from client.serving.ask import Cause, Reason
from client.serving.model import Ints, Mask, Served
from client.serving.rank import Ranked, Wish
from client.serving.rules import places_with
from client.serving.score import Extra, blend, products_of
from client.serving.taste import Past, counted, taste_of
from shared.protocol import Array

NEAREST = 3  # items of the history that are named
WORTH = 0.05  # score units from which on a sentence mentions a cause
POPULAR = 0.1  # share of a catalogue that counts as popular
MEANING = "meaning"  # name of the cause that a request's vector is
GROUPS = "groups"  # name of the interest that declared groups are
MOST = 2  # items of the history in a sentence
LONGEST = 48  # characters of an item's title
SHORT = 5  # characters of a title from which on "Mrs. Doubtfire" cannot be cut off


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Named:
    """An interest or a term of a request, and what it does for items.

    Attributes:
        kind: Which of the two.
        name: Its key.
        text: What a person calls it.
        amount: What it adds, for each item [n] or for all alike; in the wish's
            adjustment for an interest, in its leanings for a term.
        holds: Which items it is true of, [n]; by default where it adds anything.
    """

    kind: Literal["interest", "term"]
    name: str
    text: str
    amount: Array | float = 0.0
    holds: Mask | None = None

    def at(self, place: int) -> Cause | None:
        """Return the cause that it is for an item, or None if it is none."""
        amount = self.amount if isinstance(self.amount, float) else self.amount[place]
        holds = bool(amount) if self.holds is None else bool(self.holds[place])
        if not holds:
            return None
        return Cause(
            kind=self.kind, name=self.name, text=self.text, amount=float(amount)
        )


def reasons(
    model: Served, wish: Wish, ranked: Ranked, named: Sequence[Named] = ()
) -> tuple[Reason, ...]:
    """Return why each item of ``ranked`` is there, in its order.

    Guarantee: without a cause, and all else as it was, the item's score is lower by the
    amount of that cause. What interests and declared groups add is held as it was:
    that a groups' bonus fades with likes is no part of what a history item does. That
    the default alpha changes with them is, unless the wish gives an alpha.

    Args:
        model: What is served.
        wish: That was ranked, with the very alpha that ``rank`` was given, or None.
        ranked: The list that ``rank`` made of it.
        named: Interests and terms of the request that may be causes.
    """
    history, request = _history(model, wish, ranked), _request(model, wish, ranked)
    did = _done(model, wish.past)
    popular = _popular(model, ranked.places)
    chosen = (_by_taste(model, ranked) >= WORTH) & bool(did)
    made = []
    for row, place in enumerate(ranked.places.tolist()):
        causes = (
            *history[row],
            *(cause for each in named if (cause := each.at(place))),
            *request[row : row + 1],
            *_ruled(model, wish, place),
        )
        known = {
            "people with your taste choose it": chosen[row],
            "popular here": popular[row],
            "new here, and shown to learn whom it suits": ranked.explored[row],
        }
        also = [text for text, holds in known.items() if holds]
        made.append(Reason(sentence=_sentence(causes, did, also), causes=causes))
    return tuple(made)


def _history(model: Served, wish: Wish, ranked: Ranked) -> list[list[Cause]]:
    """Return, for each item of a list, the history items whose texts are nearest."""
    items, _ = counted(model, wish.past)
    near = model.vectors.rows(ranked.places) @ model.vectors.rows(items).T
    nearest = np.argsort(-near, axis=1, kind="stable")[:, :NEAREST]
    lost = {
        int(item): _lost(
            model, wish, ranked, _without(wish.past, int(item)), wish.query
        )
        for item in items[np.unique(nearest)]
    }
    return [
        [
            Cause(
                kind="history",
                name=model.catalogue.ids[item],
                text=_title(model.catalogue.texts[item]),
                amount=float(lost[item][row]),
            )
            for item in items[chosen].tolist()
        ]
        for row, chosen in enumerate(nearest)
    ]


def _request(model: Served, wish: Wish, ranked: Ranked) -> list[Cause]:
    """Return what the meaning of the request does for each item; none without one."""
    if wish.query is None:
        return []
    lost = _lost(model, wish, ranked, wish.past, None)
    return [
        Cause(kind="term", name=MEANING, text="what you asked for", amount=float(each))
        for each in lost
    ]


def _lost(
    model: Served, wish: Wish, ranked: Ranked, past: Past, query: Array | None
) -> Array:
    """Return by how much each item scores lower under another past or query, [m]."""
    places = ranked.places
    taste = taste_of(model, past, wish.alpha)
    extra = Extra(
        leanings=None if wish.leanings is None else wish.leanings[places],
        interests=ranked.scores.interests,
        rules=ranked.scores.rules,
    )
    made = products_of(model, taste, query, places)
    lost: Array = ranked.scores.total - blend(made, taste.alpha, extra).total
    return lost


def _without(past: Past, item: int) -> Past:
    """Return a history in which an item says nothing for anybody's taste."""
    kept = past.items != item
    return Past(
        items=past.items[kept],
        strengths=past.strengths[kept],
        seen=past.seen,
        against=past.against,
        hidden=past.hidden,
    )


def _ruled(model: Served, wish: Wish, place: int) -> list[Cause]:
    """Return the site's rules that change an item's score."""
    return [
        Cause(
            kind="rule",
            name=f"{rule.attribute}: {rule.value}",
            text=f"{'favoured' if rule.add > 0 else 'held back'} by this site",
            amount=rule.add,
        )
        for rule in wish.rules
        if rule.add and place in places_with(model, rule)
    ]


def _by_taste(model: Served, ranked: Ranked) -> Array:
    """Return what CF adds for this user, [m]: without the bias, which all users get."""
    bias = model.factors.rows(ranked.places)[:, -1]
    scale = np.float32((1 - ranked.alpha) * model.recipe.cf_scale)
    taste: Array = ranked.scores.cf - scale * bias
    return taste


def _popular(model: Served, places: Ints) -> Mask:
    """Return which items the released popularity puts among the catalogue's first."""
    above = np.array([np.mean(model.prior >= prior) for prior in model.prior[places]])
    popular: Mask = (above <= POPULAR) & (model.prior[places] > 0)
    return popular


def _done(model: Served, past: Past) -> dict[str, str]:
    """Return, by item id, what a sentence says that the user did with an item."""
    items, strengths = counted(model, past)
    return {
        model.catalogue.ids[item]: "liked" if strength >= 1 else "looked at"
        for item, strength in zip(items.tolist(), strengths.tolist(), strict=True)
    }


def _sentence(causes: Sequence[Cause], did: dict[str, str], also: Sequence[str]) -> str:
    """Return one sentence of what raises the score, or of how the item got there."""
    raising = [cause for cause in causes if cause.amount >= WORTH]
    history = [cause for cause in raising if cause.kind == "history"][:MOST]
    interests = [cause for cause in raising if cause.kind == "interest"]
    asked = [cause for cause in causes if cause.kind == "term"]
    terms = [f"'{c.text}'" for c in asked if c.name != MEANING and c.amount >= 0]
    meaning = [c.text for c in asked if c.name == MEANING and c.amount >= WORTH]
    parts = [
        *_part(
            "because you liked", [c.text for c in history if did[c.name] == "liked"]
        ),
        *_part(
            "because you looked at", [c.text for c in history if did[c.name] != "liked"]
        ),
        *_part("matches", terms),
        *_part("close to", meaning),
        *_part(
            "fits your interest in", [c.text for c in interests if c.name != GROUPS]
        ),
        *("people like you enjoy it" for c in interests if c.name == GROUPS),
        *dict.fromkeys(c.text for c in raising if c.kind == "rule"),
        *also,
    ]
    whole = "; ".join(parts) or "among the best of what may be shown"
    return f"{whole[0].upper()}{whole[1:]}."


def _part(words: str, texts: Sequence[str]) -> list[str]:
    """Return the words with what they are about, or nothing if that is nothing."""
    return [f"{words} {_listed(texts)}"] if texts else []


def _listed(texts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def _title(text: str) -> str:
    """Return the title that an item's text begins with, short enough for a sentence."""
    first, *rest = text.split(". ")
    while rest and len(first) < SHORT:
        first = f"{first}. {rest.pop(0)}"
    return first if len(first) <= LONGEST else f"{first[: LONGEST - 1].rstrip()}…"
