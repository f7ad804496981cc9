"""How a plain-language request was understood; plain values, shown to who asked."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Term:
    """A value of an attribute that the request names.

    Attributes:
        attribute: Of the catalogue, such as ``genres``.
        value: As the catalogue writes it, such as ``Sci-Fi``.
        words: Of the request, such as ``science-fiction``.
    """

    attribute: str
    value: str
    words: str

    def __repr__(self) -> str:
        return "Term(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Range:
    """Bounds on an attribute read as a number, both included; None for open ends."""

    attribute: str
    low: float | None
    high: float | None
    words: str

    def __repr__(self) -> str:
        return "Range(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Leaning:
    """A wish that orders items and excludes none, such as newer, popular, violent.

    Attributes:
        toward: An attribute read as a number, ``popularity``, or ``meaning``.
        words: Of the request; for ``meaning`` what the items should resemble.
        weight: From -1 (away from it) to 1 (towards it).
    """

    toward: str
    words: str
    weight: float

    def __repr__(self) -> str:
        return "Leaning(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Understood:
    """A request in parts; the first four are hard, the rest orders what they leave.

    Attributes:
        language: ``en`` or ``zh``.
        wanted: An item has one of the values of each attribute that is named here.
        unwanted: An item has none of them.
        ranges: An item lies within all of them.
        unlike: Ids of items that are not wanted themselves.
        like: Ids of items that it should resemble.
        leanings: Wishes by degree.
        meaning: The words that are left, for the encoder; may be empty.
        sentence: All of it for a person, in the request's language.
    """

    language: str
    wanted: tuple[Term, ...] = ()
    unwanted: tuple[Term, ...] = ()
    ranges: tuple[Range, ...] = ()
    unlike: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    leanings: tuple[Leaning, ...] = ()
    meaning: str = ""
    sentence: str = ""

    def __repr__(self) -> str:
        return "Understood(not shown)"
