"""Health and readiness."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio


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
