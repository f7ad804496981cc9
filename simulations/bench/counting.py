"""What a step of training has to compute and to move, counted from its own inputs.

Real tokens alone count: no padding, nothing that a way of computing adds, and nothing
between the products (LayerNorm, softmax, the loss). A share made of these says how near
a step is to what it must do, not how busy it keeps the machine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from torch import Tensor

from client import gradients
from client.model import HybridModel
from shared.encoder import TextEncoder
from simulations.bench.limits import seconds

FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Texts that a step had to read.

    Attributes:
        lengths: Tokens of each.
        users: Whose gradients were taken on them; 0 in a pass over the catalogue.
    """

    lengths: Tensor
    users: int = 0


Count = Callable[[Reading], float]  # what it takes, in operations or in bytes


@dataclass(slots=True)
class Work:
    """What the adapter had to do, how long it took, and all that was run with it."""

    amount: float = 0.0
    took_s: float = 0.0
    step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputOnly:
    """Bytes that the default adapter must move.

    Attributes:
        row_bytes: Stored activations of a token.
        width: Of a vector.
        rank: Of LoRA.
    """

    row_bytes: int
    width: int
    rank: int

    def __call__(self, read: Reading) -> float:
        """Return the bytes: activations of each token read once, results written.

        A pass leaves every text's sums [width + r] and every token's mean and scale;
        gradients are one B for each user.
        """
        tokens = int(read.lengths.sum())
        if read.users:
            made = read.users * self.width * self.rank
        else:
            made = len(read.lengths) * (self.width + self.rank) + 2 * tokens
        return float(tokens * self.row_bytes + FLOAT * made)


@dataclass(frozen=True, slots=True)
class OutputProducts:
    """Operations of the default adapter: its products with B, and those that make B's.

    Attributes:
        width: Of a vector, d.
        rank: Of LoRA, r.
    """

    width: int
    rank: int

    def __call__(self, read: Reading) -> float:
        """Return the operations.

        Of a token in a pass, B' f and (B' B) a; in gradients, u a' of [d, r] and a a'.
        Of a text, B times its low sum; in gradients, h a' of its sums and B' h.
        """
        wide, low = self.width * self.rank, self.rank**2
        texts = len(read.lengths) * (2 if read.users else 1)
        return 2.0 * (int(read.lengths.sum()) * (wide + low) + texts * wide)


@dataclass(frozen=True, slots=True)
class LastLayer:
    """Operations of an adapter on the dense modules of the last layer, B trained.

    Attributes:
        width: Of the hidden states, d.
        inner: Between the two last modules, f.
        rank: Of LoRA, r.
    """

    width: int
    inner: int
    rank: int

    def __call__(self, read: Reading) -> float:
        """Return the operations: forward, and backward where gradients are taken."""
        forward = self.forward(read.lengths)
        return forward + self.backward(read.lengths) if read.users else forward

    def forward(self, lengths: Tensor) -> float:
        """Return the operations of one pass over texts of these lengths.

        Of T tokens: four products with [d, d] and two with [d, f]; A and B of three
        modules. Of each text of t tokens: its attention's scores and their use, two
        products of t x d x t.
        """
        frozen = 4 * self.width**2 + 2 * self.width * self.inner
        lora = self.rank * 2 * (2 * self.width + self.inner)
        attention = 2 * self.width * int(lengths.square().sum())
        return 2.0 * (int(lengths.sum()) * (frozen + lora) + attention)

    def backward(self, lengths: Tensor) -> float:
        """Return the operations of gradients on the last hidden states.

        Of T tokens: back through the two last modules, with A and B of each, and no
        further; and the gradient of three B.
        """
        both = self.width + self.inner
        through = 2 * (self.width * self.inner + self.rank * both)
        gradient = self.rank * (both + self.width)
        return 2.0 * int(lengths.sum()) * (through + gradient)


@contextmanager
def watched(model: HybridModel, count: Count, device: str) -> Iterator[Work]:
    """Count and time the adapter's work inside: its passes, and users' gradients."""
    work, lengths = Work(), model.activations.lengths

    def of_pass(*_given: Any) -> Reading:
        return Reading(lengths)

    def of_users(_model: Any, _encoded: Any, texts: Tensor, pulls: Tensor) -> Reading:
        return Reading(lengths[texts[(pulls != 0).any(2)]], len(texts))

    def watching(owner: Any, name: str, read: Callable[..., Reading]) -> Any:
        original = vars(owner)[name]

        @wraps(original)
        def timed(*given: Any) -> Any:
            made: list[Any] = []
            work.took_s += seconds(lambda: made.append(original(*given)), device)
            work.amount += count(read(*given))
            return made[0]

        setattr(owner, name, timed)
        return original

    passed = watching(TextEncoder, "passed", of_pass)
    of_adapter = watching(gradients, "_of_adapter", of_users)
    try:
        yield work
    finally:
        TextEncoder.passed = passed  # type: ignore[method-assign]  # as it was
        gradients._of_adapter = of_adapter  # noqa: SLF001  # the same
