"""The canonical bytes of what leaves a site: what a ledger hashes and a site keeps.

The same content always gives the same bytes, and only these bytes are read back.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from shared.errors import ModelError, RoundError
from shared.packing import Packed, Shapes, pack, unpack
from shared.protocol import AdapterUpdate, MetricRelease

IDENTITY = {"site": str, "run": str, "number": int, "plan": str, "ledger-head": str}
METRIC = {**IDENTITY, "name": str, "value": float}
del METRIC["ledger-head"]


def update_bytes(update: AdapterUpdate) -> bytes:
    """Return the bytes of an update: one packed buffer and whose it is.

    The plan, which they name by its digest, says which tensors these are. One metadata
    key holds all of the identity, because safetensors writes several keys in random
    order.
    """
    packed, line = pack(update.delta, update.wire), _line(identity(update))
    scales = {"scales": packed.scales} if packed.scales.size else {}
    tensors = {"values": packed.values, **scales}
    return safetensors.numpy.save(tensors, metadata={"update": line})


def update_from_bytes(data: bytes, shapes: Shapes) -> AdapterUpdate:
    """Rebuild an update from its canonical bytes, and from no others.

    Args:
        data: What a site kept.
        shapes: Of the adapter that is exchanged, from the plan.

    Raises:
        RoundError: If the bytes are not what ``update_bytes`` would write again.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        fields = known_fields(json.loads(metadata["update"]), IDENTITY)
        tensors = safetensors.numpy.load(data)
        none = np.zeros(0, np.float32)
        packed = Packed(tensors["values"], tensors.get("scales", none))
        update = update_of(fields, packed, shapes)
        if update_bytes(update) == data:
            return update
    except (ValueError, LookupError, TypeError, safetensors.SafetensorError):
        pass
    except ModelError:  # of another length, or in another form
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


def update_of(
    fields: Mapping[str, Any], packed: Packed, shapes: Shapes
) -> AdapterUpdate:
    """Rebuild an update from its identity and its packed tensors.

    Raises:
        ModelError: If they are not packed tensors of these shapes.
    """
    named = {key.replace("-", "_"): value for key, value in fields.items()}
    return AdapterUpdate(**named, delta=unpack(packed, shapes), wire=packed.form)


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
