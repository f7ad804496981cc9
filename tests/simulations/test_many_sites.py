"""A thousand sites in one round: what the process of the server takes for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITES, GROWTH_MIB = 1000, 200
WIDE_APP = """
from tests import standin

standin.SHAPE = (384, 32)  # of the adapter of MiniLM
app = standin.a_client()
"""
PROGRAM = """
import json, sys
from pathlib import Path

from server.app import federate
from server.events import RoundReport
from server.settings import Federation, Settings
from shared.protocol import AdapterSpec, Mechanism, Recipe
from simulations.crew import Crew
from simulations.crew_grid import CrewGrid
from simulations.footprint import Watched
from simulations.scenario import site_names
from tests import standin

import wide_app  # from now on adapters are wide

folder, sites = Path(sys.argv[1]), site_names(int(sys.argv[2]))
settings = Settings(
    federation=Federation(
        run="many", out=str(folder), start=str(folder / "start"), rounds=1,
        sites=",".join(sites), deadline_s=300.0, max_norm=1000.0,
    ),
    spec=AdapterSpec(base="0" * 64), mechanism=Mechanism(), recipe=Recipe(),
)
standin.write_start(folder / "start")
told = []
with Crew(2) as crew:
    nodes = {name: {"site": name} for name in sites}
    grid = CrewGrid(crew, nodes, app="wide_app:app")
    with Watched() as memory:
        federate(grid, settings, told.append)
(done,) = (event for event in told if isinstance(event, RoundReport))
grown = memory.kinds["own"] - memory.before["own"]
print(json.dumps({"sites": len(done.sites_ok), "grown": grown}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_the_server_grows_by_less_than_200_mib_with_a_thousand_sites(
    tmp_path: Path,
) -> None:
    (tmp_path / "wide_app.py").write_text(WIDE_APP, "utf-8")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(SITES)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["sites"] == SITES
    assert found["grown"] < GROWTH_MIB
