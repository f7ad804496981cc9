"""A site keeps a release only if it believes it, whole or not at all."""

import json
import stat
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from peft import PeftModel

import client.releases
from client.releases import current, receive, rollback
from client.site import Site
from server.operator import Operator
from server.releases import InForce, find, set_current
from server.releases import rollback as put_in_force
from shared.durable import replace_file
from shared.encoder import load_base, open_encoder
from shared.errors import ConfigError, ModelError
from shared.invitation import to_text
from shared.pointer import Pointer, point
from shared.popularity import items_of
from shared.protocol import AdapterSpec
from shared.release import (
    MANIFEST,
    WEIGHTS,
    Release,
    file_digests,
    seal_manifest,
    verify_release,
)
from shared.signing import public_key
from tests.factories import tiny_plan, tiny_spec, write_site
from tests.server.premises import an_operator, publish
from tests.shared.papers import an_invitation


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """A run of three rounds; what is in force is for the tests to sign."""
    made = an_operator(tmp_path_factory.mktemp("operator") / "operator")
    publish(made, "spring", 3)
    return made


def invited(folder: Path, operator: Operator) -> Site:
    """A site that holds the operator's invitation."""
    site = write_site(folder)
    key = operator.signing_key()
    text = to_text(an_invitation(operator=public_key(key)), key)
    (folder / "join.toml").write_text(text, "utf-8")
    return site


@pytest.fixture
def site(tmp_path: Path, operator: Operator) -> Site:
    return invited(tmp_path / "site", operator)


def signed(operator: Operator, release: Release, number: int) -> Pointer:
    return point(release, number, "2026-01-02T03:04:05+00:00", operator.signing_key())


def send(site: Site, operator: Operator, name: str, number: int) -> Path:
    """Let the site receive a release as the operator's pointer of that number."""
    release = find(operator.folder, name)
    return receive(site, signed(operator, release, number).to_json(), release.files())


def in_force(site: Site) -> str:
    """Name of the folder of the release in force at the site."""
    folder = current(site)
    return folder.name if folder else ""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_site_has_no_release_at_first(site: Site) -> None:
    assert current(site) is None


def test_a_release_is_kept_as_it_was_signed_and_comes_into_force(
    site: Site, operator: Operator
) -> None:
    folder = send(site, operator, "spring/3", 1)

    assert folder == site.folder / "releases" / "spring-3"
    assert current(site) == folder
    assert snapshot(folder) == find(operator.folder, "spring/3").files()
    assert verify_release(folder, operator.public_key()).name == "spring/3"
    mode = stat.S_IMODE((site.folder / "releases").stat().st_mode)
    assert mode == 0o700
    assert {path.name for path in (site.folder / "releases").iterdir()} == {
        "current.json",
        "spring-3",
    }


def test_what_is_kept_is_a_peft_folder(site: Site, operator: Operator) -> None:
    folder = send(site, operator, "spring/3", 1)

    loaded = PeftModel.from_pretrained(load_base("tiny").model, str(folder))

    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    state = {name: np.asarray(value) for name, value in loaded.state_dict().items()}
    for name, array in tensors.items():
        inside = name.replace(".weight", ".default.weight")
        np.testing.assert_array_equal(state[inside], array)


def test_the_same_release_may_come_again(site: Site, operator: Operator) -> None:
    folder = send(site, operator, "spring/3", 1)
    inode = (folder / WEIGHTS).stat().st_ino

    send(site, operator, "spring/3", 1)

    assert (folder / WEIGHTS).stat().st_ino == inode
    assert in_force(site) == "spring-3"


def test_a_release_that_was_damaged_here_is_made_whole_when_it_comes_again(
    site: Site, operator: Operator
) -> None:
    folder = send(site, operator, "spring/3", 1)
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelError, match="damaged"):
        current(site)

    send(site, operator, "spring/3", 1)

    assert current(site) == folder


def test_an_older_pointer_takes_nobody_back(site: Site, operator: Operator) -> None:
    send(site, operator, "spring/3", 5)

    for number in (4, 5):
        with pytest.raises(
            ModelError, match=f"pointer {number} to spring/2 is not new"
        ):
            send(site, operator, "spring/2", number)

    assert in_force(site) == "spring-3"


def test_the_operator_goes_back_by_a_newer_pointer(
    site: Site, operator: Operator
) -> None:
    send(site, operator, "spring/3", 5)

    send(site, operator, "spring/2", 6)

    assert in_force(site) == "spring-2"
    assert (site.folder / "releases" / "spring-3").is_dir()


