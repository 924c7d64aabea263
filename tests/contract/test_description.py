"""Health, readiness and the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio

OPERATIONS = {
    ("/batch/{model_id}", "post"),
    ("/deployments", "get"),
    ("/deployments", "post"),
    ("/deployments/{deployment_id}", "delete"),
    ("/deployments/{deployment_id}", "get"),
    ("/healthz", "get"),
    ("/jobs", "get"),
    ("/jobs/{job_id}", "get"),
    ("/jobs/{job_id}/cancel", "post"),
    ("/jobs/{job_id}/errors", "get"),
    ("/jobs/{job_id}/output", "get"),
    ("/models", "get"),
    ("/models/{model_id}", "get"),
    ("/predict/{model_id}", "post"),
    ("/readyz", "get"),
}


async def test_health_needs_no_key(bench: Bench) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await bench.request("GET", path, key=None)).status_code == 200


async def test_readiness_names_each_part(bench: Bench) -> None:
    answer = (await bench.request("GET", "/readyz")).json()
    assert answer == {"status": "ready", "checks": {"redis": "ok", "serve": "ok", "controller": "ok"}}


async def test_an_ailing_part_is_503_and_named(bench: Bench) -> None:
    bench.control["controller"] = "ActorDiedError"
    response = await bench.request("GET", "/readyz")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "unavailable")
    assert error["details"] == {"redis": "ok", "serve": "ok", "controller": "ActorDiedError"}
    assert int(response.headers["retry-after"]) > 0


async def test_redis_away_is_not_ready_but_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    monkeypatch.setattr(bench.services.store.redis, "time", refuse)
    response = await bench.request("GET", "/readyz")
    assert response.status_code == 503
    assert response.json()["error"]["details"]["redis"] != "ok"
    assert (await bench.request("GET", "/healthz")).status_code == 200


async def test_a_part_that_does_not_answer_does_not_hold_readiness_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fyretoolkit.api.routes.health.CHECK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(bench.services.store.redis, "time", lambda: asyncio.sleep(60))
    response = await bench.request("GET", "/readyz")
    assert response.json()["error"]["details"]["redis"] == "no answer within 0.05 s"


async def _document(bench: Bench) -> dict[str, Any]:
    document: dict[str, Any] = (await bench.request("GET", "/openapi.json")).json()
    return document


async def test_the_document_lists_every_operation(bench: Bench) -> None:
    document = await _document(bench)
    found = {(path, method) for path, item in document["paths"].items() for method in item}
    assert document["openapi"].startswith("3.1")
    assert found == OPERATIONS


async def test_every_reference_in_the_document_leads_somewhere(bench: Bench) -> None:
    document = await _document(bench)
    schemas = document["components"]["schemas"]
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}
    assert references
    assert {name.removeprefix("#/components/schemas/") for name in references} <= set(schemas)
    assert "HTTPValidationError" not in schemas


async def test_every_failure_in_the_document_is_the_envelope(bench: Bench) -> None:
    for path, item in (await _document(bench))["paths"].items():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                assert "X-Request-Id" in answer["headers"]
                if status >= "400":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}, (path, status)


@pytest.mark.parametrize(
    ("path", "model", "required"),
    [
        ("/predict/{model_id}", "PredictionRequest", ["inputs"]),
        ("/deployments", "DeploymentCreate", ["model_uri", "region"]),
        ("/batch/{model_id}", "BatchCreate", ["input_url"]),
    ],
)
async def test_bodies_are_described(bench: Bench, path: str, model: str, required: list[str]) -> None:
    document = await _document(bench)
    body = document["paths"][path]["post"]["requestBody"]
    assert body["required"] is True
    assert body["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{model}"}
    schema = document["components"]["schemas"][model]
    assert schema["required"] == required
    assert schema["additionalProperties"] is False


async def test_operations_have_ids_of_their_own_although_head_is_answered(bench: Bench) -> None:
    """A HEAD beside every GET would give each operation twice, under one id or the other by chance."""
    document = await _document(bench)
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)
    assert not [name for name in ids if name.endswith("_head")]
