"""What is asked of a served model, and what it answers; plain values on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from client.serving.understood import Understood


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Wanted:
    """What an attribute of an item must be; every part that is given must hold.

    Attributes:
        any_of: At least one of these values; empty asks for none.
        none_of: None of these values.
        low, high: Bounds on the attribute read as a number, both included.
    """

    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def __repr__(self) -> str:
        return "Wanted(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ask:
    """A request for recommendations.

    Attributes:
        user: Whose history, interests and settings count; empty for nobody's.
        history: Item ids of an anonymous visitor, newest first; after the user's own.
        query: A request in plain language; empty for none.
        conversation: Id of an earlier answer's conversation that the query refines.
        about: What a new user declared, such as {"age": "25-34"}.
        k: How many items.
        alpha: Weight of text against CF; None for the site's own choice.
        diversity: From 0 (by score alone) to 1; None for the site's own choice.
        filters: Attribute name -> what is wanted of it.
        candidates: Only these item ids; None for the whole catalogue.
        exclude: Never these item ids.
        include_seen: Whether items that the user has met may come again.
        explain: Whether each item comes with its reason.
    """

    user: str = ""
    history: tuple[str, ...] = ()
    query: str = ""
    conversation: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    k: int = 10
    alpha: float | None = None
    diversity: float | None = None
    filters: Mapping[str, Wanted] = field(default_factory=dict)
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    include_seen: bool = False
    explain: bool = False

    def __repr__(self) -> str:
        return "Ask(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The exact split of a score; the parts add up to it.

    Attributes:
        text: From the texts of the user's history.
        query: From the meaning of the request.
        cf: From the head.
        prior: From the released popularity.
        interests: From what the user pinned or muted, and from what they declared.
        rules: From the site's own rules.
    """

    text: float
    query: float
    cf: float
    prior: float
    interests: float
    rules: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Cause:
    """Something that a score rests on.

    Attributes:
        kind: ``history`` (an item that the user met), ``interest``, ``term`` (of the
            request), ``rule``.
        name: The item's id, or what the interest, term or rule is called.
        text: For a person.
        amount: By how much the score falls when this alone is taken away.
    """

    kind: Literal["history", "interest", "term", "rule"]
    name: str
    text: str
    amount: float

    def __repr__(self) -> str:
        return "Cause(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reason:
    """Why an item was recommended, as one sentence and as data."""

    sentence: str
    causes: tuple[Cause, ...]

    def __repr__(self) -> str:
        return "Reason(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recommended:
    """One item of an answer.

    Attributes:
        item: Its id.
        text: What the encoder reads of it.
        attributes: Attribute name -> its values.
        score: The sum of ``parts``.
        parts: Where the score comes from.
        explored: Whether it took a place kept for new items, whatever its score.
        reason: Why, if that was asked.
    """

    item: str
    text: str
    attributes: Mapping[str, tuple[str, ...]]
    score: float
    parts: Parts
    explored: bool
    reason: Reason | None

    def __repr__(self) -> str:
        return "Recommended(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer:
    """What was asked for.

    Attributes:
        list: Id of this very list; events may name it in ``shown``.
        release: What it was made with.
        items: Best first.
        alpha: The weight of text that was used.
        diversity: Mean distance (1 - cosine) between the items' texts; 0 for fewer
            than two.
        understood: How the query was understood; None without one.
        conversation: Give it back with the next query to refine this one.
        notes: What a person should know of this answer, one sentence each.
    """

    list: str
    release: str
    items: tuple[Recommended, ...]
    alpha: float
    diversity: float
    understood: Understood | None
    conversation: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Answer(not shown)"