def test_a_site_goes_back_by_itself_until_a_newer_pointer_comes(
    site: Site, operator: Operator
) -> None:
    send(site, operator, "spring/1", 1)
    send(site, operator, "spring/2", 2)

    rollback(site, "spring/1")

    assert in_force(site) == "spring-1"
    send(site, operator, "spring/2", 2)  # the same pointer, delivered once more
    assert in_force(site) == "spring-1"
    with pytest.raises(ModelError, match="is not newer than 2"):
        send(site, operator, "spring/3", 1)
    send(site, operator, "spring/3", 3)
    assert in_force(site) == "spring-3"


@pytest.mark.parametrize("name", ["spring/2", "winter/1"])
def test_a_site_goes_back_only_to_what_it_has(
    site: Site, operator: Operator, name: str
) -> None:
    with pytest.raises(ConfigError, match="it has none"):
        rollback(site, name)
    send(site, operator, "spring/1", 1)

    with pytest.raises(
        ConfigError, match=f"{name} is not at this site; it has spring/1"
    ):
        rollback(site, name)

    assert in_force(site) == "spring-1"


def test_a_site_without_an_invitation_believes_nobody(
    tmp_path: Path, operator: Operator
) -> None:
    """As in a simulation."""
    site = write_site(tmp_path / "site")

    with pytest.raises(ConfigError, match=r"join\.toml is missing"):
        send(site, operator, "spring/3", 1)

    assert not (site.folder / "releases").exists()


