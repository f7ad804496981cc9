"""What is opened is exactly what was packed."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from shared import wire
from shared.adapter import add, digest
from shared.errors import (
    ConfigError,
    EgressRefused,
    LedgerBroken,
    ModelError,
    RoundError,
    VersionMissing,
)
from shared.packing import Step, feed_back, pack
from shared.pointer import point
from shared.protocol import MOST_VALUES, WIRES, Adapter
from shared.release import Release
from shared.sealing import update_bytes
from shared.wire import (
    open_plan,
    open_refusal,
    open_release,
    open_reply,
    pack_plan,
    pack_refusal,
    pack_release,
    pack_reply,
    pack_step,
    size,
    with_witness,
)
from tests.standin import (
    SHAPE,
    B,
    a_metric,
    a_plan,
    a_reply,
    a_witness,
    an_update,
    key_of,
    packed,
    tensor,
)

COUNT = math.prod(SHAPE)


def sent(value: float = 1.0) -> SentArray:
    """A buffer as it travels."""
    return SentArray(np.ravel(tensor(value)))


def test_a_plan_arrives_as_it_was_sent() -> None:
    plan, adapter, seen = open_plan(pack_plan(a_plan(), {B: tensor(2)}))

    assert plan == a_plan()
    assert plan.digest() == a_plan().digest()
    assert digest(adapter) == digest({B: tensor(2)})
    assert seen is None


def test_a_site_is_told_what_was_seen_of_its_ledger() -> None:
    content = pack_plan(a_plan(), {B: tensor(2)})

    told = with_witness(content, a_witness("a", 7))

    assert open_plan(told)[2] == a_witness("a", 7)
    assert open_plan(content)[2] is None  # all sites share the rest


@pytest.mark.parametrize("measured", [True, False])
def test_a_reply_arrives_as_it_was_sent(*, measured: bool) -> None:
    update = an_update(a_plan())
    reply = a_reply(update, a_metric(update) if measured else None)

    opened = open_reply(pack_reply(reply), {B: SHAPE})

    assert update_bytes(opened.update) == update_bytes(update)
    assert opened.metric == reply.metric
    assert opened.witness == reply.witness


def test_an_opened_array_can_be_written_to() -> None:
    delta = open_reply(packed(an_update(a_plan())), {B: SHAPE}).update.delta

    assert delta[B].flags.writeable


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6),
    site=st.text(max_size=5),
)
def test_any_update_survives_the_wire(values: list[float], site: str) -> None:
    flat = np.array(values, np.float32)
    delta = {B: flat.reshape(SHAPE), "b": flat}
    update = replace(an_update(a_plan(), site), delta=delta)

    opened = open_reply(packed(update), {B: SHAPE, "b": (6,)}).update

    assert (opened.site, digest(opened.delta)) == (site, digest(delta))
    assert update_bytes(opened) == update_bytes(update)


def grown(value: float) -> dict[str, Any]:
    """A version of the adapter."""
    return {B: tensor(value)}


def a_step(before: float = 1.0, after: float = 3.5, form: str = "int8") -> Step:
    """From one version to another that is reached exactly."""
    sent, _ = feed_back({B: tensor(after - before)}, {}, form)
    version = add(grown(before), sent)
    return Step(pack(sent, form), digest(grown(before)), digest(version))


def stepped(step: Step) -> RecordDict:
    return pack_step(a_plan(), step)


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_who_holds_the_version_before_gets_the_next_one_bit_for_bit(form: str) -> None:
    step = a_step(form=form)

    plan, adapter, seen = open_plan(stepped(step), lambda _run: grown(1))

    assert digest(adapter) == step.after
    assert adapter[B] == pytest.approx(tensor(3.5), rel=1e-3)
    assert (plan, seen) == (a_plan(), None)


def test_who_holds_the_next_version_already_keeps_it() -> None:
    step = a_step()
    held = open_plan(stepped(step), lambda _run: grown(1))[1]

    adapter = open_plan(stepped(step), lambda _run: held)[1]

    assert digest(adapter) == step.after


def test_the_version_that_is_asked_for_is_that_of_the_plans_run() -> None:
    asked: list[str] = []

    def held(run: str) -> Adapter:
        asked.append(run)
        return grown(1)

    open_plan(stepped(a_step()), held)

    assert asked == [a_plan().run]


@pytest.mark.parametrize(
    "held",
    [
        lambda _run: None,
        lambda _run: grown(2),
        lambda _run: {},
        lambda _run: {"other": tensor(1)},
    ],
    ids=["none", "another", "nothing", "of another name"],
)
def test_a_step_from_a_version_that_is_not_held_is_not_taken(
    held: Callable[[str], Adapter | None],
) -> None:
    with pytest.raises(VersionMissing):
        open_plan(stepped(a_step()), held)
    with pytest.raises(VersionMissing):  # nor by who keeps no version
        open_plan(stepped(a_step()))


def test_a_step_that_does_not_lead_where_it_says_is_not_taken() -> None:
    step = replace(a_step(), after=digest(grown(3)))

    with pytest.raises(VersionMissing):
        open_plan(stepped(step), lambda _run: grown(1))


def step_of_another_length(content: RecordDict) -> None:
    content.array_records["step"]["values"] = SentArray(np.zeros(5, np.int8))


def step_of_two_arrays(content: RecordDict) -> None:
    content.array_records["step"]["more"] = SentArray(np.zeros(6, np.int8))


def step_of_other_bytes(content: RecordDict) -> None:
    content.array_records["step"]["values"] = SentArray(np.full(6, -128, np.int8))


def step_with_a_torn_scale(content: RecordDict) -> None:
    content.config_records["versions"]["scales"] = b"abc"


def step_without_versions(content: RecordDict) -> None:
    del content["versions"]


def step_with_more_to_say(content: RecordDict) -> None:
    content.config_records["versions"]["users"] = 17


def step_beside_a_whole(content: RecordDict) -> None:
    content["adapter"] = ArrayRecord({"values": sent()})


@pytest.mark.parametrize(
    "spoil",
    [
        *(step_of_another_length, step_of_two_arrays, step_of_other_bytes),
        *(step_with_a_torn_scale, step_without_versions, step_with_more_to_say),
        step_beside_a_whole,
    ],
)
def test_anything_but_a_step_is_refused(spoil: Callable[[RecordDict], None]) -> None:
    content = stepped(a_step())
    spoil(content)

    with pytest.raises((RoundError, ModelError)) as caught:
        open_plan(content, lambda _run: grown(1))
    assert caught.type is not VersionMissing


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_a_whole_adapter_comes_as_float32_alone(form: str) -> None:
    content = pack_plan(a_plan(), grown(1))
    content.array_records["adapter"]["values"] = SentArray(np.zeros(6, form))

    with pytest.raises(RoundError, match="as float32"):
        open_plan(content)


@pytest.mark.parametrize("form", WIRES)
def test_an_update_arrives_as_what_its_form_can_say(form: str) -> None:
    delta = {B: tensor(0.3), "a": np.array([1.5, -7], np.float32)}
    said, _ = feed_back(delta, {}, form)
    update = replace(an_update(a_plan()), delta=said, wire=form)

    opened = open_reply(packed(update), {B: SHAPE, "a": (2,)}).update

    assert (opened.wire, digest(opened.delta)) == (form, digest(said))
    assert update_bytes(opened) == update_bytes(update)


DEFAULT = {B: (384, 32)}  # as many values as the default adapter of all-MiniLM-L6-v2


@pytest.mark.parametrize(("form", "most"), [("float32", 55_000), ("int8", 15_000)])
def test_an_update_of_the_default_adapter_is_small_envelope_included(
    form: str, most: int
) -> None:
    fresh = np.random.default_rng(0).normal(size=DEFAULT[B]).astype(np.float32)
    plan = replace(a_plan(), shapes=DEFAULT, wire=form)
    update = replace(an_update(plan), delta={B: fresh})
    content = pack_reply(a_reply(update, a_metric(update)))

    assert fresh.size * np.dtype(form).itemsize < size(content) <= most


def unknown_record(content: RecordDict) -> None:
    content["more"] = MetricRecord({"users": 17})


def no_delta(content: RecordDict) -> None:
    del content["delta"]


def wrong_kind(content: RecordDict) -> None:
    content["delta"] = ConfigRecord({B: b"bytes"})


def extra_key(content: RecordDict) -> None:
    content.config_records["update"]["num-examples"] = 17


def missing_key(content: RecordDict) -> None:
    del content.config_records["update"]["site"]


def true_for_one(content: RecordDict) -> None:
    content.config_records["update"]["number"] = True


def list_for_text(content: RecordDict) -> None:
    content.config_records["update"]["site"] = ["a"]


def double_precision(content: RecordDict) -> None:
    content.array_records["delta"]["values"] = SentArray(np.zeros(COUNT))


def other_shape_inside(content: RecordDict) -> None:
    data = SentArray(np.zeros((1, COUNT), np.float32)).data
    content.array_records["delta"]["values"] = SentArray(
        "float32", (COUNT,), "numpy.ndarray", data
    )


def other_serialisation(content: RecordDict) -> None:
    content.array_records["delta"]["values"] = SentArray(
        "float32", (COUNT,), "x", sent().data
    )


def bytes_behind(content: RecordDict) -> None:
    data = sent().data + b"user 17"
    content.array_records["delta"]["values"] = SentArray(
        "float32", (COUNT,), "numpy.ndarray", data
    )


def bytes_in_the_header(content: RecordDict) -> None:
    data = sent().data.replace(b"}   ", b"}abc")
    assert data != sent().data
    content.array_records["delta"]["values"] = SentArray(
        "float32", (COUNT,), "numpy.ndarray", data
    )


def negative_shape(content: RecordDict) -> None:
    array = SentArray("float32", (-COUNT,), "numpy.ndarray", sent().data)
    content.array_records["delta"]["values"] = array


def huge_shape(content: RecordDict) -> None:
    array = SentArray("float32", (10**18,), "numpy.ndarray", sent().data)
    content.array_records["delta"]["values"] = array


def no_bytes(content: RecordDict) -> None:
    content.array_records["delta"]["values"] = SentArray(
        "float32", (COUNT,), "numpy.ndarray", b""
    )


def second_update(content: RecordDict) -> None:
    content["update-2"] = content["update"]


def metric_of_another_kind(content: RecordDict) -> None:
    content["metric"] = MetricRecord({"value": 0.5})


def metric_with_a_count(content: RecordDict) -> None:
    content.config_records["metric"]["users"] = 17


def metric_without_a_name(content: RecordDict) -> None:
    del content.config_records["metric"]["name"]


def whole_metric(content: RecordDict) -> None:
    content.config_records["metric"]["value"] = 1


def no_number(content: RecordDict) -> None:
    content.config_records["metric"]["value"] = float("nan")


def told_by_its_name(content: RecordDict) -> None:
    content.config_records["metric"]["name"] = "user 17 was here"


def no_witness(content: RecordDict) -> None:
    del content["witness"]


def witness_of_another_kind(content: RecordDict) -> None:
    content["witness"] = MetricRecord({"entries": 1})


@pytest.mark.parametrize(
    "spoil",
    [
        *(second_update, metric_of_another_kind, metric_with_a_count, whole_metric),
        *(metric_without_a_name, no_number, told_by_its_name),
        *(no_witness, witness_of_another_kind),
        unknown_record,
        no_delta,
        wrong_kind,
        extra_key,
        missing_key,
        true_for_one,
        list_for_text,
        double_precision,
        other_shape_inside,
        other_serialisation,
        bytes_behind,
        bytes_in_the_header,
        negative_shape,
        huge_shape,
        no_bytes,
    ],
)
def test_anything_but_a_reply_is_refused(spoil: Callable[[RecordDict], None]) -> None:
    update = an_update(a_plan())
    content = pack_reply(a_reply(update, a_metric(update)))
    open_reply(content, {B: SHAPE})
    spoil(content)

    with pytest.raises(RoundError):
        open_reply(content, {B: SHAPE})


NO_WITNESS: dict[str, Mapping[str, Any]] = {
    "another site": {"site": "b"},
    "another length": {"entries": 3},
    "another head": {"head": "0" * 64},
    "another key": {"key": a_witness("b").key},
    "no signature": {"signature": ""},
    "a head that is no hash": {"head": "../../up"},
    "a length that is no number": {"entries": "2"},
    "a length that is true": {"entries": True},
    "one field more": {"users": 17},
}


@pytest.mark.parametrize("changes", NO_WITNESS.values(), ids=NO_WITNESS)
def test_a_witness_that_is_not_signed_as_it_stands_is_refused_at_both_ends(
    changes: Mapping[str, Any],
) -> None:
    up = packed(an_update(a_plan()))
    down = with_witness(pack_plan(a_plan(), {B: tensor(0)}), a_witness("a", 2))
    for content in (up, down):
        content.config_records["witness"].update(changes)

    with pytest.raises(LedgerBroken):
        open_reply(up, {B: SHAPE})
    with pytest.raises(LedgerBroken):
        open_plan(down)


def test_only_float32_may_travel() -> None:
    delta = {B: np.zeros(SHAPE)}

    with pytest.raises(ModelError, match=f"{B}: float64"):
        packed(replace(an_update(a_plan()), delta=delta))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more",
    [
        {"code": ConfigRecord({"run": "this"})},
        {"metric": ConfigRecord({"value": 1.0})},  # of replies alone
        {"plan": MetricRecord({"q": 1.0})},
        {"witness": ArrayRecord({B: sent()})},
        {"plan": ConfigRecord({"json": a_plan().to_json(), "code": "this"})},
        {"plan": ConfigRecord({"json": 1})},
    ],
)
def test_an_instruction_of_other_records_is_refused(more: dict[str, Any]) -> None:
    content = RecordDict({**pack_plan(a_plan(), {B: tensor(0)}), **more})

    with pytest.raises(RoundError, match="exactly"):
        open_plan(content)


def opened(line: str) -> None:
    """What a site makes of an instruction with this plan."""
    content = pack_plan(a_plan(), {B: tensor(0)})
    content["plan"] = ConfigRecord({"json": line})
    open_plan(content)


@pytest.mark.parametrize("line", ["", "{}", "[]", "7", "null", "{", "[" * 100_000])
def test_an_instruction_with_an_unreadable_plan_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        opened(line)


PLAN = json.loads(a_plan().to_json())
SCALARS = [
    (),
    *((key,) for key in ("run", "number")),
    *((part, key) for part in ("spec", "mechanism", "recipe") for key in PLAN[part]),
]
WRONG: list[object] = [
    None,
    [],
    {},
    [1],
    "",
    "../up",
    -1,
    -0.5,
    "x" * 300,
    math.nan,
    math.inf,
]


def changed(path: tuple[str, ...], value: object) -> str:
    """The line of a plan with one value of its own; without a path, of one key more."""
    made = json.loads(a_plan().to_json())
    *parents, key = path or ("more",)
    place = made
    for name in parents:
        place = place[name]
    place[key] = value
    return json.dumps(made, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "value", [*WRONG, 1e300, 10**400], ids=lambda value: f"{value!r:.9}"
)
def test_no_value_that_is_far_out_or_of_another_type_is_read(value: object) -> None:
    """Save the encoder's digest, a text that each site compares with its own."""
    for path in SCALARS:
        if path != ("spec", "base") or not isinstance(value, str):
            with pytest.raises(ConfigError):
                opened(changed(path, value))
    for key in ("quorum", "max_norm", "deadline_s"):  # these concern the server alone
        if value in WRONG:
            with pytest.raises(ConfigError):
                opened(changed((key,), value))


