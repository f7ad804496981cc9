"""The protocol as Flower records.

What is opened here must be exactly what is packed here: an unknown record, key, type,
dtype or byte is refused. Arrays travel as float32 only.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from shared.adapter import check
from shared.errors import EgressRefused, ModelError, RoundError
from shared.pointer import Pointer
from shared.protocol import (
    Adapter,
    Array,
    MetricRelease,
    Reply,
    RoundPlan,
    plan_from_json,
)
from shared.release import Release
from shared.sealing import IDENTITY, METRIC, identity, known_fields, update_of
from shared.witness import Witness, witness_from

_REASON = re.compile("[A-Za-z]{1,40}")
_METRIC_NAME = re.compile("[a-z]{1,16}(@[0-9]{1,4})?")
_FILE = re.compile(
    "([A-Za-z0-9_][A-Za-z0-9._-]{0,63}/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
)
MOST_FILES = 64  # of a release
MOST_BYTES = 1 << 29  # of all of them


def pack_plan(plan: RoundPlan, adapter: Adapter) -> RecordDict:
    """Return the instruction of one round: the plan and the adapter it starts from."""
    line = ConfigRecord({"json": plan.to_json()})
    return RecordDict({"plan": line, "adapter": _pack(adapter)})


def with_witness(content: RecordDict, witness: Witness | None) -> RecordDict:
    """Return an instruction with the newest witness of the ledger of its receiver."""
    if witness is None:
        return content
    return RecordDict({**content, "witness": ConfigRecord(witness.fields())})


def open_plan(
    content: RecordDict,
) -> tuple[RoundPlan, dict[str, Array], Witness | None]:
    """Return the plan, an adapter that fits it, and what the server has seen of us.

    Sizes are compared with the plan's before an array is copied.

    Raises:
        RoundError: If the records are not exactly those of an instruction.
        ConfigError: If the plan cannot be read.
        ModelError: If the adapter does not have the plan's shapes.
        LedgerBroken: If the witness is malformed.
    """
    _require_records(content, {"plan": ConfigRecord, "adapter": ArrayRecord})
    plan = plan_from_json(
        known_fields(content.config_records["plan"], {"json": str})["json"]
    )
    arrays = content.array_records["adapter"]
    sent = {name: tuple(array.shape) for name, array in arrays.items()}
    if sent != plan.shapes:
        raise ModelError("the adapter's names and shapes are not those of its plan")
    adapter = _unpack(arrays)
    check(adapter, plan.shapes)
    return plan, adapter, _open_witness(content)


def pack_reply(reply: Reply) -> RecordDict:
    """Return the one message that carries anything of a site."""
    records: dict[str, Any] = {
        "update": ConfigRecord(identity(reply.update)),
        "delta": _pack(reply.update.delta),
        "witness": ConfigRecord(reply.witness.fields()),
    }
    if reply.metric is not None:
        records["metric"] = ConfigRecord(asdict(reply.metric))
    return RecordDict(records)


def open_reply(content: RecordDict) -> Reply:
    """Rebuild a reply from exactly the records that ``pack_reply`` makes.

    Raises:
        RoundError: If anything is missing, unknown or of another type.
        LedgerBroken: If the witness is malformed.
    """
    _require_records(content, {"update": ConfigRecord, "delta": ArrayRecord})
    records = content.config_records
    witness, metric = _open_witness(content), records.get("metric")
    if witness is None:
        raise RoundError("a reply must hold a witness of the site's ledger")
    fields = known_fields(records["update"], IDENTITY)
    return Reply(
        update=update_of(fields, _unpack(content.array_records["delta"])),
        metric=_metric(metric) if metric is not None else None,
        witness=witness,
    )


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
    fields = known_fields(config, {"site": str, "reason": str})
    if not _REASON.fullmatch(fields["reason"]):
        raise RoundError("the reason of a refusal is not a class name")
    return fields["site"], fields["reason"]


def pack_release(release: Release, pointer: Pointer) -> RecordDict:
    """Return a release as it travels to the sites, with what puts it in force."""
    line = ConfigRecord({"json": pointer.to_json()})
    return RecordDict({"pointer": line, "files": ConfigRecord({**release.files()})})


def open_release(content: RecordDict) -> tuple[str, dict[str, bytes]]:
    """Return the pointer's line and the files of a release, by their path in it.

    Nothing in them is believed here; but a path stays inside its folder, and the files
    are few and not too large.

    Raises:
        RoundError: If the records are not exactly those of a release.
    """
    kinds = {name: type(record) for name, record in content.items()}
    if kinds != {"pointer": ConfigRecord, "files": ConfigRecord}:
        raise RoundError("a release must hold exactly 'pointer', 'files'")
    sent = content.config_records["files"]
    if len(sent) > MOST_FILES or not all(map(_FILE.fullmatch, sent)):
        raise RoundError(f"a release holds over {MOST_FILES} files, or an odd path")
    files = known_fields(sent, dict.fromkeys(sent, bytes))
    total = sum(map(len, files.values()))
    if total > MOST_BYTES:
        raise RoundError(f"a release of {total} bytes is over {MOST_BYTES}")
    return known_fields(content.config_records["pointer"], {"json": str})["json"], files


def size(content: RecordDict) -> int:
    """Return how many bytes Flower sends for ``content``; equal parts are sent once."""
    parts: dict[str, int] = {}
    waiting: list[Any] = [content]
    while waiting:
        part = waiting.pop()
        parts[part.object_id] = len(part.deflate())
        waiting += (part.children or {}).values()
    return sum(parts.values())


def _require_records(content: RecordDict, kinds: Mapping[str, type]) -> None:
    """Demand these records; a witness and a metric may be there too, nothing else."""
    allowed = {**kinds, "witness": ConfigRecord}
    if "update" in kinds:
        allowed["metric"] = ConfigRecord
    odd = [name for name in content if type(content[name]) is not allowed.get(name)]
    if odd or not kinds.keys() <= content.keys():
        raise RoundError(f"a message must hold exactly {', '.join(map(repr, kinds))}")


def _metric(record: ConfigRecord) -> MetricRelease:
    """Return a metric whose name is short and whose value is a number."""
    metric = MetricRelease(**known_fields(record, METRIC))
    if not (_METRIC_NAME.fullmatch(metric.name) and math.isfinite(metric.value)):
        raise RoundError("a metric must have a short name and a finite value")
    return metric


def _open_witness(content: RecordDict) -> Witness | None:
    record = content.config_records.get("witness")
    return witness_from(dict(record)) if record is not None else None


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
