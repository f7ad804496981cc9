"""A release as others load it: PEFT's folder, with what sentence-transformers asks for.

What is exported was verified first; the frozen encoder itself is not in it.
"""

import json
import shutil
import tempfile
from pathlib import Path

from server.operator import open_operator
from server.releases import find
from shared.encoder import Base, load_base
from shared.errors import ConfigError
from shared.release import RULE_STATE, Release

MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
README = """\
# Tacit release {name}

A LoRA adapter for `{base}`, trained by a federation. The encoder itself is not here.

{statement}

## Loading it

With PEFT:

    from peft import PeftModel
    from transformers import AutoModel

    base = AutoModel.from_pretrained("{base}", add_pooling_layer=False)
    model = PeftModel.from_pretrained(base, "THIS-FOLDER").eval()

A text's vector is the mean of its last hidden states over its tokens, at most
{max_tokens}, scaled to length 1. sentence-transformers does so by itself:

    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer("THIS-FOLDER").encode(["a text"])

Without a network, put a folder that holds the encoder in place of its name, here and as
`base_model_name_or_path` in `adapter_config.json`.

## What was signed

`manifest.json` holds the SHA-256 of the adapter's weights and configuration, and the
signature of the operator whose public key is

    {key}

This file, the tokenizer and the settings of sentence-transformers were added when the
release was exported; they are not signed.
"""


def export(folder: Path, name: str, out: Path) -> Release:
    """Copy a verified release to ``out``, whole or not at all; return it.

    Raises:
        ConfigError: If there is none of this name, ``out`` exists, or the operator's
            encoder is not the one that the release adapts.
        ModelError: If the release is damaged or not signed by the operator.
    """
    release = find(folder, name)
    if out.exists():
        raise ConfigError(f"{out} exists already; choose a new folder")
    source = open_operator(folder).settings.base
    base = load_base(source)
    if base.digest != release.spec.base:
        raise ConfigError(
            f"release {name} adapts the encoder {release.spec.base[:16]}..., and base="
            f"{source!r} in server.toml is {base.digest[:16]}...; set the one it adapts"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as aside:
        fresh = Path(aside) / "release"
        ignored = shutil.ignore_patterns(RULE_STATE)
        shutil.copytree(release.folder, fresh, ignore=ignored)
        _add_settings(fresh, release, base)
        fresh.replace(out)
    return release


def _add_settings(folder: Path, release: Release, base: Base) -> None:
    """Add the tokenizer, the settings of sentence-transformers, and the README."""
    base.tokenizer.save_pretrained(str(folder))
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, (path, kind) in enumerate(MODULES)
    ]
    pooling = {
        "word_embedding_dimension": int(base.model.config.hidden_size),
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    limits = {"max_seq_length": release.spec.max_tokens}
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", limits)
    _write(folder / "1_Pooling" / "config.json", pooling)
    text = README.format(
        name=release.name,
        base=base.name,
        statement=release.manifest["privacy"]["statement"],
        max_tokens=release.spec.max_tokens,
        key=release.manifest["key"],
    )
    (folder / "README.md").write_text(text, "utf-8")


def _write(path: Path, said: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(said, indent=2) + "\n", "utf-8")
