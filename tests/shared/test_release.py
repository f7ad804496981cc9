"""A release is believed byte by byte, and only under the operator's own key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from server.registry import Registry
from shared.errors import ModelError
from shared.release import (
    MANIFEST,
    RULE_STATE,
    WEIGHTS,
    file_digests,
    read_release,
    seal_manifest,
    verify_release,
)
from shared.signing import public_key
from tests.standin import A, B, a_plan, key_of, tensor, write_start

OPERATOR = public_key(key_of("operator"))


def publish(root: Path, value: float = 1.0) -> Path:
    """The first version of a run, signed by the operator."""
    start = write_start(root / "start")
    registry = Registry(root / "registry", start, key_of("operator"))
    registry.root.mkdir()
    state = {"m/x": tensor(value)}
    received = {"a": ["ab12"], "b": ["cd34"]}
    return registry.publish(a_plan(), {B: tensor(value)}, "FedAdam", state, received)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish(tmp_path)


def said(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    return found


def write(folder: Path, manifest: object) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


def sign_anew(folder: Path, signer: str = "operator", **changes: object) -> None:
    """What a holder of ``signer``'s key can make of the folder as it lies."""
    kept = {
        name: value
        for name, value in said(folder).items()
        if name not in {"key", "digest", "signature"}
    }
    files = file_digests(folder)
    state = files.pop(RULE_STATE, kept["rule_state"])
    whole = {**kept, "files": files, "rule_state": state, **changes}
    write(folder, seal_manifest(whole, key_of(signer)))


def test_a_release_says_its_name_and_what_was_signed(folder: Path) -> None:
    release = verify_release(folder, OPERATOR)

    assert release.name == "rehearsal/1"
    assert release.digest == said(folder)["digest"]
    assert release.spec == a_plan().spec
    assert release.manifest["sites"] == {"a": ["ab12"], "b": ["cd34"]}


def test_what_travels_is_a_release_without_the_memory_of_the_server(
    folder: Path, tmp_path: Path
) -> None:
    files = verify_release(folder, OPERATOR).files()

    for name, content in files.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    assert verify_release(tmp_path / "copy", OPERATOR).name == "rehearsal/1"
    assert RULE_STATE not in files
    assert (folder / RULE_STATE).exists()


def change_weights(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def lose_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "modeling.py").write_text("import os", "utf-8")


def change_the_rule_state(folder: Path) -> None:
    safetensors.numpy.save_file({"m/x": tensor(9)}, folder / RULE_STATE)


def lose_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def garble_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"schema": 3', "utf-8")


def nest_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 100_000, "utf-8")


def list_for_manifest(folder: Path) -> None:
    write(folder, [])


def add_a_field(folder: Path) -> None:
    write(folder, {**said(folder), "note": "trust me"})


def lose_a_field(folder: Path) -> None:
    write(folder, {k: v for k, v in said(folder).items() if k != "privacy"})


def true_for_a_round(folder: Path) -> None:
    write(folder, {**said(folder), "round": True})


def claim_a_site(folder: Path) -> None:
    write(folder, {**said(folder), "sites": {"c": ["ef56"]}})


