"""Bodies that no honest sender sends, each with a secret in it; seeded, never alike."""

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.client.serving.api import SECRET, liked

ROUTES: dict[str, tuple[str, list[Any]]] = {
    "/v1/recommendations": (
        "POST",
        [
            {"user": SECRET, "k": 3, "filters": {"year": {"low": 1990}}},
            {"history": [SECRET, "b"], "alpha": 0.5, "about": {"age": "1"}},
            {"query": f"like {SECRET}", "candidates": ["a"], "explain": True},
        ],
    ),
    "/v1/events": (
        "POST",
        [
            liked(1, SECRET),
            [liked(1, SECRET), liked(2, kind="rate", rating=3)],
            {"id": "1", "user": "u", "kind": "search", "text": SECRET},
        ],
    ),
    f"/v1/users/{SECRET}/interests": ("PUT", [[{"interest": SECRET, "state": "none"}]]),
    f"/v1/users/{SECRET}/about": ("PUT", [{SECRET: "1", "age": SECRET}]),
    "/v1/items": ("PUT", [{"id": SECRET, "text": "t", "attributes": {"genres": []}}]),
}
ODD: list[Any] = [
    *(None, True, -1, 0, 2**63, 2**200, -(10**40), 1e308, -0.0, 1.5, "", " ", "0"),
    *(SECRET, [], {}, [[]], [None], {"": None}, {SECRET: SECRET}, [SECRET] * 1001),
    *("\x00", "\ud800", "\u202e", "x" * 10_000, "'; DROP TABLE events; --", "💥" * 201),
]
MEDIA = [
    *("application/json", "application/json; charset=utf-16", "text/plain", ""),
    *("application/x-www-form-urlencoded", f"multipart/form-data; boundary={SECRET}"),
    *(f"application/{SECRET}", "application/json, application/json", "\xff/json"),
]


def malformed(number: int, seed: int) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield method, path, content type and body of so many requests."""
    rng = random.Random(seed)  # noqa: S311  # it guards nothing
    for _ in range(number):
        path = rng.choice(list(ROUTES))
        method, bodies = ROUTES[path]
        value = json.loads(json.dumps(rng.choice(bodies)))
        for _ in range(rng.randint(0, 3)):
            value = _twisted(value, rng)
        body = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        whole = body.encode("utf-8", "surrogatepass")
        if rng.random() < 0.6:
            whole = rng.choice(BREAKS)(whole, rng)
        yield method, path, rng.choice(MEDIA) if rng.random() < 0.1 else MEDIA[0], whole


def _twisted(value: Any, rng: random.Random) -> Any:
    """Return the value with something odd at one of its places."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        turn = rng.random()
        if turn < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if turn < 0.2:
            return {**value, rng.choice([SECRET, "\x00", "", "id", "kind"]): value[key]}
        return {**value, key: _twisted(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], _twisted(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)


def _cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def _flipped(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _inserted(body: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(body) + 1)
    return body[:place] + rng.choice(PIECES) + body[place:]


def _nested(body: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([1, 50, 300, 50_000])
    return rng.choice([b"[", b'{"a":', b'{"filters":'])[:] * depth + body


def _noise(body: bytes, rng: random.Random) -> bytes:
    return SECRET.encode() + rng.randbytes(len(body))


def _repeated(body: bytes, rng: random.Random) -> bytes:
    return body * rng.choice([2, 3, 3_000])


def _recoded(body: bytes, rng: random.Random) -> bytes:
    text = body.decode("utf-8", "replace")
    return text.encode(rng.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7"]))


BREAKS = [_cut, _flipped, _inserted, _nested, _noise, _repeated, _recoded]
PIECES = [
    *(
        b"\x00",
        b"\xff",
        b",",
        b"]",
        b"}",
        b'"',
        b"\\",
        b"\\ud83d",
        b"NaN",
        b"-Infinity",
    ),
    *(b"1" * 5_000, b"1e999", b"//", b"/*", b"'", b"\r\n\r\n", SECRET.encode()),
]
