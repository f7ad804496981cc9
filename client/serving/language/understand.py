"""Plain language to what a ranking takes: constraints, wishes, and a free meaning.

One pass of the encoder reads a request. A head on it says of each word what it is, the
lists and rules of the language settle the rest, and the words that are left are pooled
to the vector of what they mean. Nothing of a request is kept or logged; a language that
the encoder cannot spell is refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.serving.language.chinese import CHINESE
from client.serving.language.english import ENGLISH
from client.serving.language.grammar import Grammar
from client.serving.language.head import Head, features, word_vectors
from client.serving.language.hints import Hints, hints_of
from client.serving.language.names import Names
from client.serving.language.nearest import Nearest
from client.serving.language.parse import Parts, parse
from client.serving.language.refine import (
    believed,
    distinct,
    refined,
    starts_anew,
    take_back,
)
from client.serving.language.sentences import TEMPLATES
from client.serving.language.spelling import han_share, normal
from client.serving.language.told import sentence
from client.serving.language.training import trained_head
from client.serving.refused import Refused
from client.serving.understood import Understood
from shared.catalogue import Catalogue
from shared.encoder import Reading, TextEncoder
from shared.protocol import Array

CHINESE_SHARE = 0.3  # of a request's words, from which it is a Chinese one
UNSPELT = 0.05  # share of tokens that an encoder may not know of its own language
LOST = 0.34  # share of a request's tokens that it may not know


class Language:
    """Understands requests in plain language over one public catalogue."""

    def __init__(self, catalogue: Catalogue, encoder: TextEncoder, cache: Path) -> None:
        """Read or train the head.

        Args:
            catalogue: Whose values and titles requests may name.
            encoder: What reads requests and items alike.
            cache: A folder that keeps trained heads.
        """
        self._encoder = encoder
        self._grammars = {
            grammar.language: grammar
            for grammar in (ENGLISH, CHINESE)
            if _spells(encoder, grammar)
        }
        self._set_names(catalogue)
        self._head: Head = trained_head(
            self._names,
            catalogue.texts,
            encoder,
            list(self._grammars.values()),
            cache,
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the languages that the encoder can spell."""
        return tuple(self._grammars)

    def with_catalogue(self, catalogue: Catalogue) -> "Language":
        """Return the same understanding over a catalogue with other items.

        Its attributes must have the same names; nothing is trained.
        """
        other = object.__new__(Language)
        other._encoder, other._grammars = self._encoder, self._grammars
        other._head = self._head
        other._set_names(catalogue, self._nearest.known)
        return other

    def understand(
        self, text: str, before: Understood | None = None
    ) -> tuple[Understood, Array]:
        """Return how a request is understood, and what its free words mean.

        Args:
            text: The request.
            before: The last request of the conversation, which this may refine.

        Returns:
            The request in parts, and the vector [width] of its ``meaning``, of length 1
            and not centred: of the whole text if nothing was understood, zeros if all
            of it was.

        Raises:
            Refused: If the encoder cannot spell the request's language; it does
                not repeat the request.
        """
        text = normal(text)
        grammar = self._grammar(text)
        reading = self._encoder.read([text])[0]
        _check_spelt(reading)
        old = before or Understood(language=grammar.language)
        old = believed(old, self._names)
        left, kept = take_back(text, old, self._names, grammar)
        hints = hints_of(left, reading, self._names, grammar)
        parts = self._parts(left, hints, reading, grammar)
        rest = _stretches(hints, parts)
        now = _understood(left, parts, rest, grammar)
        fresh = now.meaning
        if before is not None and not starts_anew(text, now, grammar):
            now = refined(left, kept, now, parts.compared, self._names, grammar)
        else:
            now = replace(now, leanings=(*now.leanings, *parts.compared))
        now = replace(now, sentence=sentence(now, self._names))
        return now, self._meaning(now, fresh, reading, rest)

    def _grammar(self, text: str) -> Grammar:
        language = "zh" if han_share(text) > CHINESE_SHARE else "en"
        if language not in self._grammars:
            raise Refused(
                f"the request's language ({language}) is not one that this site's "
                f"encoder can spell: ask in {' or '.join(self._grammars) or 'none'}"
            )
        return self._grammars[language]

    def _parts(
        self, text: str, hints: Hints, reading: Reading, grammar: Grammar
    ) -> Parts:
        if not hints.words:
            return Parts()
        vectors = word_vectors(reading, hints.words, self._encoder.width)
        chances = self._head.chances(features(vectors, hints.columns(self._names)))
        return parse(text, hints, chances, self._names, grammar, self._nearest)

    def _meaning(
        self,
        understood: Understood,
        fresh: str,
        reading: Reading,
        rest: Sequence[tuple[int, int]],
    ) -> Array:
        """Return the vector of a meaning: the request's own words, pooled in place.

        They find as much as a pass over them alone would. What is left of an earlier
        request needs a pass of its own.
        """
        if not understood.meaning:
            if _has_parts(understood):
                return np.zeros(self._encoder.width, np.float32)
            return self._encoder.meaning(reading)
        if understood.meaning == fresh:
            return self._encoder.meaning(_only(reading, rest))
        return self._encoder.meaning(self._encoder.read([understood.meaning])[0])

    def _set_names(
        self, catalogue: Catalogue, known: dict[str, Array] | None = None
    ) -> None:
        self._names = Names(catalogue)
        self._nearest = Nearest(self._names, self._encoder, known)


