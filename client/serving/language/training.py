"""The trained head of one encoder over one catalogue's names, kept in a file.

It is made once, in seconds, by whichever process comes first; the others wait for it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.numpy
from filelock import FileLock
from safetensors import SafetensorError

from client.serving.language.grammar import Grammar
from client.serving.language.head import (
    UNHINTED,
    Head,
    Ints,
    features,
    labels_of,
    train,
    word_vectors,
)
from client.serving.language.hints import hints_of
from client.serving.language.names import Names
from client.serving.language.sentences import TEMPLATES, Composer, Sentence, requests
from client.serving.language.spelling import Word
from shared.durable import replace_file
from shared.encoder import TextEncoder
from shared.protocol import Array

REQUESTS = 2400  # that a head is trained on, of all languages together
SEED = 20260


def trained_head(
    names: Names,
    texts: Sequence[str],
    encoder: TextEncoder,
    grammars: Sequence[Grammar],
    cache: Path,
) -> Head:
    """Return the head for an encoder and a catalogue, trained if need be.

    Args:
        names: Of the catalogue.
        texts: Of its items.
        encoder: Whose activations it reads; the adapter makes no difference.
        grammars: Of the languages that the encoder can spell.
        cache: A folder for this and nothing else.
    """
    cache.mkdir(parents=True, exist_ok=True)
    labels = labels_of([each.name for each in names.attributes])
    path = cache / f"{_key(names, encoder, grammars)}.safetensors"
    with FileLock(cache / "lock"):
        head = _read(path, labels)
        if head is None:
            head = _train(names, texts, encoder, grammars, labels)
            tensors = {"weights": head.weights, "bias": head.bias}
            replace_file(path, safetensors.numpy.save(tensors))
    return head


def _train(
    names: Names,
    texts: Sequence[str],
    encoder: TextEncoder,
    grammars: Sequence[Grammar],
    labels: tuple[str, ...],
) -> Head:
    rng = np.random.default_rng(SEED)
    inputs, targets = list[Array](), list[Ints]()
    for grammar in grammars:
        composer = Composer(names, texts, grammar.language, rng)
        frames = TEMPLATES[grammar.language].FRAMES
        made = requests(composer, frames, REQUESTS // len(grammars), rng)
        for sentence, reading in zip(
            made, encoder.read([each.text for each in made]), strict=True
        ):
            hints = hints_of(sentence.text, reading, names, grammar)
            columns = hints.columns(names)
            if rng.random() < UNHINTED:
                columns = np.zeros_like(columns)
            vectors = word_vectors(reading, hints.words, encoder.width)
            inputs.append(features(vectors, columns))
            targets.append(_targets(sentence, hints.words, labels))
    return train(np.concatenate(inputs), np.concatenate(targets), labels)


def _targets(
    sentence: Sentence, words: Sequence[Word], labels: tuple[str, ...]
) -> Ints:
    """Return the place of each word's label."""
    places = {label: place for place, label in enumerate(labels)}
    targets = np.zeros(len(words), np.int64)
    for named in sentence.named:
        inside = [
            at for at, word in enumerate(words) if named.begin <= word.begin < named.end
        ]
        for number, at in enumerate(inside):
            targets[at] = places[f"{'I' if number else 'B'}-{named.label}"]
    return targets


def _read(path: Path, labels: tuple[str, ...]) -> Head | None:
    """Return the head in a file; None if there is none, or none that is whole."""
    try:
        tensors = safetensors.numpy.load_file(path)
        return Head(labels, tensors["weights"], tensors["bias"])
    except (OSError, SafetensorError, KeyError):
        return None


def _key(names: Names, encoder: TextEncoder, grammars: Sequence[Grammar]) -> str:
    """Return the digest of what a head is made from.

    Items and their values come and go, and a head serves them all: hints tell it what
    is a value. Only another encoder, other attributes or other code need another one.
    """
    code = sorted(Path(__file__).parent.glob("*.py"))
    made_from = [
        asdict(encoder.spec),
        [[each.name, each.role] for each in names.attributes],
        [grammar.language for grammar in grammars],
        [file.read_text("utf-8") for file in code],
    ]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]
