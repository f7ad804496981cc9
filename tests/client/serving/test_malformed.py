"""Whatever is sent: no 5xx, no hang, and nothing of it in any answer or log line."""

import asyncio
import logging
import time
from pathlib import Path

import httpx
import pytest

from client.serving.problems import MEDIA
from tests.client.serving.api import HERE, SECRET, Api
from tests.client.serving.malformed import malformed

SLOWEST_S = 1.0  # on a machine that does other things too; the usual is a millisecond


async def send(api: Api, number: int, seed: int) -> dict[int, int]:
    """Send so many malformed requests; return how often each status came."""
    seen: dict[int, int] = {}
    transport = httpx.ASGITransport(api.app)
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        for method, path, media, body in malformed(number, seed):
            headers = [
                (b"X-API-Key", api.key.encode()),
                (b"Content-Type", media.encode("latin-1")),
            ]
            begun = time.process_time()
            told = await client.request(method, path, content=body, headers=headers)
            assert time.process_time() - begun < SLOWEST_S
            assert SECRET not in told.text
            assert told.status_code < 300 or told.headers["content-type"] == MEDIA
            seen[told.status_code] = seen.get(told.status_code, 0) + 1
    return seen


@pytest.mark.parametrize(
    "number", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_no_malformed_body_crashes_hangs_or_is_told_again(
    tmp_path: Path,
    number: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    api = Api(tmp_path, requests_per_minute=10_000_000)

    with caplog.at_level(logging.DEBUG):
        seen = asyncio.run(send(api, number, seed=5))

    assert sum(seen.values()) == number
    assert seen.keys() <= {200, 204, 400, 404, 413, 415, 422}
    assert {400, 422} <= seen.keys()
    assert min(seen[400], seen[422]) > number / 10
    ours = [one for one in caplog.records if one.name != "httpx"]  # that is the sender
    assert SECRET not in "".join(one.getMessage() for one in ours)
    assert SECRET not in "".join(capfd.readouterr())
    assert api.ask("GET", "/livez").status_code == 200
    assert api.app.state.gate.room.taken == 0


def test_what_malforms_is_the_same_each_time_and_never_twice_alike() -> None:
    first, again = list(malformed(500, 5)), list(malformed(500, 5))

    assert first == again
    assert len(set(first)) > 400
