"""A round of a thousand sites with large adapters, and the memory that it takes.

``python -m tests.server.crowd FOLDER RULE`` prints both as JSON: a process of its own,
so that nothing else counts.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import safetensors.numpy
from flwr.app import Message
from flwr.clientapp import ClientApp

from server.aggregate import make_rule
from server.events import Event, RoundReport
from server.registry import Registry
from server.rounds import run
from shared.protocol import RoundPlan
from simulations.grid import LocalGrid
from tests.standin import B, a_plan, an_update, node_configs, packed

SITES = tuple(f"site-{i:03}" for i in range(1000))
SHAPE = (9375, 32)  # 300,000 values
PLAN = replace(a_plan(1, SITES), shapes={B: SHAPE}, max_norm=1e3, deadline_s=600.0)


class Crowd(LocalGrid):
    """Sites that answer when they are asked for it, with noise: none is in memory."""

    def __init__(self, sites: Iterable[str], plan: RoundPlan) -> None:
        super().__init__(ClientApp(), node_configs(*sites))
        self._plan = plan
        self._sent: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = {uuid4().hex: message for message in messages}
        for name, message in sent.items():
            message.metadata.__dict__["_message_id"] = name
        self._sent |= sent
        return list(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._noise(self._sent.pop(name)) for name in message_ids]

    def _noise(self, message: Message) -> Message:
        site = self._names[message.metadata.dst_node_id]
        rng = np.random.default_rng([*site.encode()])
        noise = rng.standard_normal(self._plan.shapes[B], dtype=np.float32)
        update = replace(an_update(self._plan, site), delta={B: noise})
        return Message(packed(update), reply_to=message)


def a_start(folder: Path) -> Path:
    """A PEFT folder whose one tensor is zero."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", "utf-8")
    zeros = {B: np.zeros(SHAPE, np.float32)}
    safetensors.numpy.save_file(zeros, folder / "adapter_model.safetensors")
    return folder


def resident(line: str) -> float:
    """Memory of this process in MB: ``VmRSS`` is now, ``VmHWM`` the most there was."""
    found = dict(
        entry.split(":") for entry in Path("/proc/self/status").read_text().splitlines()
    )
    return int(found[line].split()[0]) * 1024 / 1e6


def main(folder: Path, rule: str) -> None:
    """Carry out the round and say what it took."""
    logging.disable()
    registry = Registry.open(folder / "registry", a_start(folder / "start"))
    grid, reports = Crowd(SITES, PLAN), list[RoundReport]()

    def watch(event: Event) -> None:
        if isinstance(event, RoundReport):
            reports.append(event)

    before, begun = resident("VmRSS"), time.monotonic()
    run([PLAN], grid, make_rule(rule), registry, watch)
    told = {
        "sites": len(reports[0].sites_ok),
        "update_norm": reports[0].update_norm,
        "outliers": len(reports[0].outliers),
        "grown_mb": round(resident("VmHWM") - before, 1),
        "seconds": round(time.monotonic() - begun, 1),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
