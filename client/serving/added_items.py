"""Items that were put over the API: public, durable, and ranked by their text alone.

An item of the site's own data stays as the data have it: what training saw is changed
there, and read anew by the next round.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from client.serving.refused import Refused
from shared.catalogue import Catalogue
from shared.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item as it is put.

    Attributes:
        id: Its identifier.
        text: What the encoder reads of it.
        attributes: Attribute name -> its values; those that are left out have none.
    """

    id: str
    text: str
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def require_fit(items: Sequence[NewItem], catalogue: Catalogue) -> None:
    """Refuse items that cannot be added to the catalogue of a site's own data.

    Raises:
        Refused: With every class of fault at once, by count and place in ``items``.
    """
    known = catalogue.attributes.keys()
    classes = {
        "no id or no text": [not (i.id.strip() and i.text.strip()) for i in items],
        "already an item of the site's own data; change it there": [
            has(catalogue, item.id) for item in items
        ],
        f"an attribute that is none of {', '.join(sorted(known)) or '(none)'}": [
            bool(item.attributes.keys() - known) for item in items
        ],
    }
    faults = [
        f"{fault}: {sum(found)} ({_places(found)})"
        for fault, found in classes.items()
        if any(found)
    ]
    if faults:
        raise Refused("\n  ".join(["no item was added:", *faults]))


def beside(items: Iterable[NewItem], catalogue: Catalogue) -> Catalogue:
    """Return added items as a catalogue of their own, in their order.

    Args:
        items: As the store has them, the newest of an id last.
        catalogue: Of the site's own data. What it has by now is left out here, and so
            are values of attributes that it does not have.
    """
    newest = {item.id: item for item in items}
    new = [item for item in newest.values() if not has(catalogue, item.id)]
    return Catalogue(
        ids=tuple(item.id for item in new),
        texts=tuple(item.text for item in new),
        attributes={
            name: tuple(item.attributes.get(name, ()) for item in new)
            for name in catalogue.attributes
        },
    )


def has(catalogue: Catalogue, item: str) -> bool:
    """Return whether a catalogue has an item."""
    try:
        catalogue.position(item)
    except DataError:
        return False
    return True


def _places(found: Sequence[bool], most: int = 5) -> str:
    """Return the first places, from 1, of what was found."""
    places = [str(place) for place, one in enumerate(found, 1) if one]
    return f"item {', '.join(places[:most])}{', ...' if len(places) > most else ''}"
