"""Event files: every figure of a run, as TensorBoard reads it."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.errors import ConfigError
from simulations.report.compare_cli import app
from simulations.report.tensorboard import export, scalars
from tests.simulations.report.examples import a_run


def test_an_arm_has_its_curve_its_rounds_its_figures_and_its_epsilon() -> None:
    made = a_run()
    told = {(tag, step): value for tag, value, step in scalars(made, "federated")}

    figures = made["metrics"]["federated"]
    assert told["validation/ndcg@10", 3] == figures["curve"][2]["ndcg@10"]
    assert told["round/seconds", 5] == 2.5
    assert told["round/bytes_up", 1] == 3 * 5_600
    assert told["test/ndcg@10/low", 0] == figures["ndcg@10"]["low"]
    assert told["privacy/epsilon", 0] == figures["epsilon"]


def test_an_arm_that_promises_nothing_has_no_epsilon() -> None:
    tags = {tag for tag, _, _ in scalars(a_run(), "popularity")}

    assert "privacy/epsilon" not in tags


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    name = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(name)
    made, run, out = a_run(), tmp_path / "run", tmp_path / "board"
    run.mkdir()
    (run / "report.json").write_text(json.dumps(made), "utf-8")
    done = CliRunner().invoke(app, [str(run), "--tensorboard", str(out)])

    assert done.exit_code == 0
    assert {path.name for path in (out / "run").iterdir()} == {
        f"{arm}-NOT-PRIVATE" if "label" in figures else arm
        for arm, figures in made["metrics"].items()
    }
    events = reader.EventAccumulator(str(out / "run" / "federated"))
    events.Reload()
    curve = [(e.step, e.value) for e in events.Scalars("validation/ndcg@10")]
    assert curve == [
        (at["round"], pytest.approx(at["ndcg@10"]))
        for at in made["metrics"]["federated"]["curve"]
    ]


@pytest.mark.slow
def test_without_the_package_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ConfigError, match=r"pip install .tacit\[tensorboard\]"):
        export(a_run(), tmp_path)
