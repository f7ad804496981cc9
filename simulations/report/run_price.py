"""What a run cost: privacy by every site's ledger, bytes, seconds; and its digests."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from simulations.report.content import (
    NOTHING,
    OPEN,
    Cell,
    Section,
    Table,
    named,
    number,
    plain,
    setting,
)
from simulations.scenario import NOT_PRIVATE

SHOWN = 40  # longest table of sites or rounds; the rest is in report.json
Made = Mapping[str, Any]


def verdict(made: Made) -> str:
    """Return the one sentence on privacy."""
    told, arm = made["privacy"], made["arm"]
    if arm is None:
        return f"{OPEN}: no arm of this run left a ledger."
    if told["claim"] == OPEN:
        return (
            f"{OPEN}: the arm {arm}, which this folder shows first, promises nothing."
        )
    return (
        f"Arm {arm}: {told['claim']}, epsilon at most {told['epsilon_max']:.3f} at "
        f"delta {told['delta']:g}, recomputed from the ledgers of this run."
    )


def sections(made: Made) -> Iterator[Section]:
    """Yield the sections that tell the price."""
    yield from _traffic(made)
    yield _privacy(made)
    yield _digests(made)
    yield Section(
        key="limits",
        title="What is not covered",
        points=made["privacy"]["not_covered"],
    )


def _traffic(made: Made) -> Iterator[Section]:
    by_arm: dict[str, list[Made]] = {}
    for row in made["rounds"]:
        by_arm.setdefault(row["arm"], []).append(row)
    if by_arm:
        arms = [
            [_named(made, arm), *_arm_traffic(rows)] for arm, rows in by_arm.items()
        ]
        rounds = [
            [_named(made, row["arm"]), *_round_traffic(row)]
            for row in made["rounds"][:SHOWN]
        ]
        left = len(made["rounds"]) - len(rounds)
        more = f"; {left} more are in report.json" if left else ""
        yield Section(
            key="traffic",
            title="Bytes and seconds",
            says=[_timing(made["timing"])],
            tables=[
                Table(
                    "Trained arms, by site and round",
                    [
                        "arm",
                        "rounds",
                        "s per round",
                        "longest",
                        "KB up",
                        "KB down",
                        "MB in all",
                        "refused",
                    ],
                    arms,
                ),
                Table(
                    f"Rounds{more}",
                    [
                        "arm",
                        "round",
                        "seconds",
                        "sites",
                        "KB up by site",
                        "KB down",
                        "norm of the step",
                        "refused",
                    ],
                    rounds,
                ),
            ],
        )


def _timing(told: Mapping[str, float]) -> str:
    parts = ", ".join(
        f"{key.removesuffix('_s')} {value:.1f} s"
        for key, value in told.items()
        if key != "total_s"
    )
    return f"Wall time {told['total_s']:.1f} s: {parts}."


def _arm_traffic(rows: Sequence[Made]) -> list[Cell]:
    seconds = [row["seconds"] for row in rows]
    up = [size for row in rows for size in row["bytes_up"].values()]
    down = [row["bytes_down"] for row in rows]
    whole = sum(up) + sum(row["bytes_down"] * len(row["bytes_up"]) for row in rows)
    return plain(
        len(rows),
        f"{mean(seconds):.2f}",
        f"{max(seconds):.2f}",
        f"{mean(up) / 1e3:.1f}" if up else NOTHING,
        f"{mean(down) / 1e3:.1f}",
        f"{whole / 1e6:.2f}",
        sum(len(row["refused"]) for row in rows),
    )


def _round_traffic(row: Made) -> list[Cell]:
    sizes = [size / 1e3 for size in row["bytes_up"].values()]
    spread = f"{min(sizes, default=0):.1f} to {max(sizes, default=0):.1f}"
    alike = len({round(size, 1) for size in sizes}) == 1
    return plain(
        row["round"],
        f"{row['seconds']:.2f}",
        row["sites_ok"][0] if len(row["sites_ok"]) == 1 else len(row["sites_ok"]),
        f"{sizes[0]:.1f}" if alike else spread if sizes else NOTHING,
        f"{row['bytes_down'] / 1e3:.1f}",
        f"{row['update_norm']:.4f}",
        ", ".join(f"{site}: {why}" for site, why in row["refused"].items()) or NOTHING,
    )


def _privacy(made: Made) -> Section:
    told = made["privacy"]
    sites = sorted(made["sites"], key=_spent, reverse=True)
    left = len(sites) - len(sites[:SHOWN])
    more = f"; {left} more, which spent no more, are in report.json" if left else ""
    tables = []
    if sites:
        columns = ["site", "epsilon", "of its budget", "delta", "replace-one"]
        columns += ["rounds", "refused", "head of its ledger"]
        bare = told["claim"] == OPEN
        rows = [_site(site, bare=bare) for site in sites[:SHOWN]]
        caption = f"Ledgers of the arm {made['arm']}, the dearest first{more}"
        tables.append(Table(caption, columns, rows))
    mechanisms = [
        [
            _named(made, arm),
            Cell(", ".join(f"{key} = {setting(value)}" for key, value in how.items())),
        ]
        for arm, how in told["mechanisms"].items()
    ]
    if mechanisms:
        tables.append(Table("Mechanism of every round", ["arm", "values"], mechanisms))
    return Section(
        key="privacy",
        title="Privacy",
        points=[
            f"Claim: {told['claim']}.",
            f"Unit: {told['unit']}.",
            f"Relation: {told['relation']}.",
            f"Accountant: {told['accountant']}.",
            f"Several sites: {told['several_sites']}.",
        ],
        tables=tables,
    )


def _named(made: Made, arm: str) -> Cell:
    """Return the name of a trained arm, which may be one that was not asked for."""
    own = made["config"]["simulation"]
    bare = arm in NOT_PRIVATE or own.get("no-dp") or own.get("insecure-test-noise")
    return named(arm, made["metrics"].get(arm, {"label": OPEN} if bare else {}))


def _spent(site: Made) -> float:
    return float("inf") if site["epsilon"] is None else float(site["epsilon"])


def _site(site: Made, *, bare: bool) -> list[Cell]:
    open_ended = site["epsilon"] is None
    refused = ", ".join(f"round {n}: {why}" for n, why in site["refused"].items())
    return [
        Cell(site["name"], mark=OPEN if bare else ""),
        Cell("infinite") if open_ended else number(site["epsilon"], "{:.3f}"),
        number(site["budget"], "{:.3f}"),
        number(site["delta"], "{:g}"),
        number(site["epsilon_replace_one"], "{:.3f}"),
        Cell(str(site["rounds"])),
        Cell(refused or NOTHING),
        Cell(site["ledger_head"][:16]),
    ]


def _digests(made: Made) -> Section:
    digests = [plain(name, value or NOTHING) for name, value in made["digests"].items()]
    versions = [plain(name, value) for name, value in made["asked"]["versions"].items()]
    return Section(
        key="digests",
        title="Digests and versions",
        tables=[
            Table("SHA-256", ["of", "digest"], digests),
            Table("Versions", ["of", "version"], versions),
        ],
    )
