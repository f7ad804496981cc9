"""The protocol as Flower records.

What is opened here must be exactly what is packed here: an unknown record, key, type,
dtype or byte is refused. An adapter travels as one array, see ``shared/packing.py``.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from shared.adapter import add, check, digest
from shared.errors import EgressRefused, ModelError, RoundError, VersionMissing
from shared.packing import Packed, Shapes, Step, pack, unpack
from shared.pointer import Pointer
from shared.protocol import (
    FLOAT32,
    WIRES,
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
VERSIONS = {"before": str, "after": str, "scales": bytes}
MOST_FILES = 64  # of a release
MOST_BYTES = 1 << 29  # of all of them


def pack_plan(plan: RoundPlan, adapter: Adapter) -> RecordDict:
    """Return the instruction of one round: the plan and the adapter it starts from."""
    line = ConfigRecord({"json": plan.to_json()})
    return RecordDict({"plan": line, "adapter": _buffer(pack(adapter, FLOAT32))})


def pack_step(plan: RoundPlan, step: Step) -> RecordDict:
    """Return the instruction for a site that holds the version before."""
    line = ConfigRecord({"json": plan.to_json()})
    said = {"before": step.before, "after": step.after}
    versions = ConfigRecord({**said, "scales": step.packed.scales.tobytes()})
    step_record = _buffer(step.packed)
    return RecordDict({"plan": line, "step": step_record, "versions": versions})


def with_witness(content: RecordDict, witness: Witness | None) -> RecordDict:
    """Return an instruction with the newest witness of the ledger of its receiver."""
    if witness is None:
        return content
    return RecordDict({**content, "witness": ConfigRecord(witness.fields())})


def holds_nothing(_run: str) -> Adapter | None:
    """Return what a receiver holds that keeps no version."""
    return None


def open_plan(
    content: RecordDict, held: Callable[[str], Adapter | None] = holds_nothing
) -> tuple[RoundPlan, dict[str, Array], Witness | None]:
    """Return the plan, an adapter that fits it, and what the server has seen of us.

    Sizes are compared with the plan's before an array is copied. An adapter that comes
    as a step is believed only if its sum has the digest that the server states.

    Args:
        content: An instruction.
        held: Says which version of a run's adapter the receiver holds, if any.

    Raises:
        RoundError: If the records are not exactly those of an instruction.
        ConfigError: If the plan cannot be read.
        ModelError: If the adapter does not have the plan's shapes.
        VersionMissing: If it is a step from a version that is not held.
        LedgerBroken: If the witness is malformed.
    """
    stepped = "step" in content
    buffer = "step" if stepped else "adapter"
    more = {"versions": ConfigRecord} if stepped else {}
    _require_records(content, {"plan": ConfigRecord, buffer: ArrayRecord, **more})
    plan = plan_from_json(
        known_fields(content.config_records["plan"], {"json": str})["json"]
    )
    arrays = content.array_records[buffer]
    sizes = [tuple(array.shape) for array in arrays.values()]
    if sizes != [(sum(map(math.prod, plan.shapes.values())),)]:
        raise ModelError("the adapter does not have the size that its plan states")
    if stepped:
        said = known_fields(content.config_records["versions"], VERSIONS)
        packed = _packed(arrays, said["scales"])
        step = Step(packed, said["before"], said["after"])
        adapter = _stepped(held(plan.run), step, plan.shapes)
    else:
        packed = _packed(arrays, b"")
        if packed.form != FLOAT32:
            raise RoundError("a whole adapter travels as float32")
        adapter = unpack(packed, plan.shapes)
    check(adapter, plan.shapes)
    return plan, adapter, _open_witness(content)


def pack_reply(reply: Reply) -> RecordDict:
    """Return the one message that carries anything of a site."""
    packed = pack(reply.update.delta, reply.update.wire)
    update = {**identity(reply.update), "scales": packed.scales.tobytes()}
    records: dict[str, Any] = {
        "update": ConfigRecord(update),
        "delta": _buffer(packed),
        "witness": ConfigRecord(reply.witness.fields()),
    }
    if reply.metric is not None:
        records["metric"] = ConfigRecord(asdict(reply.metric))
    return RecordDict(records)


def open_reply(content: RecordDict, shapes: Shapes) -> Reply:
    """Rebuild a reply from exactly the records that ``pack_reply`` makes.

    Args:
        content: A reply.
        shapes: Of the adapter that is exchanged, from the plan.

    Raises:
        RoundError: If anything is missing, unknown or of another type.
        ModelError: If the update is not packed tensors of these shapes.
        LedgerBroken: If the witness is malformed.
    """
    _require_records(content, {"update": ConfigRecord, "delta": ArrayRecord})
    records = content.config_records
    witness, metric = _open_witness(content), records.get("metric")
    if witness is None:
        raise RoundError("a reply must hold a witness of the site's ledger")
    fields = known_fields(records["update"], {**IDENTITY, "scales": bytes})
    packed = _packed(content.array_records["delta"], fields.pop("scales"))
    return Reply(
        update=update_of(fields, packed, shapes),
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


def _stepped(base: Adapter | None, step: Step, shapes: Shapes) -> dict[str, Array]:
    """Return the version that a step gives; one that is there already stays."""
    if base is not None and digest(base) == step.after:
        return dict(base)
    if base is not None and digest(base) == step.before:
        adapter = add(base, unpack(step.packed, shapes))
        if digest(adapter) == step.after:
            return adapter
    raise VersionMissing("the step starts from a version that is not held here")


def _buffer(packed: Packed) -> ArrayRecord:
    return ArrayRecord({"values": SentArray(packed.values)})


def _packed(record: ArrayRecord, scales: bytes) -> Packed:
    """Return what one array and its scales hold, if it is all there is."""
    try:
        if [*record] != ["values"]:
            raise ValueError("not one array")
        return Packed(_array(record["values"]), np.frombuffer(scales, np.float32))
    except ValueError as error:
        raise RoundError(f"arrays cannot be read: {error}") from None


def _array(sent: SentArray) -> npt.NDArray[Any]:
    """Return the array if its bytes are the only ones that Flower writes for it."""
    if sent.dtype not in WIRES or len(sent.shape) != 1:
        raise ValueError("not one dimension in a form of the wire")
    kind = np.dtype(sent.dtype)
    start = len(sent.data) - kind.itemsize * sent.shape[0]
    if sent.shape[0] < 0 or start < 0:
        raise ValueError("not of the stated shape")
    array = np.frombuffer(sent.data[start:], kind).copy()
    if SentArray(array) != sent:
        raise ValueError("not the plain bytes of an array")
    return array