NO_PLAN: dict[str, tuple[tuple[str, ...], object]] = {
    "a name that leads out": (("sites",), ["../a"]),
    "a name that is empty": (("sites",), [""]),
    "a name that is no text": (("sites",), [1]),
    "names that are one text": (("sites",), "abc"),
    "a tensor whose name leads out": (("shapes",), {"../x": [3, 2]}),
    "a tensor whose name is empty": (("shapes",), {"": [3, 2]}),
    "no rows": (("shapes",), {B: [0, 2]}),
    "fewer than no rows": (("shapes",), {B: [-3, -2]}),
    "half a row": (("shapes",), {B: [3.5, 2]}),
    "rows in a text": (("shapes",), {B: "32"}),
    "rows that are texts": (("shapes",), {B: ["3", "2"]}),
    "more values than fit": (("shapes",), {B: [MOST_VALUES + 1, 1]}),
    "many tensors that together do not fit": (
        ("shapes",),
        {str(n): [MOST_VALUES // 2] for n in range(3)},
    ),
    "a shape of a thousand million": (("shapes",), {B: [10**9, 10**9]}),
    "a form that nobody knows": (("wire",), "int4"),
    "a form that is no text": (("wire",), 8),
    "no limit on the update": (("max_norm",), 0.0),
    "no time": (("deadline_s",), 0.0),
    "round 0": (("number",), 0),
    "a round that is true": (("number",), True),
    "a depth in another script": (("spec", "modules"), "dense:²"),
    "a module that leads out": (("spec", "modules"), "dense:1/../.."),
    "a whole number for a real one": (("mechanism", "clip"), 1),
    "a sigma between none and enough": (("mechanism", "sigma"), 0.29),
    "a metric with too little noise": (("mechanism", "metric_sigma"), 0.29),
}


@pytest.mark.parametrize(("path", "value"), NO_PLAN.values(), ids=NO_PLAN)
def test_a_plan_that_says_what_no_plan_can_is_refused(
    path: tuple[str, ...], value: object
) -> None:
    with pytest.raises(ConfigError):
        opened(changed(path, value))


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda line: line.replace(",", ", "),
        lambda line: line.replace('"number":1', '"number":9,"number":1'),
        lambda line: line.replace('"rank":32', '"rank":32,"max-tokens":16'),
        lambda line: line.replace("0.5", "5e-1"),
        lambda line: json.dumps(dict(reversed(json.loads(line).items()))),
    ],
    ids=["spaced", "a key twice", "a key by two names", "rewritten", "in other order"],
)
def test_one_plan_has_one_line(rewrite: Callable[[str], str]) -> None:
    """Or two ends could take one line for two plans."""
    line = a_plan().to_json()
    opened(line)
    assert rewrite(line) != line

    with pytest.raises(ConfigError):
        opened(rewrite(line))


