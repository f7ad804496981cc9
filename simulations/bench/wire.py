"""How many bytes a site and its server exchange, counted on a wire between real ones.

A round's bytes are all that passed from the end of the round before to its own end,
heartbeats and questions for work among them; what these are without a run is told
beside. The full model is packed, and never sent.
"""

import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from shared.encoder import base_digest, load_base
from shared.protocol import AdapterSpec, Mechanism, Recipe, RoundPlan
from shared.wire import pack_plan, size
from simulations.bench.deployed import SITE, Deployed, Told, deployed

LIMIT, LIMIT_COMPRESSED, LEAST_TIMES = 55_000, 15_000, 600
PLAIN, COMPRESSED = "float32", "int8"
IDLE_S, ROUNDS, STEPS = 20.0, 5, 2


def measure(
    base: str = "minilm", rounds: int = ROUNDS, idle_s: float = IDLE_S
) -> dict[str, Any]:
    """Return the figures of one site's rounds, in bytes.

    ``bytes_up`` and ``bytes_up_compressed`` are of Flower's message with its envelope,
    as server and site serialise it; ``tcp_up`` counts everything that a site sent in a
    round, with every request's headers and polls for work. All are medians over the
    rounds after the first of each run; the first is told apart, for the code comes
    with it.

    Args:
        base: Encoder.
        rounds: Of each run, at least 2.
        idle_s: For how long to count while there is no run.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder,
        deployed(Path(folder), base) as both,
    ):
        begin = time.time()
        time.sleep(idle_s)
        idle = both.counter.between(begin, time.time())
        runs = {wire: _rounds(both, wire, rounds) for wire in (PLAIN, COMPRESSED)}
    whole, parameters = full_model(base)
    up, compressed = (runs[wire]["message_up"] for wire in (PLAIN, COMPRESSED))
    return {
        "bytes_up": up,
        "bytes_up_compressed": compressed,
        "bytes_full_model": whole,
        "tcp_up": runs[PLAIN]["up"],
        "tcp_up_compressed": runs[COMPRESSED]["up"],
        "times_below_full_model": round(whole / up, 1),
        "times_below_full_model_compressed": round(whole / compressed, 1),
        "limits": {
            "bytes_up": LIMIT,
            "bytes_up_compressed": LIMIT_COMPRESSED,
            "times_below_full_model": LEAST_TIMES,
        },
        **runs,
        "idle": {
            "up_per_minute": round(idle.up * 60 / idle_s),
            "down_per_minute": round(idle.down * 60 / idle_s),
            "seconds": idle_s,
        },
        "counted": f"TCP payload between the site and {both.door}, TLS and HTTP in it",
        "full_model": "packed as an adapter is, not sent",
        "parameters": parameters,
        "rounds": rounds,
        "base": base,
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """Return the figures in words."""
    limits, idle = figures["limits"], figures["idle"]
    said = []
    for wire, name in ((PLAIN, "bytes_up"), (COMPRESSED, "bytes_up_compressed")):
        one = figures[wire]
        said.append(
            f"{wire:<10} {one['message_up']:,} bytes up a round: Flower's message, "
            f"envelope and all (limit {limits[name]:,}); on TCP, with every request "
            f"and poll, {one['up']:,} up and {one['down']:,} down; "
            f"{one['first_round_down']:,} down in the first round, code and all; "
            f"{one['round_s']:.1f} s a round"
        )
        said += [
            f"  {calls:>4} x    {name}: {up:,} bytes of HTTP up, {down:,} down"
            for name, (calls, up, down) in one["calls"].items()
        ]
    return [
        *said,
        f"full model {figures['bytes_full_model']:,} bytes, packed and not sent: "
        f"{figures['times_below_full_model']:.0f} times as much (limit "
        f"{limits['times_below_full_model']}), "
        f"{figures['times_below_full_model_compressed']:.0f} times compressed",
        f"idle       {idle['up_per_minute']:,} bytes up and "
        f"{idle['down_per_minute']:,} down a minute, without any run",
        f"counted    {figures['counted']}",
    ]


def full_model(base: str) -> tuple[int, int]:
    """Return the bytes of an encoder's tensors as one message, and how many values.

    They are packed as an adapter is, in float32, with a plan that names them all.
    """
    state = load_base(base).model.state_dict()
    tensors = {name: one.float().numpy() for name, one in state.items()}
    plan = RoundPlan(
        run="bench",
        number=1,
        sites=(SITE,),
        spec=AdapterSpec(base=base_digest(base)),
        mechanism=Mechanism(),
        recipe=Recipe(),
        shapes={name: array.shape for name, array in tensors.items()},
        max_norm=100.0,
        quorum=1,
        deadline_s=600.0,
    )
    values = sum(array.size for array in tensors.values())
    return size(pack_plan(plan, tensors)), values


def _rounds(both: Deployed, wire: str, rounds: int) -> dict[str, Any]:
    """Carry out a run; return what its rounds after the first took, medians."""
    events = both.run(f"run-{wire}", wire=wire, rounds=rounds, steps=STEPS)
    told = [event for event in events if event["event"] == "round"]
    ends = [_seconds(event) for event in (events[0], *told)]
    first, *later = (both.counter.between(*spell) for spell in pairwise(ends))
    return {
        "up": round(median(one.up for one in later)),
        "down": round(median(one.down for one in later)),
        "up_each": [one.up for one in later],
        "down_each": [one.down for one in later],
        "message_up": round(median(event["bytes_up"][SITE] for event in told[1:])),
        "message_down": round(median(event["bytes_down"] for event in told[1:])),
        "calls": both.calls(*ends[-2:]),
        "first_round_up": first.up,
        "first_round_down": first.down,
        "round_s": round((ends[-1] - ends[1]) / len(later), 2),
    }


def _seconds(event: Told) -> float:
    """Return when an event was, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()
