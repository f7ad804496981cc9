"""The API is as its description says, for a person and for schemathesis."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import negative_data_rejection, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi

from tests.client.serving.api import Api, liked

EXAMPLES = 40  # of each route, as described and not
CHECKS = [
    not_a_server_error,
    negative_data_rejection,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
]
ROUTES = {
    "POST /v1/recommendations",
    "POST /v1/events",
    "GET /v1/users",
    "GET /v1/users/{user}/interests",
    "PUT /v1/users/{user}/interests",
    "PUT /v1/users/{user}/about",
    "DELETE /v1/users/{user}",
    "GET /v1/items",
    "PUT /v1/items",
    "GET /v1/items/{item}/similar",
    "GET /v1/model",
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
}
OPEN = {"GET /livez", "GET /readyz"}
BARE = OPEN | {"GET /metrics", "GET /v1/model"}  # nothing can be wrong with them


def described(api: Api) -> dict[str, Any]:
    """The description, as a client reads it."""
    told: dict[str, Any] = api.ask("GET", "/openapi.json").json()
    return told


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_is_described_with_its_roles_problems_and_examples(
    tmp_path: Path,
) -> None:
    found = operations(described(Api(tmp_path)))

    assert found.keys() == ROUTES
    for name, operation in found.items():
        assert operation["summary"]
        assert operation["description"]
        if name in OPEN:
            assert "security" not in operation
            continue
        schemes = [scheme for one in operation["security"] for scheme in one]
        assert schemes == ["bearer", "header"]
        assert {"400", "401", "403", "422", "429", "503"} <= operation[
            "responses"
        ].keys()
        shown = operation["responses"].get("200", {}).get("content", {})
        media = shown.get("application/json", {})
        assert (
            "204" in operation["responses"]
            or name == "GET /metrics"
            or "example" in media
        )


def test_every_example_of_a_body_is_taken(tmp_path: Path) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", liked(1, "u-17"))
    document = described(api)
    seen = 0

    for name, operation in operations(document).items():
        method, path = name.split()
        body = operation.get("requestBody", {}).get("content", {})
        schema = body.get("application/json", {}).get("schema", {})
        reference = schema.get("$ref", "").rpartition("/")[2]
        examples = schema.get("examples", []) or (
            document["components"]["schemas"].get(reference, {}).get("examples", [])
        )
        for example in examples:
            told = api.ask(method, path.format(user="u-17"), example)
            assert told.status_code in (200, 204), (name, told.text)
            seen += 1

    assert seen >= 8


@pytest.mark.slow
def test_whatever_is_sent_is_answered_as_described(tmp_path: Path) -> None:
    api = Api(tmp_path, requests_per_minute=10_000_000)
    api.ask("POST", "/v1/events", [liked(n, f"u-{n}") for n in range(3)])
    document = described(api)
    for operation in operations(document).values():
        operation.pop("security", None)  # or most of it would be without a key
    schema = schemathesis.openapi.from_dict(document)
    schema.app = api.app
    schema.location = "/openapi.json"
    seen: dict[int, int] = {}

    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        tried = found.ok()
        bare = tried.label in BARE
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[: 2 - bare]:

            @seed(7)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=tried.as_strategy(generation_mode=mode))
            def holds(case: Any) -> None:
                told = case.call(headers={"X-API-Key": api.key, "Host": "localhost"})
                seen[told.status_code] = seen.get(told.status_code, 0) + 1
                case.validate_response(told, checks=CHECKS)

            holds()

    assert {200, 204, 400, 404, 422} <= seen.keys()
    assert 401 not in seen
