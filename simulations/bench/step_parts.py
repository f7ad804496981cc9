"""Where the time of a training step goes, by wrapping its parts from outside.

Each part is timed without the parts that it calls, so that all of them add up to the
step. On a card work only begins where it is asked for, so there is no such profile.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from client import gradients, train
from client.model import HybridModel
from client.train import UserOptimizer
from shared.encoder import TextEncoder
from simulations.bench.round import Stopwatch

PARTS: tuple[tuple[str, Any, str], ...] = (  # what is timed, and who calls it by what
    ("users drawn", train, "poisson_draw"),
    ("batch drawn", gradients, "draw_batch"),
    ("catalogue: texts under the adapter", TextEncoder, "passed"),
    ("catalogue: rows of items", HybridModel, "encoded"),
    ("softmax, negatives drawn", HybridModel, "_softmax"),
    ("loss", HybridModel, "losses"),
    ("loss: gradient of rows", gradients, "grad"),
    ("equal items of a user merged", gradients, "_merged"),
    ("gradient through centre and length", HybridModel, "through_centre"),
    ("gradient of B by user", gradients, "_of_adapter"),
    ("clip and sum", UserOptimizer, "add_users"),
    ("noise", UserOptimizer, "add_noise"),
    ("optimiser", UserOptimizer, "finish"),
)
REST = "all else"


def parts_ms(train_round: Callable[[], object], steps: int) -> dict[str, float]:
    """Return the milliseconds of each part in a step, the longest first.

    Args:
        train_round: Trains a round; run once before, to warm up.
        steps: Of that round.
    """
    train_round()
    watch = Stopwatch()
    with ExitStack() as timed:
        for part in PARTS:
            timed.enter_context(watch.on(*part))
        watch.lap()
        train_round()
        lap = watch.lap()
    took: dict[str, float] = {name: lap.parts[name] for name, _, _ in PARTS}
    took[REST] = lap.seconds - sum(took.values())
    ordered = sorted(took.items(), key=lambda one: -one[1])
    return {name: round(1000 * part_s / steps, 3) for name, part_s in ordered}