def other_signature(folder: Path) -> None:
    write(folder, {**said(folder), "signature": "0" * 128})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_weights, WEIGHTS),
        (lose_config, "adapter_config.json"),
        (add_a_file, "modeling.py"),
        (change_the_rule_state, RULE_STATE),
        (lose_manifest, "FileNotFoundError"),
        (garble_manifest, "JSONDecodeError"),
        (nest_manifest, "RecursionError"),
        (list_for_manifest, "TypeError"),
        (add_a_field, "was changed"),
        (lose_a_field, "was changed"),
        (true_for_a_round, "was changed"),
        (claim_a_site, "was changed"),
        (other_signature, "not its operator's"),
    ],
)
def test_what_was_changed_is_no_release(
    folder: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(folder)

    with pytest.raises(ModelError, match=told):
        verify_release(folder, OPERATOR)


def test_nobody_else_signs_for_the_operator(folder: Path) -> None:
    sign_anew(folder, "stranger")

    with pytest.raises(ModelError, match=r"signed by the key .*, not by the operator"):
        verify_release(folder, OPERATOR)


def test_a_stranger_does_not_pass_under_the_operators_name(folder: Path) -> None:
    sign_anew(folder, "stranger")
    forged = seal_manifest({**said(folder), "rule": "FedAvg"}, None)
    theirs = seal_manifest({**forged, "key": OPERATOR}, key_of("stranger"))
    write(folder, {**theirs, "key": OPERATOR})

    with pytest.raises(ModelError):
        verify_release(folder, OPERATOR)


def test_an_unsigned_version_is_no_release(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / "registry", write_start(tmp_path / "start"))
    folder = registry.publish(a_plan(), {B: tensor(1)}, "FedAvg", {}, {})

    with pytest.raises(ModelError, match="signed by nobody"):
        verify_release(folder, OPERATOR)


def weigh(folder: Path, **tensors: Any) -> None:
    """Write other tensors into the release, and sign that."""
    kept = safetensors.numpy.load_file(folder / WEIGHTS)
    named = {{"a": A, "b": B}.get(name, name): array for name, array in tensors.items()}
    safetensors.numpy.save_file({**kept, **named}, folder / WEIGHTS)
    sign_anew(folder)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"b": np.full((3, 2), np.nan, np.float32)}, "6 of 6 values are not finite"),
        ({"a": np.full((2, 4), np.inf, np.float32)}, "8 of 8 values are not finite"),
        ({"b": np.ones((3, 2), np.float64)}, "float64, expected float32"),
        ({"b": np.ones((2, 2), np.float32)}, r"shape \(2, 2\), expected \(3, 2\)"),
        ({"x.lora_B.weight": np.ones((3, 2), np.float32)}, "not agreed"),
        ({"b": np.ones((3, 2), np.float32) * 7}, "does not hold the adapter"),
    ],
)
def test_tensors_that_the_manifest_does_not_say_are_refused_though_signed(
    folder: Path, tensors: dict[str, Any], told: str
) -> None:
    weigh(folder, **tensors)

    with pytest.raises(ModelError, match=told):
        verify_release(folder, OPERATOR)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spec": {"base": "0" * 64, "rank": 0}}, "rank=0"),
        ({"spec": {"base": "0" * 64, "epochs": 1}}, "unknown key 'epochs'"),
        ({"spec": {"base": "1" * 64}}, "two encoders"),
        ({"shapes": {B: "32"}}, "cannot be read|shape"),
        ({"run": "../up"}, "was changed"),
        ({"round": 0}, "was changed"),
        ({"schema": 4}, "schema 4, and this Tacit reads 3"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_though_signed(
    folder: Path, changes: dict[str, object], told: str
) -> None:
    sign_anew(folder, "operator", **changes)

    with pytest.raises(ModelError, match=told):
        verify_release(folder, OPERATOR)


def test_bytes_that_are_no_tensors_are_refused_though_signed(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"no tensors")
    sign_anew(folder)

    with pytest.raises(ModelError, match="cannot be read"):
        verify_release(folder, OPERATOR)


def test_reading_the_manifest_alone_does_not_read_the_files(folder: Path) -> None:
    change_weights(folder)

    assert read_release(folder, OPERATOR).name == "rehearsal/1"


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("release"))


@given(data=st.data())
def test_every_byte_of_a_release_is_under_the_signature(
    shared_folder: Path, data: st.DataObject
) -> None:
    names = sorted([*said(shared_folder)["files"], MANIFEST, RULE_STATE])
    path = shared_folder / data.draw(st.sampled_from(names))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    changed = bytearray(before)
    changed[place] ^= bit
    try:
        path.write_bytes(changed)

        with pytest.raises(ModelError):
            verify_release(shared_folder, OPERATOR)
    finally:
        path.write_bytes(before)
