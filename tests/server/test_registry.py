"""Versions that are whole or not there, and believed only while they verify."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from server.registry import Registry, with_residual
from server.statement import TRAINING
from shared.adapter import digest
from shared.errors import ConfigError, LedgerBroken, ModelError, RoundError
from shared.release import verify_release
from shared.signing import make_key, public_key
from tests.standin import A, B, a_plan, a_witness, tensor, write_start


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry", write_start(tmp_path / "start", 5))


def publish(registry: Registry, number: int, value: float) -> Path:
    state = {"m/x": tensor(value)}
    plan = a_plan(number)
    received = {"a": ["ab12", "cd34"], "b": ["ef56"]}
    return registry.publish(plan, {B: tensor(value)}, "FedAdam", state, received)


def test_an_empty_registry_starts_with_the_trained_tensors_of_the_start(
    registry: Registry,
) -> None:
    number, adapter = registry.current()

    assert number == 0
    assert digest(adapter) == digest({B: tensor(5)})
    assert registry.rule_state() == {}


def test_the_newest_version_is_current(registry: Registry) -> None:
    publish(registry, 1, 1)
    publish(registry, 2, 2)

    number, adapter = registry.current()

    assert number == 2
    assert digest(adapter) == digest({B: tensor(2)})
    assert digest(registry.rule_state()) == digest({"m/x": tensor(2)})


def test_what_packing_left_over_is_kept_beside_the_rules_memory_and_apart_from_it(
    registry: Registry,
) -> None:
    assert registry.residual() == {}

    memory = with_residual({"m/x": tensor(2)}, {B: tensor(3)})
    registry.publish(a_plan(1), {B: tensor(1)}, "FedAdam", memory, {})

    assert digest(registry.rule_state()) == digest({"m/x": tensor(2)})
    assert digest(registry.residual()) == digest({B: tensor(3)})


def test_a_version_is_a_peft_folder_with_all_that_the_start_held(
    registry: Registry,
) -> None:
    folder = publish(registry, 1, 1)

    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "1_Pooling/config.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "rule_state.safetensors",
    }


def test_frozen_tensors_are_carried_along_unchanged(registry: Registry) -> None:
    folder = publish(registry, 1, 1)

    tensors = safetensors.numpy.load_file(folder / "adapter_model.safetensors")
    assert tensors.keys() == {A, B}
    assert digest({A: tensors[A]}) == digest({A: np.ones((2, 4), np.float32)})


def test_the_manifest_says_where_a_version_comes_from(registry: Registry) -> None:
    publish(registry, 1, 1)
    publish(registry, 2, 2)

    manifest = registry.manifest(2)

    assert manifest["schema"] == 3
    assert (manifest["run"], manifest["round"]) == ("rehearsal", 2)
    assert manifest["base"] == a_plan().spec.base
    assert manifest["spec"] == asdict(a_plan().spec)
    assert manifest["shapes"] == {B: [3, 2]}
    assert manifest["adapter"] == digest({B: tensor(2)})
    assert manifest["parent"] == digest({B: tensor(1)})
    assert manifest["plan"] == a_plan(2).digest()
    assert manifest["rule"] == "FedAdam"
    assert manifest["sites"] == {"a": ["ab12", "cd34"], "b": ["ef56"]}
    assert manifest["libraries"].keys() == {"flwr", "numpy", "safetensors"}
    assert datetime.fromisoformat(manifest["time"]).tzinfo == UTC


def test_a_version_says_what_all_rounds_so_far_have_cost_at_least(
    registry: Registry,
) -> None:
    publish(registry, 1, 1)
    publish(registry, 2, 2)

    asked = asdict(a_plan().mechanism)
    spent = [registry.manifest(number)["privacy"] for number in (1, 2)]
    assert [said["training"] for said in spent] == [
        [{name: asked[name] for name in TRAINING} | {"rounds": rounds}]
        for rounds in (1, 2)
    ]
    assert spent[0]["epsilon"] < spent[1]["epsilon"]


def test_without_a_key_nothing_is_signed(registry: Registry) -> None:
    publish(registry, 1, 1)

    manifest = registry.manifest(1)

    assert (manifest["key"], manifest["signature"]) == ("", "")


def test_with_a_key_every_version_is_a_release(tmp_path: Path) -> None:
    key, start = make_key(tmp_path / "key"), write_start(tmp_path / "start")
    registry = Registry.open(tmp_path / "registry", start, str(tmp_path / "key"))

    folder = publish(registry, 1, 1)

    assert verify_release(folder, public_key(key)).name == "rehearsal/1"
    assert registry.current()[0] == 1


def test_a_key_that_others_may_read_signs_nothing(tmp_path: Path) -> None:
    start = write_start(tmp_path / "start")
    make_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)

    with pytest.raises(ConfigError, match="chmod 600"):
        Registry.open(tmp_path / "registry", start, str(tmp_path / "key"))

    assert not (tmp_path / "registry").exists()


def test_a_version_of_an_earlier_schema_is_told_from_a_damaged_one(
    registry: Registry,
) -> None:
    path = publish(registry, 1, 1) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"schema": 2}))

    with pytest.raises(RoundError, match="has schema 2, and this Tacit reads 3"):
        registry.current()


def change_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def cut_rule_state(folder: Path) -> None:
    path = folder / "rule_state.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def lose_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def add_file(folder: Path) -> None:
    (folder / "modeling.py").write_text("import os", "utf-8")


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{", "utf-8")


def empty_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]", "utf-8")


def rewrite_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | {"sites": {}}), "utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        change_weights,
        cut_rule_state,
        lose_config,
        add_file,
        lose_manifest,
        garble_manifest,
        empty_manifest,
        rewrite_manifest,
    ],
)
def test_a_damaged_version_is_not_believed(
    registry: Registry, damage: Callable[[Path], None]
) -> None:
    publish(registry, 1, 1)
    damage(publish(registry, 2, 2))

    with pytest.raises(RoundError, match=r"damaged.*go on from round 1") as caught:
        registry.current()

    assert str(registry.folder(2)) in str(caught.value)


def test_the_remedy_works(registry: Registry, tmp_path: Path) -> None:
    publish(registry, 1, 1)
    lose_config(publish(registry, 2, 2))

    registry.folder(2).rename(tmp_path / "away")

    assert registry.current()[0] == 1


def test_a_crash_while_writing_leaves_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, 1, 1)

    def crash(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        publish(registry, 2, 2)

    assert [path.name for path in registry.root.iterdir()] == ["round-0001"]
    assert registry.current()[0] == 1


@pytest.mark.parametrize("number", [1, 3])
def test_rounds_are_published_in_order(registry: Registry, number: int) -> None:
    publish(registry, 1, 1)

    with pytest.raises(RoundError, match=f"round {number} cannot follow round 1"):
        publish(registry, number, 2)


def test_an_adapter_that_does_not_fit_the_plan_is_not_published(
    registry: Registry,
) -> None:
    bad = {B: np.full((3, 2), np.nan, np.float32)}

    with pytest.raises(ModelError, match="not finite"):
        registry.publish(a_plan(), bad, "FedAvg", {}, {})

    assert registry.newest() == 0


def test_the_newest_witness_of_each_site_is_kept_over_a_restart(
    registry: Registry,
) -> None:
    registry.keep_witnesses([a_witness("a", 3), a_witness("b", 5)])
    registry.keep_witnesses([a_witness("a", 4)])

    again = Registry.open(registry.root, registry.start)

    assert again.witnesses("abc") == {"a": a_witness("a", 4), "b": a_witness("b", 5)}


def test_witnesses_are_no_version(registry: Registry) -> None:
    registry.keep_witnesses([a_witness("a", 3)])

    assert registry.newest() == 0


@pytest.mark.parametrize("content", ["", "{", "null", "{}", '{"site": "a"}'])
def test_a_damaged_witness_is_not_taken_for_none(
    registry: Registry, content: str
) -> None:
    """Or a server that lost it would believe any ledger."""
    registry.keep_witnesses([a_witness("a", 3)])
    (registry.root / "witnesses" / "a.json").write_text(content, "utf-8")

    with pytest.raises(LedgerBroken):
        registry.witnesses(["a"])


def test_a_start_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a PEFT folder"):
        Registry.open(tmp_path / "registry", tmp_path)


def test_a_start_with_nothing_to_train_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    safetensors.numpy.save_file({A: tensor(1)}, path)

    with pytest.raises(ModelError, match="no lora_B"):
        Registry.open(tmp_path / "registry", tmp_path)
