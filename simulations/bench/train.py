"""How fast a site trains: against the plain program, without privacy, and the machine.

One generated site, one minute, one set of threads. Whatever is compared is run in turn,
over and over, and medians are taken: a machine that others use slows all of it alike.

How the plain program's users a second come about: one of its steps over the some 200
users that Tacit draws would take most of a minute. So its pass over the catalogue is
timed whole, and its gradients for ``PLAIN_USERS`` of these users, with clip, noise and
Adam, are timed beside it. A step of U users takes ``catalogue + U x gradients /
PLAIN_USERS`` seconds, where U is the mean number of users in Tacit's own steps: its
catalogue is shared by as many users as Tacit's.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from shared.encoder import load_base
from simulations.bench.counting import LastLayer, OutputOnly, OutputProducts, Work
from simulations.bench.limits import limits
from simulations.bench.site import Size, TrainingSite
from simulations.bench.trainers import (
    FEWER,
    MECHANISM,
    PLAIN_USERS,
    Trainer,
    drawn,
    plain,
    site_of,
)

LIMITS = {  # at least so much; of dp_tax, at most
    "vs_plain_fp32": 25.0,
    "vs_plain_bf16": 40.0,
    "vs_plain_all_layers": 60.0,
    "dp_tax": 1.10,
    "gemm_fraction": 0.40,
    "copy_fraction": 0.40,
}
AT_MOST = frozenset({"dp_tax"})
SIZE = Size(items=1700, users=1000, likes=40)
ROUNDS = 3  # with and without privacy, in each repetition
FLOAT32, BFLOAT16 = "float32", "bfloat16"

Run = tuple[str, Callable[[], Any]]
Taken = Mapping[str, Sequence[Any]]  # name of a run -> what each time gave


def measure(
    *, device: str, base: str = "minilm", repetitions: int = 3, size: Size = SIZE
) -> dict[str, Any]:
    """Return the figures of training on a generated site.

    ``users_per_s`` and every ``vs_plain`` are of private steps; ``dp_tax`` is such a
    step over one of the same users without clip and noise. ``gemm_fraction`` and
    ``copy_fraction`` are of the time that the adapter's own work takes, its passes over
    the catalogue and the users' gradients; those ``_of_step`` are of whole steps.
    ``output_gemm_fraction`` says of the default adapter's products what
    ``copy_fraction`` says of its bytes: whichever is larger is what bounds it.

    Args:
        device: Where all of it computes.
        base: Encoder.
        repetitions: How often everything is run in turn.
        size: Of the site.
    """
    config = load_base(base).model.config
    with tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder:
        site_at = partial(site_of, base, device, size, Path(folder))
        site = site_at("output", FLOAT32)
        users = mean(len(step) for step in drawn(site.examples))
        runs = [
            *_default_adapter(site, site_at("output", BFLOAT16), device),
            *_whole_layer(site_at, config.intermediate_size, device),
            *_plain(site, base, config.num_hidden_layers, device),
        ]
        taken = in_turn(runs, repetitions)
    return {
        **_figures(taken, users, limits(device)),
        "limits": LIMITS,
        "users_per_step": round(users, 1),
        "steps": MECHANISM.steps,
        "plain_users": PLAIN_USERS,
        "whole_layer_users": FEWER.q * size.users,
        "repetitions": repetitions,
        "items": size.items,
        "users": size.users,
        "likes": size.likes,
        "base": base,
    }


def _default_adapter(site: TrainingSite, half: TrainingSite, device: str) -> list[Run]:
    """Return what is run of the last layer's output alone, in both precisions."""
    encoder, stored = site.model.encoder, site.model.activations.tokens
    width, rank = encoder.width, encoder.spec.rank
    bytes_of = OutputOnly(stored[:1].nbytes, width, rank)
    whole, lower = Trainer(site, device), Trainer(half, device)
    bare = partial(whole.step_s, sigma=0.0)
    pair: list[Run] = [("private", whole.step_s), ("unprotected", bare)]
    return [
        *pair * ROUNDS,
        ("bfloat16", lower.step_s),
        ("output_bytes", partial(whole.work, bytes_of)),
        ("output_products", partial(whole.work, OutputProducts(width, rank))),
        ("parts", whole.parts_ms),
    ]


def _whole_layer(
    site_at: Callable[[str, str], TrainingSite], inner: int, device: str
) -> list[Run]:
    """Return what is run of an adapter on the last layer's dense modules."""
    runs: list[Run] = []
    for precision in (FLOAT32, BFLOAT16):
        site = site_at("dense:1", precision)
        encoder, trainer = site.model.encoder, Trainer(site, device, FEWER)
        operations = LastLayer(encoder.width, inner, encoder.spec.rank)
        runs.append((f"layer_{precision}", partial(trainer.work, operations)))
    return runs


