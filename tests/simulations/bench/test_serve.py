"""The real command is loaded and measured, and what it serves is what is best."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from shared.errors import TacitError
from simulations.bench.cli import app
from simulations.bench.serve import Case, measure
from simulations.bench.served import Served, served
from simulations.bench.synthetic import Synthetic, synthetic


def small(folder: Path, seed: int = 3) -> Synthetic:
    rng = np.random.default_rng(seed)
    return synthetic(folder, items=300, users=40, base="tiny", rng=rng)


def test_a_load_in_which_requests_failed_gives_no_figures(tmp_path: Path) -> None:
    nobody = Served(9, {}, 0.0, psutil.Process())

    with pytest.raises(TacitError, match=r"no answer\): \{0: "):
        measure(Case(300, 40, "user"), small(tmp_path), nobody, seconds=0.1, seed=1)


def test_a_case_that_is_unknown_is_refused() -> None:
    result = CliRunner().invoke(app, ["serve", "--only", "user_1m"])

    assert "the cases are user_10k, query_10k, user_100k" in str(result.exception)


@pytest.mark.slow
def test_a_small_site_is_measured_by_user_and_by_query(tmp_path: Path) -> None:
    site = small(tmp_path)

    with served(site.folder, site.release, tmp_path / "log") as server:
        made = {
            by: measure(Case(300, 40, by), site, server, seconds=0.7, seed=1)
            for by in ("user", "query")
        }

    for figures in made.values():
        assert json.loads(json.dumps(figures)) == figures
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["rps"] > 0
        assert figures["recall@10"] > 0.99
        for load in ("one_at_a_time", "saturated", "half_load_at_random"):
            assert figures[load]["requests"] > 0


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    site = small(tmp_path)
    (site.folder / "serving.toml").write_text("explore = 7\n", "utf-8")

    with (
        pytest.raises(TacitError, match=r"explore=7.* is not"),
        served(site.folder, site.release, tmp_path / "log"),
    ):
        pass
