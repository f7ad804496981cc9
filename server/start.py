"""The adapter that a run starts from: an untrained one, or that of an earlier release.

It holds a popularity exactly where the sites of the run share one.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.numpy import load_file, save_file

from server.operator import Operator
from server.releases import find
from shared.config import key_of
from shared.errors import ConfigError
from shared.popularity import SharedItems, encoder_part, shared_part
from shared.protocol import Adapter, AdapterSpec
from shared.release import MANIFEST, RULE_STATE, WEIGHTS, Release
from shared.start import write_start


def start_of(
    operator: Operator, earlier: str, spec: AdapterSpec, shared: SharedItems | None
) -> Path:
    """Return the PEFT folder that round 1 starts from, and write it if need be.

    Args:
        operator: In whose folder it lies.
        earlier: Release to start from, such as ``spring/3``; empty for an untrained
            adapter.
        spec: What the run trains.
        shared: The catalogue whose popularity its sites share; None for no such.

    Raises:
        ConfigError: If there is no such release, or it is of another adapter.
        ModelError: If the release is damaged or not signed by the operator.
    """
    if earlier:
        return _after(operator, find(operator.folder, earlier), spec, shared)
    folder = _place(operator, spec, shared)
    folder.parent.mkdir(exist_ok=True)
    write_start(folder, operator.settings.base, spec, shared)
    return folder.resolve()


def _after(
    operator: Operator, release: Release, spec: AdapterSpec, shared: SharedItems | None
) -> Path:
    """Return the folder of a release, or of a copy with the popularity of this run."""
    if replace(release.spec, max_tokens=spec.max_tokens) != spec:
        raise ConfigError(
            f"start={release.name!r} holds another adapter than [spec] asks for: "
            f"{_differences(release.spec, spec)}; take over its values, or leave "
            "'start' out"
        )
    tensors = load_file(release.folder / WEIGHTS)
    wanted = {**encoder_part(tensors), **_popularity(tensors, shared)}
    if {n: array.shape for n, array in wanted.items()} == {
        n: array.shape for n, array in tensors.items()
    }:
        return release.folder.resolve()
    folder = _place(operator, spec, shared, release.digest)
    if not folder.exists():
        fresh = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        other = shutil.ignore_patterns(WEIGHTS, MANIFEST, RULE_STATE)
        shutil.copytree(release.folder, fresh, ignore=other)
        save_file(wanted, fresh / WEIGHTS, {"format": "pt"})
        fresh.replace(folder)
    return folder.resolve()


def _popularity(tensors: Adapter, shared: SharedItems | None) -> Adapter:
    """Return the popularity to start from: the release's own, if of this catalogue."""
    if shared is None:
        return {}
    known = shared_part(tensors).get(shared.tensor)
    if known is None or known.shape != (shared.items,):
        return shared.flat()
    return {shared.tensor: known}


def _differences(found: AdapterSpec, asked: AdapterSpec) -> str:
    """Return what of an adapter is not what is asked."""
    values = asdict(asked)
    return ", ".join(
        f"{key_of(name)}={value!r}, not {values[name]!r}"
        for name, value in asdict(found).items()
        if value != values[name] and name != "max_tokens"
    )


def _place(
    operator: Operator, spec: AdapterSpec, shared: SharedItems | None, release: str = ""
) -> Path:
    """Return the folder that is for these alone."""
    said = [asdict(spec), shared and asdict(shared), release]
    line = json.dumps(said, sort_keys=True)
    return operator.starts / hashlib.sha256(line.encode()).hexdigest()[:16]