def test_another_operators_releases_are_refused(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    stranger = an_operator(tmp_path / "stranger")
    publish(stranger, "spring", 1)
    send(site, operator, "spring/3", 1)

    with pytest.raises(ModelError, match="not signed by the operator's key"):
        send(site, stranger, "spring/1", 9)

    assert in_force(site) == "spring-3"


def test_a_new_invitation_with_a_new_key_begins_to_count_anew(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    send(site, operator, "spring/3", 5)
    renewed = an_operator(tmp_path / "renewed")
    publish(renewed, "autumn", 1)
    invited(site.folder, renewed)
    assert in_force(site) == "spring-3"

    send(site, renewed, "autumn/1", 1)

    assert in_force(site) == "autumn-1"


@pytest.mark.parametrize(
    "change",
    [
        {WEIGHTS: b"other"},
        {"adapter_config.json": b"{}"},
        {"adapter_config.json": None},
        {"code.py": b"import os"},
        {MANIFEST: None},
    ],
    ids=str,
)
def test_whatever_is_wrong_the_release_in_force_stays_so(
    site: Site,
    operator: Operator,
    change: dict[str, bytes | None],
) -> None:
    send(site, operator, "spring/2", 1)
    before = snapshot(site.folder)
    release = find(operator.folder, "spring/3")
    sent = {**release.files(), **change}
    files = {name: content for name, content in sent.items() if content is not None}

    with pytest.raises(ModelError):
        receive(site, signed(operator, release, 2).to_json(), files)

    assert snapshot(site.folder) == before
    assert in_force(site) == "spring-2"


def test_a_pointer_puts_only_the_release_that_it_names_in_force(
    site: Site, operator: Operator
) -> None:
    asked, sent = (find(operator.folder, f"spring/{number}") for number in (3, 2))

    with pytest.raises(ModelError, match=r"spring/2 is not the one .* spring/3"):
        receive(site, signed(operator, asked, 1).to_json(), sent.files())

    assert current(site) is None


def anew(operator: Operator, folder: Path, spec: AdapterSpec) -> Release:
    """Sign what lies in ``folder``: what an operator gone mad might do."""
    said = json.loads((folder / MANIFEST).read_text("utf-8"))
    kept = {k: v for k, v in said.items() if k not in {"key", "digest", "signature"}}
    whole = {**kept, "files": file_digests(folder)}
    whole |= {"base": spec.base, "spec": {k: getattr(spec, k) for k in said["spec"]}}
    manifest = seal_manifest(whole, operator.signing_key())
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return verify_release(folder, operator.public_key())


def copy_of(operator: Operator, folder: Path) -> Path:
    for name, content in find(operator.folder, "spring/3").files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_another_encoder_is_refused_though_signed(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    folder = copy_of(operator, tmp_path / "other")
    release = anew(operator, folder, tiny_spec(base="1" * 64))

    with pytest.raises(ModelError, match="every site must load the same encoder"):
        receive(site, signed(operator, release, 1).to_json(), release.files())


@pytest.mark.parametrize(
    ("shared", "folder"),
    [
        ({items_of(["a", "b", "c"]).tensor: (3,)}, "spring-1"),
        ({items_of(["a", "b"]).tensor: (2,), items_of(["b", "a"]).tensor: (2,)}, ""),
        ({items_of(["a", "b"]).tensor: (1, 2)}, ""),
    ],
)
def test_a_release_may_hold_one_shared_popularity_and_nothing_else_beside_the_adapter(
    tmp_path: Path, shared: dict[str, tuple[int, ...]], folder: str
) -> None:
    operator, plan = an_operator(tmp_path / "operator"), tiny_plan()
    publish(operator, "spring", 1, plan=replace(plan, shapes={**plan.shapes, **shared}))
    site = invited(tmp_path / "site", operator)

    refused = pytest.raises(ModelError, match="not hold the tensors")
    with nullcontext() if folder else refused:
        send(site, operator, "spring/1", 1)

    assert in_force(site) == folder


def test_another_rank_than_its_tensors_have_is_refused_though_signed(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    folder = copy_of(operator, tmp_path / "other")
    release = anew(operator, folder, tiny_spec(rank=8))

    with pytest.raises(ModelError, match="not hold the tensors that output of rank 8"):
        receive(site, signed(operator, release, 1).to_json(), release.files())


def test_a_frozen_part_that_is_not_the_agreed_one_is_refused_though_signed(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    folder = copy_of(operator, tmp_path / "other")
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    moved = {n: a + 1 if ".lora_A." in n else a for n, a in tensors.items()}
    safetensors.numpy.save_file(moved, folder / WEIGHTS)
    release = anew(operator, folder, tiny_spec())

    with pytest.raises(ModelError, match="does not hold the tensors"):
        receive(site, signed(operator, release, 1).to_json(), release.files())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lora_alpha": 99}, "lora_alpha in adapter_config.json differ"),
        ({"auto_mapping": {"parent_library": "evil"}}, "auto_mapping"),
        ({"target_modules": ["encoder.layer.0.output.dense"]}, "target_modules"),
    ],
)
def test_another_configuration_than_the_spec_gives_is_refused_though_signed(
    site: Site,
    operator: Operator,
    tmp_path: Path,
    change: dict[str, object],
    told: str,
) -> None:
    folder = copy_of(operator, tmp_path / "other")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    release = anew(operator, folder, tiny_spec())

    with pytest.raises(ModelError, match=told):
        receive(site, signed(operator, release, 1).to_json(), release.files())


def test_a_disk_that_is_full_keeps_the_release_in_force(
    site: Site, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(site, operator, "spring/2", 1)
    before = snapshot(site.folder)

    def full(path: Path, content: bytes) -> None:
        if path.name == WEIGHTS:
            raise OSError(28, "No space left on device")
        replace_file(path, content)

    monkeypatch.setattr(client.releases, "replace_file", full)
    with pytest.raises(OSError, match="No space"):
        send(site, operator, "spring/3", 2)

    assert snapshot(site.folder) == before


def test_a_crash_before_the_switch_leaves_the_old_one_in_force(
    site: Site, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(site, operator, "spring/2", 1)

    def crash(path: Path, content: bytes) -> None:
        if path.name == "current.json":
            raise KeyboardInterrupt
        replace_file(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(client.releases, "replace_file", crash)
        with pytest.raises(KeyboardInterrupt):
            send(site, operator, "spring/3", 2)

    assert in_force(site) == "spring-2"
    send(site, operator, "spring/3", 2)
    assert in_force(site) == "spring-3"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"release": "spring/3"}', '{"release": 3, "newest": ""}'],
)
def test_a_damaged_current_is_not_taken_for_none(
    site: Site, operator: Operator, content: str
) -> None:
    """Or an old pointer could come again."""
    send(site, operator, "spring/3", 5)
    (site.folder / "releases" / "current.json").write_text(content, "utf-8")

    with pytest.raises(ConfigError, match="cannot be read"):
        current(site)
    with pytest.raises(ConfigError, match="cannot be read"):
        send(site, operator, "spring/2", 1)


def test_the_encoder_of_a_round_is_not_disturbed(
    site: Site, operator: Operator
) -> None:
    encoder = open_encoder("tiny", tiny_plan().spec, "cpu")
    before = encoder.encode(["a night train"])

    send(site, operator, "spring/3", 1)

    np.testing.assert_array_equal(encoder.encode(["a night train"]), before)


def test_what_the_operator_puts_in_force_is_what_the_site_keeps(
    site: Site, tmp_path: Path
) -> None:
    """The operator's own pointers, in the order of a federation's life."""
    made = an_operator(tmp_path / "operator")
    invited(site.folder, made)
    publish(made, "spring", 2)
    done: list[InForce | None] = [set_current(made.folder, "spring")]
    publish(made, "autumn", 1)
    done += [set_current(made.folder, "autumn"), put_in_force(made.folder, "spring/1")]

    kept = []
    for one in done:
        assert one is not None
        receive(site, one.pointer.to_json(), one.release.files())
        kept.append(in_force(site))

    assert kept == ["spring-2", "autumn-1", "spring-1"]