def test_an_instruction_whose_adapter_does_not_fit_its_plan_is_refused() -> None:
    content = pack_plan(a_plan(), {B: np.zeros((1, 2), np.float32)})

    with pytest.raises(ModelError, match="size"):
        open_plan(content)


def test_a_refusal_says_who_and_why() -> None:
    assert open_refusal(pack_refusal("a", "BudgetSpent")) == ("a", "BudgetSpent")


def test_a_reply_is_not_a_refusal() -> None:
    assert open_refusal(packed(an_update(a_plan()))) is None


@pytest.mark.parametrize("reason", ["", "user 17", "x" * 41, "Budget2", "Größe", "A\n"])
def test_a_reason_is_a_class_name_or_is_refused_at_both_ends(reason: str) -> None:
    config = ConfigRecord({"site": "a", "reason": reason})

    with pytest.raises(EgressRefused):
        pack_refusal("a", reason)
    with pytest.raises(RoundError):
        open_refusal(RecordDict({"refusal": config}))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({"refusal": MetricRecord({"reason": 1})}),
        RecordDict({"refusal": ConfigRecord({"site": "a"})}),
        RecordDict({"refusal": ConfigRecord({"site": "a", "reason": 1})}),
        RecordDict(
            {
                "refusal": ConfigRecord({"site": "a", "reason": "BudgetSpent"}),
                "delta": ArrayRecord({B: sent()}),
            }
        ),
    ],
)
def test_a_refusal_that_says_more_or_less_is_refused(content: RecordDict) -> None:
    with pytest.raises(RoundError):
        open_refusal(content)


