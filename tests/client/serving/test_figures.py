"""Figures tell what was asked by route, over all processes that share a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.serving.api import SECRET, Api, liked

COUNT = """
from prometheus_client import CollectorRegistry, generate_latest
from client.serving.figures import Requests
from client.serving.limits import Room
requests, registry = Requests(Room(1)), CollectorRegistry()
requests.count("GET", "/v1/model", 200, 0.004)
registry.register(requests)
print(generate_latest(registry).decode())
"""
ONE = 'tacit_serving_requests_total{method="GET",route="/v1/model",status="2xx"}'


def test_they_tell_routes_and_statuses_and_no_user(tmp_path: Path) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", liked(1, SECRET))
    api.ask("GET", f"/v1/users/{SECRET}/interests")
    api.ask("GET", f"/{SECRET}")
    api.ask("BREW", "/v1/model")

    told = api.ask("GET", "/metrics").text

    assert SECRET not in told
    route = 'route="/v1/users/{user}/interests",status="2xx"'
    assert f'requests_total{{method="GET",{route}}} 1.0' in told
    assert 'method="GET",route="other",status="4xx"} 1.0' in told
    assert 'method="other",route="/v1/model",status="4xx"} 1.0' in told
    assert 'tacit_serving_seconds_count{route="/v1/events"} 1.0' in told
    assert "tacit_serving_waiting 0.0" in told
    assert "tacit_serving_items 1682.0" in told
    assert 'release="spring/3"} 1.0' in told
    assert "tacit_serving_standin 7.0" in told


@pytest.mark.slow
def test_processes_that_share_a_folder_tell_their_sum(tmp_path: Path) -> None:
    def counted(**environment: str) -> str:
        words = [sys.executable, "-W", "ignore", "-c", COUNT]
        whole = {**os.environ, **environment}
        return subprocess.check_output(words, env=whole, text=True)

    alone = counted()
    shared = [counted(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) for _ in range(2)]

    assert f"{ONE} 1.0" in alone
    assert f"{ONE} 1.0" in shared[0]
    assert f"{ONE} 2.0" in shared[1]
    assert 'seconds_bucket{le="0.005",route="/v1/model"} 2.0' in shared[1]
