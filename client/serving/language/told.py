"""An understood request as one sentence for who asked, in the request's language."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from client.serving.language.names import Attribute, Names
from client.serving.understood import Leaning, Range, Term, Understood


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The words of one language for what can be understood.

    Attributes:
        language: Which.
        numbers: Bounds on both sides, below, above, and one number.
        years: The same for years.
        leans: Toward -> words for more and for less of it.
        rather: For other attributes, more and less.
        degree: More and less of what some words mean.
        like, about, no, or_, and_, end, stop: Small words and marks.
        all: Where nothing is asked.
    """

    language: str
    numbers: tuple[str, str, str, str]
    years: tuple[str, str, str, str]
    leans: Mapping[str, tuple[str, str]]
    rather: tuple[str, str]
    degree: tuple[str, str]
    like: str
    about: str
    no: str
    or_: str
    and_: str
    end: str
    stop: str
    all: str


_WORDING: Final = {
    "en": Wording(
        language="en",
        numbers=(
            "{name} from {low:g} to {high:g}",
            "{name} from {low:g}",
            "{name} up to {high:g}",
            "{name} {low:g}",
        ),
        years=(
            "from {low:g} to {high:g}",
            "from {low:g} on",
            "up to {high:g}",
            "from {low:g}",
        ),
        leans={
            "popularity": ("well known", "little known"),
            "year": ("rather new", "rather old"),
            "price": ("rather expensive", "rather cheap"),
            "length": ("rather long", "rather short"),
            "rating": ("highly rated", "rated low"),
        },
        rather=("rather high {name}", "rather low {name}"),
        degree=("more {words}", "less {words}"),
        like="like {titles}",
        about="about {words}",
        no="not {words}",
        or_=" or ",
        and_=" and ",
        end="; ",
        stop=".",
        all="Anything",
    ),
    "zh": Wording(
        language="zh",
        numbers=(
            "{name} {low:g} 到 {high:g}",
            "{name} 不低于 {low:g}",
            "{name} 不超过 {high:g}",
            "{name} {low:g}",
        ),
        years=(
            "{low:g} 至 {high:g} 年",
            "{low:g} 年起",
            "至 {high:g} 年",
            "{low:g} 年",
        ),
        leans={
            "popularity": ("知名", "冷门"),
            "year": ("偏新", "偏老"),
            "price": ("偏贵", "偏便宜"),
            "length": ("偏长", "偏短"),
            "rating": ("评分高", "评分低"),
        },
        rather=("{name}偏高", "{name}偏低"),
        degree=("多一些{words}", "少一些{words}"),
        like="像{titles}",
        about="关于{words}",
        no="不要{words}",
        or_="或",
        and_="和",
        end="; ",
        stop="。",
        all="不限",
    ),
}


def sentence(understood: Understood, names: Names) -> str:
    """Return how a request was understood.

    Such as "Films; genre Sci-Fi; from 1990 to 1999; well known; not Horror."
    """
    wording = _WORDING[understood.language]
    attributes = {each.name: each for each in names.attributes}
    parts = [
        *_wanted(understood.wanted, attributes, wording),
        *(_range(each, attributes, wording) for each in understood.ranges),
        *(_leaning(each, attributes, wording) for each in understood.leanings),
    ]
    refused = dict.fromkeys(term.value for term in understood.unwanted)
    apart = names.titles_of(understood.unlike)
    if gone := wording.or_.join([*refused, *apart]):
        parts.append(wording.no.format(words=gone))
    if titles := wording.and_.join(names.titles_of(understood.like)):
        parts.append(wording.like.format(titles=titles))
    if understood.meaning:
        parts.append(wording.about.format(words=understood.meaning))
    whole = wording.end.join(parts) or wording.all
    return f"{whole[0].upper()}{whole[1:]}{wording.stop}"


def _wanted(
    terms: Sequence[Term], attributes: Mapping[str, Attribute], wording: Wording
) -> Iterator[str]:
    """Yield what is wanted, attribute by attribute; kinds of item first."""
    names = dict.fromkeys(term.attribute for term in terms)
    for name in sorted(names, key=lambda name: attributes[name].role != "kind"):
        values = [term.value for term in terms if term.attribute == name]
        if attributes[name].role == "kind":
            yield wording.or_.join(_several(value) for value in values)
        else:
            shown = attributes[name].shown_in(wording.language)
            yield f"{shown} {wording.or_.join(values)}"


def _several(kind: str) -> str:
    """Return the plural of an English kind; others are as they are."""
    plain = kind.isascii() and not kind.endswith(("s", "x", "c"))
    return f"{kind}s" if plain else kind


def _range(part: Range, attributes: Mapping[str, Attribute], wording: Wording) -> str:
    attribute = attributes[part.attribute]
    forms = wording.years if attribute.measure == "year" else wording.numbers
    both, least, most, just = forms
    form = most if part.low is None else least if part.high is None else both
    form = just if part.low == part.high else form
    return form.format(
        name=attribute.shown_in(wording.language), low=part.low, high=part.high
    )


def _leaning(
    part: Leaning, attributes: Mapping[str, Attribute], wording: Wording
) -> str:
    less = part.weight < 0
    if part.toward == "meaning":
        return wording.degree[less].format(words=part.words)
    if part.toward == "popularity":
        return wording.leans["popularity"][less]
    attribute = attributes[part.toward]
    forms = wording.leans.get(attribute.measure, wording.rather)
    return forms[less].format(name=attribute.shown_in(wording.language))
