"""How far a "no" reaches: what in a request is refused, and what comes after.

"No horror, war or westerns from the nineties" refuses three genres and no decade. The
rules are small and written down, since what is refused is hard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from client.serving.language.grammar import Grammar
from client.serving.language.spelling import Word

FURTHEST = 9  # words that one "no" reaches
BOUND = "bound"  # the group of bounds on numbers


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words that was understood as one thing.

    Attributes:
        begin, end: Places of its first word and after its last.
        group: What a list of its like is told by, such as its attribute.
    """

    begin: int
    end: int
    group: str


def refused(
    text: str, words: Sequence[Word], pieces: Sequence[Piece], grammar: Grammar
) -> list[bool]:
    """Return which words a "no" reaches.

    Args:
        text: The request.
        words: Its words.
        pieces: What is understood already, apart from each other.
        grammar: Of its language.
    """
    inside = {at: piece for piece in pieces for at in range(piece.begin, piece.end)}
    request = _Request(text, words, inside, grammar)
    spared = [found.span() for found in grammar.not_no.finditer(text)]
    reached = [False] * len(words)
    for no in grammar.no.finditer(text):
        if any(begin <= no.start() < end for begin, end in spared):
            continue
        own = [at for at, word in enumerate(words) if word.begin >= no.start()]
        after = [at for at in own if words[at].begin >= no.end()]
        if after and own[0] not in inside:
            for at in range(after[0], request.reach(after[0])):
                reached[at] = True
    return reached


@dataclass(frozen=True, slots=True)
class _Request:
    """A request whose pieces are known by the places of their words."""

    text: str
    words: Sequence[Word]
    inside: dict[int, Piece]
    grammar: Grammar

    def reach(self, start: int) -> int:
        """Return the place after the last word that a "no" before ``start`` reaches."""
        last: str | None = None  # the group of what is refused last; "" for plain words
        at = start
        while at < min(len(self.words), start + FURTHEST):
            if self._breaks(at, start) or (last is not None and self._turns(at, last)):
                return at
            piece = self.inside.get(at)
            if piece is not None:
                at, last = piece.end, piece.group
                continue
            if not self._says_nothing(at):
                last = ""
            at += 1
        return at

    def _breaks(self, at: int, start: int) -> bool:
        """Return whether a mark or a word ends any refusal here."""
        if self._said(at) in self.grammar.ends:
            return True
        if at == start:
            return False
        mark = self.text[self.words[at - 1].end : self.words[at].begin]
        parted = self.grammar.lists.search(mark) and not self._listed(at)
        return bool(self.grammar.breaks.search(mark) or parted)

    def _turns(self, at: int, last: str) -> bool:
        """Return whether a request turns to something else, once it refused."""
        piece, said = self.inside.get(at), self._said(at)
        if piece is not None:
            return piece.group == BOUND
        if said in self.grammar.joins[1]:
            return not self._alike(at + 1, last)
        return said in self.grammar.turns

    def _listed(self, at: int) -> bool:
        """Return whether names from here on are a list that ends in "or"."""
        while at < len(self.words):
            if self._said(at) in self.grammar.joins[0]:
                return True
            if at not in self.inside:
                return False
            at = self.inside[at].end
        return False

    def _alike(self, at: int, last: str) -> bool:
        """Return whether what comes after an "and" is refused too."""
        if at >= len(self.words):
            return False
        following = self.inside.get(at)
        if following is not None or last:
            return following is not None and following.group == last
        return not (self._says_nothing(at) or self._said(at) in self.grammar.ends)

    def _says_nothing(self, at: int) -> bool:
        grammar, said = self.grammar, self._said(at)
        small = (grammar.turns, *grammar.joins)
        return self.words[at].key in grammar.filler or any(said in s for s in small)

    def _said(self, at: int) -> str:
        return self.words[at].text.casefold()
