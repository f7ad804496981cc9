"""What a round costs beside its training: the real apps and ledgers, in one process.

Parts are timed by wrapping them from outside, each without the parts that it calls, so
that they add up to the round. Nothing here is said of a network.
"""

import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from client import app as client_app
from client import round as client_round
from client import workbench as client_workbench
from client.app import app
from client.data import SiteData, save
from client.policy import SitePolicy
from client.policy_file import policy_text
from client.site import Site, SiteSettings, settings_text
from server import rounds as server_rounds
from server.app import federate
from server.events import Event, RoundReport
from server.registry import Registry
from server.settings import Federation, Settings
from shared import encoder as shared_encoder
from shared.activations import ActivationStore
from shared.encoder import base_digest, open_encoder
from shared.ledger import Ledger
from shared.protocol import AdapterSpec, Mechanism, Recipe
from shared.start import write_start
from simulations.bench.site import Size
from simulations.grid import LocalGrid
from simulations.partition import partition
from simulations.population import generate
from simulations.scenario import site_names

SITES, ROUNDS, STEPS = 5, 6, 2
SIZE = Size(items=1320, users=900)  # as tacit simulate has them, all sites together
EPSILON = 1e6  # of each site: rounds are measured, not refused
SEED = 2026
TRAINING, WEIGHTS, DATA = "training steps", "encoder: weights read", "data: files read"
REST = "all else, message copies among it"
PARTS: tuple[tuple[str, Any, str], ...] = (  # what is timed, and who calls it by what
    (TRAINING, client_round, "train_round"),
    (WEIGHTS, shared_encoder, "load_base"),
    (DATA, client_workbench, "load"),
    ("encoder: catalogue encoded, or found", ActivationStore, "open"),
    ("site: model made ready", client_round, "prepare"),
    ("ledger: opened and verified", Site, "open_ledger"),
    ("ledger: charge, durable", Ledger, "plan"),
    ("ledger: what leaves, durable", Ledger, "sealed"),
    ("ledger: signed end", Ledger, "witness"),
    ("door: checks and sealing", client_round, "release_update"),
    ("site: files kept, durable", Site, "keep_bytes"),
    ("site: plan opened", client_app, "open_plan"),
    ("site: reply packed", client_app, "pack_reply"),
    ("site: version held", client_round, "hold"),
    ("server: plan packed", server_rounds, "broadcast"),
    ("server: replies opened and judged", server_rounds, "judge"),
    ("server: updates kept and compared", server_rounds, "keep"),
    ("server: updates kept and compared", server_rounds, "count"),
    ("server: updates kept and compared", server_rounds, "figures"),
    ("server: aggregation", server_rounds, "step"),
    ("server: the next broadcast made", server_rounds, "advance"),
    ("server: version published", Registry, "publish"),
    ("server: ledgers' ends kept", Registry, "keep_witnesses"),
    ("server: newest version read", Registry, "current"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """One round.

    Attributes:
        seconds: From the end of the round before, all in all.
        parts: Seconds by part, each without what it calls; the rest is in none.
        calls: How often each part was called.
        imports: Modules that were imported.
    """

    seconds: float
    parts: Counter[str]
    calls: Counter[str]
    imports: int

    @property
    def overhead(self) -> float:
        """Seconds that are not the training steps."""
        return self.seconds - self.parts[TRAINING]


class Stopwatch:
    """Times calls from outside, lap by lap."""

    def __init__(self) -> None:
        self._inner = [0.0]  # seconds of the parts that each running one has called
        self._start()

    def _start(self) -> None:
        self._parts, self._calls = Counter[str](), Counter[str]()
        self._begun, self._known = time.perf_counter(), len(sys.modules)

    def lap(self) -> Lap:
        """Return what was since the last lap, and begin another."""
        lap = Lap(
            seconds=time.perf_counter() - self._begun,
            parts=self._parts,
            calls=self._calls,
            imports=len(sys.modules) - self._known,
        )
        self._start()
        return lap

    @contextmanager
    def on(self, part: str, owner: Any, attribute: str) -> Iterator[None]:
        """Time each call of ``owner.attribute`` inside the block."""
        original = vars(owner)[attribute]

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begun = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                took = time.perf_counter() - begun
                self._parts[part] += took - self._inner.pop()  # type: ignore[assignment]  # seconds
                self._calls[part] += 1
                self._inner[-1] += took

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            setattr(owner, attribute, original)


def measure(base: str = "minilm", rounds: int = ROUNDS) -> dict[str, Any]:
    """Return the figures of a small federation's rounds.

    ``overhead_s`` is the median, over the rounds after the first, of all that is not
    the training steps; ``parts_s`` says where it goes.

    Args:
        base: Encoder.
        rounds: At least 2.
    """
    with tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder:
        first, *later = laps(Path(folder), base, SIZE, sites=SITES, rounds=rounds)
    overhead = median(one.overhead for one in later)
    parts = {
        part: median(one.parts[part] for one in later)
        for part, _, _ in PARTS
        if part != TRAINING
    }
    parts[REST] = median(one.seconds - one.parts.total() for one in later)
    return {
        "overhead_s": round(overhead, 4),
        "overhead_s_per_site": round(overhead / SITES, 4),
        "overhead_s_each": [round(one.overhead, 4) for one in later],
        "training_s": round(median(one.parts[TRAINING] for one in later), 4),
        "parts_s": {part: round(took, 5) for part, took in parts.items()},
        "first_round_s": round(first.seconds, 3),
        "first_round_parts_s": {k: round(v, 4) for k, v in first.parts.items()},
        "encoder_loads_first_round": first.calls[WEIGHTS],
        "encoder_loads_later_rounds": sum(one.calls[WEIGHTS] for one in later),
        "data_loads_first_round": first.calls[DATA],
        "data_loads_later_rounds": sum(one.calls[DATA] for one in later),
        "imports_later_rounds": sum(one.imports for one in later),
        "sites": SITES,
        "rounds": rounds,
        "steps": STEPS,
        "users_per_site": SIZE.users // SITES,
        "items": SIZE.items,
        "base": base,
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """Return the figures in words, the longest part first."""
    parts = sorted(figures["parts_s"].items(), key=lambda one: -one[1])
    return [
        f"overhead   {figures['overhead_s']:.3f} s a round of {figures['sites']} sites "
        f"beside {figures['training_s']:.3f} s of {figures['steps']} training steps "
        f"each ({figures['overhead_s_per_site']:.3f} s a site)",
        *(f"  {1000 * took:8.1f} ms  {part}" for part, took in parts if took),
        f"first      {figures['first_round_s']:.2f} s all in all, with "
        f"{figures['encoder_loads_first_round']} reads of the weights and "
        f"{figures['data_loads_first_round']} of data; in the "
        f"{figures['rounds'] - 1} later rounds {figures['encoder_loads_later_rounds']} "
        f"and {figures['data_loads_later_rounds']}, and "
        f"{figures['imports_later_rounds']} imports",
    ]


def laps(folder: Path, base: str, size: Size, *, sites: int, rounds: int) -> list[Lap]:
    """Run a federation in ``folder`` and return its rounds.

    Args:
        folder: Empty.
        base: Encoder; it is read anew, whatever this process already holds.
        size: Items and users of all sites together; the users like what they do.
        sites: How many.
        rounds: How many.
    """
    nodes = _write_sites(folder, base, size, sites)
    settings = _settings(folder, base, ",".join(nodes), rounds)
    base_digest.cache_clear()
    open_encoder.cache_clear()
    logging.getLogger("flwr").setLevel(logging.ERROR)  # it tells of every round
    watch, made = Stopwatch(), list[Lap]()

    def tell(event: Event) -> None:
        if isinstance(event, RoundReport):
            made.append(watch.lap())

    with ExitStack() as timed:
        for part in PARTS:
            timed.enter_context(watch.on(*part))
        watch.lap()
        federate(LocalGrid(app, nodes), settings, tell)
    return made


def _write_sites(
    folder: Path, base: str, size: Size, sites: int
) -> dict[str, dict[str, str]]:
    """Write the folders of the sites; return their names, and where each of them is."""
    rng = np.random.default_rng(SEED)
    whole = generate(rng, users=size.users, items=size.items).data
    parts = partition(whole, sites=sites, how="iid", rng=rng)
    return {
        name: {"site": str(_write_site(folder, name, base, part))}
        for name, part in zip(site_names(sites), parts, strict=True)
    }


def _write_site(folder: Path, name: str, base: str, data: SiteData) -> Path:
    site = folder / "sites" / name
    settings = SiteSettings(
        name=name, base=base, cache=str(folder / "cache"), device="cpu"
    )
    policy = SitePolicy(epsilon=EPSILON, users=max(10, len(data.histories)))
    save(site / "data", data)
    (site / "site.toml").write_text(settings_text(settings), "utf-8")
    (site / "policy.toml").write_text(policy_text(policy), "utf-8")
    return site


def _settings(folder: Path, base: str, sites: str, rounds: int) -> Settings:
    """Return what the server is asked, and write the adapter that it starts from."""
    spec = AdapterSpec(base=base_digest(base))
    write_start(folder / "start", base, spec)
    (folder / "out").mkdir()
    return Settings(
        federation=Federation(
            run="bench",
            out=str(folder / "out"),
            start=str(folder / "start"),
            sites=sites,
            rounds=rounds,
        ),
        spec=spec,
        mechanism=Mechanism(steps=STEPS),
        recipe=Recipe(),
    )
