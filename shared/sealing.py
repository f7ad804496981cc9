"""The canonical bytes of what leaves a site: what a ledger hashes and a site keeps.

The same content always gives the same bytes, and only these bytes are read back.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import safetensors
import safetensors.numpy

from shared.errors import RoundError
from shared.protocol import Adapter, AdapterUpdate, MetricRelease

IDENTITY = {"site": str, "run": str, "number": int, "plan": str, "ledger-head": str}
METRIC = {**IDENTITY, "name": str, "value": float}
del METRIC["ledger-head"]


def update_bytes(update: AdapterUpdate) -> bytes:
    """Return the bytes of an update.

    One metadata key holds all of the identity, because safetensors writes several keys
    in random order.
    """
    line = _line(identity(update))
    return safetensors.numpy.save(dict(update.delta), metadata={"update": line})


def update_from_bytes(data: bytes) -> AdapterUpdate:
    """Rebuild an update from its canonical bytes, and from no others.

    Raises:
        RoundError: If the bytes are not what ``update_bytes`` would write again.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        fields = known_fields(json.loads(metadata["update"]), IDENTITY)
        update = update_of(fields, safetensors.numpy.load(data))
        if update_bytes(update) == data:
            return update
    except (ValueError, LookupError, TypeError, safetensors.SafetensorError):
        pass
    raise RoundError("these are not the bytes of a sealed update")


def metric_bytes(metric: MetricRelease) -> bytes:
    """Return the bytes of a released metric."""
    return _line(asdict(metric)).encode()


def metric_from_bytes(data: bytes) -> MetricRelease:
    """Rebuild a released metric from its canonical bytes, and from no others.

    Raises:
        RoundError: If the bytes are not what ``metric_bytes`` would write again.
    """
    try:
        metric = MetricRelease(**known_fields(json.loads(data), METRIC))
        if metric_bytes(metric) == data:
            return metric
    except (ValueError, AttributeError):
        pass
    raise RoundError("these are not the bytes of a released metric")


def identity(update: AdapterUpdate) -> dict[str, Any]:
    """Return all of an update but its tensors."""
    return {key: getattr(update, key.replace("-", "_")) for key in IDENTITY}


def update_of(fields: Mapping[str, Any], delta: Adapter) -> AdapterUpdate:
    """Rebuild an update from its identity and its tensors."""
    named = {key.replace("-", "_"): value for key, value in fields.items()}
    return AdapterUpdate(**named, delta=delta)


def known_fields(
    record: Mapping[str, Any], kinds: Mapping[str, type]
) -> dict[str, Any]:
    """Return the fields of a record that has exactly these keys and types.

    Raises:
        RoundError: If anything is missing, unknown or of another type.
    """
    if {key: type(value) for key, value in record.items()} != kinds:
        raise RoundError(f"a record must hold exactly {', '.join(kinds)}")
    return dict(record)


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
