"""The public items that a site can recommend; nothing here comes from a user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Items by position: an identifier, the text the encoder reads, and attributes.

    Args:
        ids: One distinct identifier per item; its place here is the item's position.
        texts: One composed text per item.
        attributes: For each attribute name, the values of every item, e.g. genres.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    attributes: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    _positions: Mapping[str, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        positions = {item_id: place for place, item_id in enumerate(self.ids)}
        lengths = {"texts": self.texts, **self.attributes}
        faults = [
            f"{name}: {len(values)} entries for {len(self.ids)} items"
            for name, values in lengths.items()
            if len(values) != len(self.ids)
        ]
        if len(positions) < len(self.ids):
            faults.append(f"{len(self.ids) - len(positions)} repeated item ids")
        if faults:
            raise DataError("\n  ".join(["this is no catalogue:", *faults]))
        object.__setattr__(self, "_positions", positions)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Catalogue({len(self)} items, attributes {sorted(self.attributes)})"

    def position(self, item_id: str) -> int:
        """Return where ``item_id`` stands, or raise without repeating it.

        Which item somebody asked for may be behaviour, so the error does not say.
        """
        if item_id not in self._positions:
            raise DataError(f"no such item among the {len(self)} of the catalogue")
        return self._positions[item_id]

    def subset(self, indices: Sequence[int]) -> "Catalogue":
        """Return the items at ``indices``, in that order."""
        return Catalogue(
            ids=tuple(self.ids[index] for index in indices),
            texts=tuple(self.texts[index] for index in indices),
            attributes={
                name: tuple(values[index] for index in indices)
                for name, values in self.attributes.items()
            },
        )