def _spells(encoder: TextEncoder, grammar: Grammar) -> bool:
    """Return whether the encoder knows the tokens of a language's own frames."""
    own = TEMPLATES[grammar.language]
    readings = encoder.read(["".join(own.ABOUT[:16]), "".join(own.LESS)])
    unknown = np.concatenate([reading.unknown for reading in readings])
    return float(unknown.mean()) <= UNSPELT


def _check_spelt(reading: Reading) -> None:
    if float(reading.unknown.mean()) > LOST:
        raise Refused(
            "the request is in signs that this site's encoder cannot spell: ask in "
            "another language or script"
        )


def _only(reading: Reading, stretches: Sequence[tuple[int, int]]) -> Reading:
    """Return what was read of some stretches of the text; all, if none was."""
    spans = reading.spans
    inside = np.zeros(len(spans), np.bool_)
    for begin, end in stretches:
        inside |= (spans[:, 0] < end) & (spans[:, 1] > begin)
    if not inside.any():
        return reading
    return Reading(spans[inside], reading.unknown[inside], reading.hidden[inside])


def _stretches(hints: Hints, parts: Parts) -> list[tuple[int, int]]:
    """Return where the words that are left begin and end; small ones between stay."""
    stretches: list[tuple[int, int]] = []
    last = -2
    for at in parts.about:
        begin, end = hints.words[at].begin, hints.words[at].end
        between = range(last + 1, at)
        joined = (
            stretches and len(between) < 3 and not parts.taken.intersection(between)
        )
        if joined:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((begin, end))
        last = at
    return stretches


def _understood(
    text: str, parts: Parts, rest: Sequence[tuple[int, int]], grammar: Grammar
) -> Understood:
    space = "" if grammar.language == "zh" else " "
    return Understood(
        language=grammar.language,
        wanted=distinct(parts.wanted),
        unwanted=distinct(parts.unwanted),
        ranges=tuple(parts.ranges),
        unlike=tuple(dict.fromkeys(parts.unlike)),
        like=tuple(dict.fromkeys(parts.like)),
        leanings=tuple(parts.leanings),
        meaning=space.join(text[begin:end] for begin, end in rest),
    )


def _has_parts(understood: Understood) -> bool:
    return bool(
        understood.wanted
        or understood.unwanted
        or understood.ranges
        or understood.unlike
        or understood.like
        or understood.leanings
    )
