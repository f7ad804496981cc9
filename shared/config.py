"""Strict reading of frozen dataclasses from flat, kebab-case keys.

Unknown keys, missing keys and wrong types are reported all at once, so that a person
corrects a file in one pass. Ranges are the business of the dataclass: its ``faults``
method, where it has one, returns one sentence for each.
"""

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast, get_type_hints

from shared.errors import ConfigError

Scalar = bool | int | float | str
Flat = Mapping[str, object]
T = TypeVar("T")


def key_of(field_name: str) -> str:
    """Return the key in a file for a field: ``clip_norm`` is written ``clip-norm``."""
    return field_name.replace("_", "-")


def read(kind: type[T], flat: Flat, where: str) -> T:
    """Build the frozen dataclass ``kind`` from ``flat``, or report every fault at once.

    Args:
        kind: A dataclass whose fields are ``bool``, ``int``, ``float``, ``str`` or
            tuples of one of these.
        flat: Keys in kebab-case. An ``int`` is accepted where a ``float`` is asked for,
            a list where a tuple is.
        where: What a person calls the source, e.g. the file's name.

    Raises:
        ConfigError: With one line for each unknown key, missing key, wrong type and
            value out of range.
    """
    known = {key_of(field.name): field for field in fields(cast("Any", kind))}
    hints = get_type_hints(kind)
    faults = [
        f"unknown key {key!r}; known: {', '.join(sorted(known))}"
        for key in sorted(flat.keys() - known.keys())
    ]
    faults += [
        f"missing key {key!r}"
        for key, field in known.items()
        if key not in flat
        and field.default is MISSING
        and field.default_factory is MISSING
    ]
    values = {}
    for key, field in known.items():
        if key in flat:
            try:
                values[field.name] = _cast(flat[key], hints[field.name])
            except TypeError as error:
                faults.append(f"{key}={flat[key]!r} is not {error}")
    if not faults:
        built = kind(**values)
        faults = list(getattr(built, "faults", list)())
        if not faults:
            return built
    raise ConfigError("\n  ".join([f"{where}: {len(faults)} fault(s)", *faults]))


def _cast(value: object, hint: object) -> object:
    """Return ``value`` as ``hint``, or raise ``TypeError`` with the type's name."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise TypeError(f"a list of {inner.__name__}")
        return tuple(_cast(part, inner) for part in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise TypeError(getattr(hint, "__name__", str(hint)))
    return value
