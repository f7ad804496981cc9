"""What requests may hold: every list, text and number is bounded, nothing is guessed.

A field that is not known is refused, and so is a number written as text.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag
from pydantic import StringConstraints as Text

from client.serving.added_items import NewItem
from client.serving.ask import Ask, Wanted
from client.serving.conversation import LONGEST
from client.serving.events import Event
from client.serving.records import State

MOST = 1000  # of a list or a batch
LATEST = 4_102_444_800  # a time beyond the year 2100 is a mistake of units
PRINTED = r"^[^\x00-\x1f\x7f-\x9f]*$"
WRITTEN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"  # with tabs and ends of lines
NAMED = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
NAMED_OR_EMPTY = rf"^$|{NAMED}"  # a name has something besides spaces
CLOSED: dict[str, JsonValue] = {"additionalProperties": False}  # by pattern alone

Id = Annotated[str, Text(min_length=1, max_length=200, pattern=NAMED)]
Key = Annotated[str, Text(min_length=1, max_length=500, pattern=PRINTED)]
Query = Annotated[str, Text(max_length=500, pattern=WRITTEN)]
Ids = Annotated[list[Id], Field(max_length=MOST)]
About = Annotated[dict[Id, Id], Field(max_length=50, json_schema_extra=CLOSED)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bound = Annotated[float, Field(allow_inf_nan=False)]
Many = Annotated[int, Field(ge=1, le=100)]


class _Body(BaseModel):
    """Part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ()  # what it holds may be behaviour


class Filter(_Body):
    """What an attribute of an item must be; every part that is given must hold."""

    any_of: Annotated[Ids, Field(description="At least one of these.")] = []
    none_of: Annotated[Ids, Field(description="None of these.")] = []
    low: Annotated[Bound | None, Field(description="At least so much.")] = None
    high: Annotated[Bound | None, Field(description="At most so much.")] = None

    def meant(self) -> Wanted:
        """Return it as the service takes it."""
        return Wanted(
            any_of=tuple(self.any_of),
            none_of=tuple(self.none_of),
            low=self.low,
            high=self.high,
        )


class Wish(_Body):
    """A request for recommendations; all of it may be left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user": "u-17", "k": 10, "explain": True},
                {"history": ["item-3", "item-8"], "diversity": 0.4},
                {
                    "query": "a science-fiction film from the nineties, no horror",
                    "filters": {"genres": {"none_of": ["Western"]}},
                },
            ]
        }
    )

    user: Annotated[
        str,
        Text(max_length=200, pattern=NAMED_OR_EMPTY),
        Field(description="Whose history and interests count; empty: nobody's."),
    ] = ""
    history: Annotated[
        Ids, Field(description="An anonymous visitor's items, newest first.")
    ] = []
    query: Annotated[Query, Field(description="A request in plain language.")] = ""
    conversation: Annotated[
        str,
        Text(max_length=LONGEST, pattern=PRINTED),
        Field(description="Of an earlier answer, which the query refines."),
    ] = ""
    about: Annotated[About, Field(description="What a new user declared.")] = {}
    k: Annotated[Many, Field(description="How many items.")] = 10
    alpha: Annotated[
        Share | None, Field(description="Weight of text against CF; null: the site's.")
    ] = None
    diversity: Annotated[
        Share | None, Field(description="0: by score alone; null: the site's choice.")
    ] = None
    filters: Annotated[
        dict[Id, Filter],
        Field(
            max_length=50,
            json_schema_extra=CLOSED,
            description="Attribute -> what is wanted of it.",
        ),
    ] = {}
    candidates: Annotated[
        Ids | None, Field(description="Only these; null: the whole catalogue.")
    ] = None
    exclude: Annotated[Ids, Field(description="Never these.")] = []
    include_seen: Annotated[bool, Field(description="Also what the user met.")] = False
    explain: Annotated[bool, Field(description="With a reason for each.")] = False

    def meant(self) -> Ask:
        """Return it as the service takes it."""
        only = self.candidates
        return Ask(
            user=self.user,
            history=tuple(self.history),
            query=self.query,
            conversation=self.conversation,
            about=self.about,
            k=self.k,
            alpha=self.alpha,
            diversity=self.diversity,
            filters={name: each.meant() for name, each in self.filters.items()},
            candidates=None if only is None else tuple(only),
            exclude=tuple(self.exclude),
            include_seen=self.include_seen,
            explain=self.explain,
        )


class _Happened(_Body):
    """What every event says."""

    id: Annotated[
        Id, Field(description="Of the event; the same one of a user counts once.")
    ]
    user: Id
    time: Annotated[
        int | None,
        Field(ge=0, le=LATEST, description="Epoch seconds; null or later: now."),
    ] = None

    def meant(self, now: int) -> Event:
        """Return it as the service takes it.

        Args:
            now: Epoch seconds; nothing happens later.
        """
        said = self.model_dump(exclude={"time"})
        time = now if self.time is None else min(self.time, now)
        return Event(**{**said, "time": time})


class _WithItem(_Happened):
    """What an event about an item says."""

    item: Id
    shown: Annotated[
        str,
        Text(max_length=200, pattern=PRINTED),
        Field(description="Id of the list of recommendations that it answers."),
    ] = ""


class Met(_WithItem):
    """A user met an item."""

    kind: Literal["view", "click", "like", "buy", "skip", "hide"]


class Rated(_WithItem):
    """A user rated an item."""

    kind: Literal["rate"]
    rating: Annotated[float, Field(ge=1, le=5, allow_inf_nan=False)]


class Reviewed(_WithItem):
    """A user wrote about an item."""

    kind: Literal["review"]
    text: Annotated[str, Text(min_length=1, max_length=5000, pattern=WRITTEN)]
    rating: Annotated[float | None, Field(ge=1, le=5, allow_inf_nan=False)] = None


class Searched(_Happened):
    """A user searched."""

    kind: Literal["search"]
    text: Annotated[Query, Field(min_length=1)]


class Item(_Body):
    """An item, recommendable at once."""

    id: Id
    text: Annotated[str, Text(min_length=1, max_length=5000, pattern=WRITTEN)]
    attributes: Annotated[
        dict[Id, Annotated[list[Id], Field(max_length=100)]],
        Field(max_length=50, json_schema_extra=CLOSED),
    ] = {}

    def meant(self) -> NewItem:
        """Return it as the service takes it."""
        values = {name: tuple(each) for name, each in self.attributes.items()}
        return NewItem(id=self.id, text=self.text, attributes=values)


class Edit(_Body):
    """What a user says of one interest."""

    interest: Annotated[Key, Field(description="Its key.")]
    state: Annotated[State, Field(description="none: nothing any more.")]


def _how_many(value: Any) -> str:
    return "batch" if isinstance(value, list) else "one"


Happened = Annotated[Met | Rated | Reviewed | Searched, Field(discriminator="kind")]
Happenings = Annotated[
    Annotated[Happened, Tag("one")]
    | Annotated[list[Happened], Field(min_length=1, max_length=MOST), Tag("batch")],
    Discriminator(_how_many),
]
Items = Annotated[
    Annotated[Item, Tag("one")]
    | Annotated[list[Item], Field(min_length=1, max_length=MOST), Tag("batch")],
    Discriminator(_how_many),
]
Edits = Annotated[list[Edit], Field(min_length=1, max_length=MOST)]

FIELDS = frozenset[str]().union(
    *(
        kind.model_fields
        for kind in (Wish, Filter, Met, Rated, Reviewed, Searched, Item, Edit)
    )
)  # what the place of a fault in a body may name: words of ours
