"""A frozen A that reads texts: what the adapter is given is where texts differ most.

A random A hands the adapter random mixtures of what goes into the adapted module. This
one hands it, of every token, the directions along which vectors of texts vary most:
then few values of B say much, and noise is added to few values. The texts are made up
here, by a public seed, of words that goods and works are described by: no user, no
catalogue, no budget.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from shared.protocol import Array

TEXTS = 400
RIDGE = 1e-3  # beside the mean square of what goes in
YEARS = (1930, 2026)
SUBJECTS: Final = """
action adventure animation comedy crime documentary drama family fantasy history
horror love magic memory murder music musical mystery nature politics religion
revolution romance satire school science space spy sport survival technology
thriller tragedy travel trial war wedding western youth alien army bird child city
cowboy detective dog doctor dragon farmer ghost king lawyer monster mother nurse pirate
police queen robot sailor soldier student superhero teacher thief vampire africa
america britain china england europe france germany india ireland italy japan mexico
russia spain island mountain ocean river winter summer cooking dance fashion garden
health hunting fishing camping cycling football baseball swimming painting
photography poetry theatre architecture business law money medicine mathematics
engineering computer software network electronics battery cable camera lamp motor
phone printer radio sensor speaker television bearing bolt drill filter glove glue
hose knife ladder lock mask metal paint paper pipe plastic pump rubber saw scale
screw steel tape tube valve wheel wire wood wool cotton leather glass baby bathroom
bedroom carpet chair cleaning coffee curtain hair jewelry kitchen laundry office
shoe skin soap table tea toy watch wine bread chocolate fruit meat salt spice
"""
FORMS: Final = "album edition film guide kit machine novel series set tool"
KINDS: Final = """
ancient beautiful big black broken classic dark digital electric eternal fast first
golden great heavy hidden last little lost modern new old perfect portable
professional red secret small strange white wild
"""


def made_texts(seed: int) -> list[str]:
    """Return texts like those of a catalogue, drawn by a public seed."""
    rng = np.random.default_rng(seed)
    return [_made_text(rng, number) for number in range(TEXTS)]


def _made_text(rng: np.random.Generator, number: int) -> str:
    """Return a title with a year and subjects, or in turn what sells goods."""
    one, two, three, four = rng.choice(SUBJECTS.split(), 4, replace=False)
    kind, form = rng.choice(KINDS.split()), rng.choice(FORMS.split())
    year = rng.integers(*YEARS)
    if number % 2:
        return f"{kind} {one} ({year}). {two}, {three}, {four}"
    return f"{kind} {one} and {two} {form}"


def varying(means: Tensor, rank: int) -> Tensor:
    """Return the directions [width, rank] in which texts differ most, orthonormal.

    Args:
        means: The mean hidden state of every text, [texts, width].
        rank: How many.
    """
    spread = means.double() - means.double().mean(0)
    directions = torch.linalg.svd(spread, full_matrices=False)[2][:rank].T
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    signed: Tensor = directions * torch.sign(largest)  # a decomposition leaves it open
    return signed


def reading_down(inner: Tensor, hidden: Tensor, directions: Tensor) -> Array:
    """Return A [rank, columns], with ``A x`` of mean square 1 over these tokens.

    Args:
        inner: What goes into the adapted module, x of every token, [tokens, columns].
        hidden: The last hidden state of every token, [tokens, width].
        directions: What to read off, from ``varying``, [width, rank].
    """
    x, h = (t.double() - t.double().mean(0) for t in (inner, hidden))
    aims = h @ directions
    square = x.T @ x
    square += RIDGE * square.trace() / len(square) * torch.eye(len(square)).to(square)
    a = torch.linalg.solve(square, x.T @ aims).T
    a = a / (x @ a.T).square().mean().sqrt()
    return np.asarray(a.cpu().numpy(), np.float32)