def _plain(site: TrainingSite, base: str, depth: int, device: str) -> list[Run]:
    """Return what is run of the plain program, with both of its adapters."""
    runs: list[Run] = []
    for name, modules in (("plain", "output"), ("all_layers", f"attention:{depth}")):
        trainer = plain(base, device, site, modules=modules)
        runs.append((f"{name}_catalogue", trainer.catalogue_s))
        runs.append((f"{name}_user", trainer.user_s))
    return runs


def in_turn(runs: Sequence[Run], repetitions: int) -> Taken:
    """Return what every run gave, after Tacit's were run once to warm up."""
    taken = defaultdict[str, list[Any]](list)
    for name, run in dict(runs).items():
        if not name.startswith(("plain", "all_layers")):  # their set-up warmed them
            run()
    for _ in range(repetitions):
        for name, run in runs:
            taken[name].append(run())
    return taken


def _figures(taken: Taken, users: float, rates: Mapping[str, Any]) -> dict[str, Any]:
    """Return the medians, set against one another."""
    private, bare, half = (
        median(taken[name]) for name in ("private", "unprotected", "bfloat16")
    )
    plain_s, all_layers_s = (
        median(taken[f"{name}_catalogue"]) + users * median(taken[f"{name}_user"])
        for name in ("plain", "all_layers")
    )
    figures = {
        "vs_plain_fp32": plain_s / private,
        "vs_plain_bf16": plain_s / half,
        "vs_plain_all_layers": all_layers_s / private,
        "dp_tax": private / bare,
        **_shares("copy_fraction", taken["output_bytes"], rates["copy_bytes_per_s"]),
    }
    gemm = rates["gemm_flops"]
    for name, run, precision in (
        ("gemm_fraction", "layer_float32", FLOAT32),
        ("gemm_fraction_bf16", "layer_bfloat16", BFLOAT16),
        ("output_gemm_fraction", "output_products", FLOAT32),
    ):
        figures |= _shares(name, taken[run], gemm[precision])
    return {name: round(value, 4) for name, value in figures.items()} | {
        "users_per_s": round(users / private, 1),
        "users_per_s_bf16": round(users / half, 1),
        "plain_users_per_s": round(users / plain_s, 2),
        "plain_all_layers_users_per_s": round(users / all_layers_s, 2),
        "step_ms": round(1000 * private, 2),
        "step_ms_bf16": round(1000 * half, 2),
        "unprotected_step_ms": round(1000 * bare, 2),
        "whole_layer_step_ms": round(
            1000 * median(w.step_s for w in taken["layer_float32"]), 2
        ),
        "plain_step_s": round(plain_s, 4),
        "plain_all_layers_step_s": round(all_layers_s, 4),
        "parts_ms": taken["parts"][-1],
        "machine_limits": rates,
    }


def _shares(name: str, works: Sequence[Work], rate: float) -> dict[str, float]:
    """Return the share of a limit that the adapter's work reaches, and whole steps."""
    return {
        name: median(work.amount / work.took_s for work in works) / rate,
        f"{name}_of_step": median(work.amount / work.step_s for work in works) / rate,
    }


def lines(figures: Mapping[str, Any]) -> list[str]:
    """Return the figures in words, each with the limit it is held against."""
    held = [
        f"{name:<20} {figures[name]:8.2f}  "
        f"({'at most' if name in AT_MOST else 'at least'} {limit:g})"
        for name, limit in figures["limits"].items()
    ]
    rates = figures["machine_limits"]
    gemm, parts = rates["gemm_flops"], figures["parts_ms"]
    return [
        *held,
        f"users/s   {figures['users_per_s']:.0f} in float32, "
        f"{figures['users_per_s_bf16']:.0f} in bfloat16; plain "
        f"{figures['plain_users_per_s']:.1f}, on all layers "
        f"{figures['plain_all_layers_users_per_s']:.1f}",
        f"a step    {figures['users_per_step']:g} users: {figures['step_ms']:.1f} ms, "
        f"{figures['step_ms_bf16']:.1f} in bfloat16, "
        f"{figures['unprotected_step_ms']:.1f} without clip and noise; plain "
        f"{figures['plain_step_s']:.1f} s: its catalogue once, and "
        f"{figures['plain_users']} of these users timed, times their number",
        *(f"  {took:8.2f} ms  {part}" for part, took in parts.items()),
        f"shares    of whole steps: copy {figures['copy_fraction_of_step']:.2f}, gemm "
        f"{figures['gemm_fraction_of_step']:.2f} (some "
        f"{figures['whole_layer_users']:g} users); gemm in bfloat16, of its own rate, "
        f"{figures['gemm_fraction_bf16']:.2f}; the default adapter's products "
        f"{figures['output_gemm_fraction']:.2f} of the gemm rate",
        f"limits    {gemm['float32'] / 1e9:.0f} GFLOP/s in float32, "
        f"{gemm['bfloat16'] / 1e9:.0f} in bfloat16, copies "
        f"{rates['copy_bytes_per_s'] / 1e9:.1f} GB/s; {rates['threads']} threads, "
        f"{rates['device']}",
    ]
