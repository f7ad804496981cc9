"""A run's figures as event files for TensorBoard; refused without its package.

The package is an extra (``pip install "tacit[tensorboard]"``): no other room needs it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import ConfigError

REMEDY = 'pip install "tacit[tensorboard]"'
PARTS = ("mean", "low", "high")


def export(made: Mapping[str, Any], folder: Path) -> int:
    """Write every scalar of a run's report below ``folder``; return how many.

    Each arm is a run of TensorBoard's own, so that arms lie over each other. An arm
    that promises nothing has the words NOT-PRIVATE in its name.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigError(
            f"--tensorboard {folder} needs the package tensorboard: {REMEDY}"
        ) from None
    count = 0
    for arm, figures in made["metrics"].items():
        name = f"{arm}-NOT-PRIVATE" if figures.get("label") else arm
        with SummaryWriter(str(folder / name)) as writer:
            for tag, value, step in scalars(made, arm):
                writer.add_scalar(tag, value, step)
                count += 1
    return count


def scalars(made: Mapping[str, Any], arm: str) -> Iterator[tuple[str, float, int]]:
    """Yield (tag, value, step) of an arm: curves by round, all else at step 0."""
    figures = made["metrics"][arm]
    for at in figures.get("curve", ()):
        yield "validation/ndcg@10", at["ndcg@10"], at["round"]
    for row in made["rounds"]:
        if row["arm"] == arm:
            yield "round/seconds", row["seconds"], row["round"]
            yield "round/update_norm", row["update_norm"], row["round"]
            yield "round/sites", len(row["sites_ok"]), row["round"]
            yield "round/bytes_up", sum(row["bytes_up"].values()), row["round"]
    for name, figure in figures.items():
        if isinstance(figure, Mapping) and figure.keys() >= {*PARTS}:
            for part in PARTS:
                yield f"test/{name}/{part}", figure[part], 0
    if figures["epsilon"] is not None:
        yield "privacy/epsilon", figures["epsilon"], 0
