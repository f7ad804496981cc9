"""How fast a site serves, and whether what it serves is what an exact scan would.

The server is the real command in a process of its own, the load comes from this one
over loopback. Every user of a site is asked for in turn, and no request is repeated
before all were, so that no cache flatters.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from client.serving.language.understand import Language
from client.site import open_site
from shared.errors import TacitError
from simulations.bench.exact import Places, best_for_query, best_for_user
from simulations.bench.load import Load, at_random, closed, in_turn, request
from simulations.bench.served import SERVER_THREADS, Served
from simulations.bench.synthetic import Synthetic
from simulations.phrases import COLOURS, CREATORS, MOODS, PLACES, THEMES

PATH = "/v1/recommendations"
K = 10
AT_ONCE = 8  # connections that saturate one worker
WARM = 300  # requests before any is timed
CHECKED = 200  # answers that are compared with the exact scan
ALPHAS = (None, 0.0, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of a site of one size.

    Attributes:
        items: In its catalogue.
        users: With a history each.
        by: ``user`` or ``query``.
    """

    items: int
    users: int
    by: str


CASES = {
    "user_10k": Case(10_000, 10_000, "user"),
    "query_10k": Case(10_000, 10_000, "query"),
    "user_100k": Case(100_000, 10_000, "user"),
}


def measure(
    case: Case, site: Synthetic, server: Served, *, seconds: float, seed: int
) -> dict[str, Any]:
    """Return the figures of one case.

    One request at a time gives ``p50_ms`` and ``p99_ms``; ``AT_ONCE`` connections that
    never pause give ``rps``; requests at random times, at half that rate, show what
    waiting for one another adds.

    Args:
        case: What is asked.
        site: Of whom.
        server: That serves the site.
        seconds: Of each of the three loads.
        seed: Of everything random.
    """
    rng, port = np.random.default_rng(seed), server.port
    bodies = user_bodies(site, rng) if case.by == "user" else query_bodies(rng)
    made = [request("POST", PATH, body, server.headers) for body in bodies]
    asked = cycle(made)
    _sound(in_turn(port, list(islice(asked, WARM)), connections=AT_ONCE))
    used = [server.cpu_s()]
    alone = _sound(closed(port, asked, connections=1, seconds=seconds))
    used.append(server.cpu_s())
    most = _sound(closed(port, asked, connections=AT_ONCE, seconds=seconds))
    used.append(server.cpu_s())
    half = most.rate / 2
    spread = _sound(at_random(port, asked, rate=half, seconds=seconds, rng=rng))
    return {
        "p50_ms": round(alone.percentile_ms(50), 3),
        "p99_ms": round(alone.percentile_ms(99), 3),
        "rps": round(most.rate, 1),
        "recall@10": round(recall(case, site, server, bodies), 4),
        "items": case.items,
        "distinct_requests": len(bodies),
        "one_at_a_time": {
            "connections": 1,
            "server_cpu_ms": _each_ms(used[1] - used[0], alone),
            **_figures(alone),
        },
        "saturated": {
            "connections": AT_ONCE,
            "server_cpu_ms": _each_ms(used[2] - used[1], most),
            **_figures(most),
        },
        "half_load_at_random": {"offered_rps": round(half, 1), **_figures(spread)},
        "server": {
            "workers": 1,
            "threads": SERVER_THREADS,
            "start_s": round(server.start_s, 1),
            "memory_mib": server.memory_mib(),
        },
    }


def lines(figures: Mapping[str, Any]) -> list[str]:
    """Return one line for each case, for people."""
    return [
        f"{name:<10} p50 {said['p50_ms']:.2f} ms  p99 {said['p99_ms']:.2f} ms  "
        f"{said['rps']:.0f} requests/s  recall@10 {said['recall@10']:.4f}"
        for name, said in figures.items()
    ]


def _each_ms(seconds: float, load: Load) -> float:
    """Return milliseconds for each request."""
    return round(seconds * 1000 / len(load.answers), 3)


