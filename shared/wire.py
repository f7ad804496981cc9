"""The protocol as Flower records, and an update as bytes.

What is opened here must be exactly what is packed here: an unknown record, key, type,
dtype or byte is refused. Arrays travel as float32 only.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from shared.adapter import check
from shared.errors import EgressRefused, RoundError
from shared.protocol import Adapter, AdapterUpdate, Array, RoundPlan, plan_from_json

_IDENTITY = {"site": str, "run": str, "number": int, "plan": str, "ledger-head": str}
_REASON = re.compile("[A-Za-z]{1,40}")


def pack_plan(plan: RoundPlan, adapter: Adapter) -> RecordDict:
    """Return the instruction of one round: the plan and the adapter it starts from."""
    line = ConfigRecord({"json": plan.to_json()})
    return RecordDict({"plan": line, "adapter": _pack(adapter)})


def open_plan(content: RecordDict) -> tuple[RoundPlan, dict[str, Array]]:
    """Return the plan and an adapter that fits it.

    Raises:
        RoundError: If the records are not exactly those of an instruction.
        ConfigError: If the plan cannot be read.
        ModelError: If the adapter does not have the plan's shapes.
    """
    config, arrays = _records(content, "plan", "adapter")
    plan = plan_from_json(_fields(config, {"json": str})["json"])
    adapter = _unpack(arrays)
    check(adapter, plan.shapes)
    return plan, adapter


def pack_update(update: AdapterUpdate) -> RecordDict:
    """Return the one reply that carries tensors."""
    identity = ConfigRecord(_identity(update))
    return RecordDict({"update": identity, "delta": _pack(update.delta)})


def open_update(content: RecordDict) -> AdapterUpdate:
    """Rebuild an update from exactly the records that ``pack_update`` makes.

    Raises:
        RoundError: If anything is missing, unknown or of another type.
    """
    config, arrays = _records(content, "update", "delta")
    return _update(_fields(config, _IDENTITY), _unpack(arrays))


def pack_refusal(site: str, reason: str) -> RecordDict:
    """Return a refusal: who, and the class name of the error; never its text."""
    if not _REASON.fullmatch(reason):
        raise EgressRefused("a refusal carries a class name of at most 40 letters")
    return RecordDict({"refusal": ConfigRecord({"site": site, "reason": reason})})


def open_refusal(content: RecordDict) -> tuple[str, str] | None:
    """Return (site, reason) of a refusal, or None if the content is something else.

    Raises:
        RoundError: If it is a refusal that says more than a class name.
    """
    config = content.get("refusal")
    if config is None:
        return None
    if len(content) != 1 or not isinstance(config, ConfigRecord):
        raise RoundError("a refusal holds other records too")
    fields = _fields(config, {"site": str, "reason": str})
    if not _REASON.fullmatch(fields["reason"]):
        raise RoundError("the reason of a refusal is not a class name")
    return fields["site"], fields["reason"]


def sealed_bytes(update: AdapterUpdate) -> bytes:
    """Return the canonical bytes of an update: what a ledger hashes and a site keeps.

    One metadata key holds all of the identity, because safetensors writes several keys
    in random order.
    """
    line = json.dumps(_identity(update), sort_keys=True, separators=(",", ":"))
    return safetensors.numpy.save(dict(update.delta), metadata={"update": line})


def update_from_bytes(data: bytes) -> AdapterUpdate:
    """Rebuild an update from its canonical bytes, and from no others.

    Raises:
        RoundError: If the bytes are not what ``sealed_bytes`` would write again.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        fields = _fields(json.loads(metadata["update"]), _IDENTITY)
        update = _update(fields, safetensors.numpy.load(data))
        if sealed_bytes(update) == data:
            return update
    except (ValueError, LookupError, TypeError, safetensors.SafetensorError):
        pass
    raise RoundError("these are not the bytes of a sealed update")


def size(content: RecordDict) -> int:
    """Return how many bytes Flower sends for ``content``; equal parts are sent once."""
    parts: dict[str, int] = {}
    waiting: list[Any] = [content]
    while waiting:
        part = waiting.pop()
        parts[part.object_id] = len(part.deflate())
        waiting += (part.children or {}).values()
    return sum(parts.values())


def _identity(update: AdapterUpdate) -> dict[str, Any]:
    return {key: getattr(update, key.replace("-", "_")) for key in _IDENTITY}


def _update(fields: Mapping[str, Any], delta: Adapter) -> AdapterUpdate:
    return AdapterUpdate(
        site=fields["site"],
        run=fields["run"],
        number=fields["number"],
        plan=fields["plan"],
        ledger_head=fields["ledger-head"],
        delta=delta,
    )


def _records(
    content: RecordDict, config_key: str, array_key: str
) -> tuple[ConfigRecord, ArrayRecord]:
    """Return the two records of a message that holds these two and no other."""
    config, arrays = content.get(config_key), content.get(array_key)
    if (
        len(content) == 2
        and isinstance(config, ConfigRecord)
        and isinstance(arrays, ArrayRecord)
    ):
        return config, arrays
    raise RoundError(f"a message must hold exactly {config_key!r} and {array_key!r}")


def _fields(record: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the fields of a record that has exactly these keys and types."""
    if {key: type(value) for key, value in record.items()} != kinds:
        raise RoundError(f"a record must hold exactly {', '.join(kinds)}")
    return dict(record)


def _pack(adapter: Adapter) -> ArrayRecord:
    wrong = [
        f"{name}: {a.dtype}" for name, a in adapter.items() if a.dtype != np.float32
    ]
    if wrong:
        raise EgressRefused(f"only float32 may travel, not {', '.join(wrong)}")
    return ArrayRecord(
        {
            name: SentArray(np.asarray(a, order="C"))
            for name, a in sorted(adapter.items())
        }
    )


def _unpack(record: ArrayRecord) -> dict[str, Array]:
    try:
        return {name: _array(sent) for name, sent in record.items()}
    except ValueError as error:
        raise RoundError(f"arrays cannot be read: {error}") from None


def _array(sent: SentArray) -> Array:
    """Return the array if its bytes are the only ones that Flower writes for it."""
    start = len(sent.data) - 4 * math.prod(sent.shape)
    if start < 0 or sent.dtype != "float32":
        raise ValueError("not float32 of the stated shape")
    array = np.frombuffer(sent.data[start:], np.float32).reshape(sent.shape).copy()
    if SentArray(array) != sent:
        raise ValueError("not the plain bytes of an array")
    return array