FILES = {"adapter_model.safetensors": b"\0\1", "1_Pooling/config.json": b"{}"}


def a_release(files: Mapping[str, Any] = FILES, **more: Any) -> RecordDict:
    """A release as it travels, of these files."""
    records = {
        "pointer": ConfigRecord({"json": "{}"}),
        "files": ConfigRecord(dict(files)),
    }
    return RecordDict({**records, **more})


def test_a_release_arrives_as_it_was_sent(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(b"said")
    manifest = {"run": "spring", "round": 3, "digest": "d" * 64, "files": FILES}
    release = Release(tmp_path, manifest, a_plan().spec)
    pointer = point(release, 1, "now", key_of("operator"))

    line, files = open_release(pack_release(release, pointer))

    assert line == pointer.to_json()
    assert files == {**FILES, "manifest.json": b"said"}


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        a_release(witness=ConfigRecord({})),
        a_release(pointer=ConfigRecord({})),
        a_release(pointer=ConfigRecord({"json": b"{}"})),
        a_release(pointer=ConfigRecord({"json": "{}", "users": 3})),
        RecordDict({**a_release(), "files": ArrayRecord({B: sent()})}),
        a_release({"config.json": "{}"}),
        a_release({"config.json": [b"{}"]}),
        a_release({f"{number}.json": b"" for number in range(65)}),
    ],
    ids=range(9),
)
def test_what_is_not_exactly_a_release_is_refused(content: RecordDict) -> None:
    with pytest.raises(RoundError):
        open_release(content)


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/etc/passwd", "../up.json", "a/../../up.json", "a/b/c.json"),
        *("a//b", "a/", ".hidden", "a/.hidden", "a\\b", "a\n", "C:x", "a b", "ä"),
    ],
)
def test_no_path_of_a_release_leads_out_of_its_folder(path: str) -> None:
    with pytest.raises(RoundError, match="odd path"):
        open_release(a_release({path: b""}))


def test_a_release_that_would_fill_a_disk_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 3)

    with pytest.raises(RoundError, match="4 bytes is over 3"):
        open_release(a_release())


def test_the_size_counts_what_travels_and_equal_arrays_once() -> None:
    one = RecordDict({"delta": ArrayRecord({"a": sent()})})
    two = RecordDict({"delta": ArrayRecord({"a": sent(), "b": sent()})})
    different = RecordDict({"delta": ArrayRecord({"a": sent(), "b": sent(2)})})

    payload = len(sent().data)
    assert payload < size(one) < size(two) < size(one) + payload
    assert size(different) > size(one) + payload
