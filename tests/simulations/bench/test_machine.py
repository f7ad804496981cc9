"""A figure of speed comes with what it was measured on."""

import json
import os

from simulations.bench.machine import FLAGS, busy, machine


def test_the_facts_of_the_machine_can_be_read_by_another_program() -> None:
    said = json.loads(json.dumps(machine()))

    assert said["cpu"]
    assert said["cores"] == os.cpu_count()
    assert set(said["flags"]) <= set(FLAGS)
    assert said["libraries"]["numpy"]
    assert len(said["load_average"]) == len(busy()) == 3