def _sound(loading: Coroutine[Any, Any, Load]) -> Load:
    """Return a load in which no request failed: what is refused is refused fast.

    Raises:
        TacitError: If one failed.
    """
    load = asyncio.run(loading)
    if load.failed:
        raise TacitError(
            f"requests failed, by status (0: no answer): {load.failed}; there are no "
            "figures of such a load"
        )
    return load


def _figures(load: Load) -> dict[str, Any]:
    return {
        "requests": len(load.answers),
        "rps": round(load.rate, 1),
        "p50_ms": round(load.percentile_ms(50), 3),
        "p99_ms": round(load.percentile_ms(99), 3),
    }


def user_bodies(site: Synthetic, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return a request for each user, in random order."""
    users = [history.user for history in site.data.histories]
    return [{"user": users[n], "k": K} for n in rng.permutation(len(users))]


def query_bodies(rng: np.random.Generator, count: int = 6000) -> list[dict[str, Any]]:
    """Return requests in plain language, no two alike, of 5 to 25 words."""
    made: dict[str, None] = {}
    while len(made) < count:
        made[_query(rng)] = None
    return [{"query": query, "k": K} for query in made]


def _query(rng: np.random.Generator) -> str:
    theme, other = (THEMES[n] for n in rng.choice(len(THEMES), 2, replace=False))
    story, scene = rng.choice(theme.stories), rng.choice(other.stories)
    mood, place, maker = rng.choice(MOODS), rng.choice(PLACES), rng.choice(CREATORS)
    colour, year = rng.choice(COLOURS), rng.integers(1955, 2020)
    patterns = (
        f"something {mood} set in {place} about {story}",
        f"{story}, told in {colour}, with {scene}",
        f"a {mood} one from before {year}, nothing with {other.name}",
        f"{theme.name} by {maker} or alike, {scene}",
        f"I would like {scene}, but {mood}, after {year} and not too far from {place}",
    )
    return str(patterns[rng.integers(len(patterns))])


def recall(
    case: Case, site: Synthetic, server: Served, bodies: Sequence[dict[str, Any]]
) -> float:
    """Return the share of the exact ten best that the server's ten hold, on average.

    Of users, half a dozen alphas are asked for in turn. Of queries, exact is for the
    hard parts that the server says it understood and for what the rest means in plain
    float32; those that lean somewhere are left out.

    Raises:
        TacitError: If an answer failed.
    """
    bodies = bodies[:CHECKED]
    if case.by == "user":
        bodies = [b | {"alpha": ALPHAS[n % len(ALPHAS)]} for n, b in enumerate(bodies)]
    asked = [request("POST", PATH, body, server.headers) for body in bodies]
    load = _sound(in_turn(server.port, asked, connections=1))
    said = [json.loads(answer.body) for answer in load.answers]
    best = (
        _best_for_users(site, bodies)
        if case.by == "user"
        else _best_for_queries(site, bodies, said)
    )
    shares = []
    for answer, exact in zip(said, best, strict=True):
        if exact is not None and len(exact):
            given = {item["item"] for item in answer["items"]}
            wanted = {site.data.catalogue.ids[place] for place in exact}
            shares.append(len(given & wanted) / len(wanted))
    return float(np.mean(shares))


def _best_for_users(
    site: Synthetic, bodies: Sequence[dict[str, Any]]
) -> list[Places | None]:
    histories = {history.user: history for history in site.data.histories}
    return [best_for_user(site, histories[b["user"]], b["alpha"], K) for b in bodies]


def _best_for_queries(
    site: Synthetic, bodies: Sequence[dict[str, Any]], said: Sequence[dict[str, Any]]
) -> list[Places | None]:
    cache = open_site(site.folder).cache / "language"  # where the server's head is
    language = Language(site.data.catalogue, site.encoder, cache)
    return [
        best_for_query(
            site, language.understand(body["query"])[1], answer["understood"], K
        )
        for body, answer in zip(bodies, said, strict=True)
    ]
