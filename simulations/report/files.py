"""What a run leaves in its folder: ``report.json`` and the final adapter."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.durable import replace_file
from simulations.report.schema import NAME

if TYPE_CHECKING:
    from simulations.arms import Trained
    from simulations.stage import Stage


def write(out: Path, made: Mapping[str, Any]) -> None:
    """Write ``report.json`` all or nothing."""
    text = json.dumps(made, indent=2, allow_nan=False) + "\n"
    replace_file(out / NAME, text.encode())


def save_adapter(stage: "Stage", trained: "Mapping[str, Sequence[Trained]]") -> None:
    """Copy the newest global adapter to ``out/adapter`` as a plain PEFT folder."""
    from simulations import arms  # noqa: PLC0415  # torch, only when it is asked
    from simulations.stage import LOCAL, main_arm  # noqa: PLC0415

    main = main_arm(stage.scenario)
    if main is None or main in LOCAL:
        return
    newest = arms.newest_version(trained[main][0], stage.bench.start)
    target = stage.out / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(newest, target)
