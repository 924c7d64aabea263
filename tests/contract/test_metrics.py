"""`GET /metrics/{deployment_id}`: real predictions in, their figures out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.schemas.metrics import MetricsResource
from fyretoolkit.settings import PlanSettings, Settings
from tests.support.api_bench import Bench, InProcessCall, open_bench
from tests.support.model_packages import write_package
from tests.support.onnx_graphs import lookup

pytestmark = pytest.mark.anyio

PERIODS = {"5m": (300, 5), "1h": (3600, 60), "24h": (86_400, 900), "7d": (604_800, 7200)}
NOTHING = {"mean": None, "p50": None, "p90": None, "p95": None, "p99": None, "max": None}


async def _metrics(bench: Bench, deployment_id: str, period: str | None = None, **options: Any) -> Any:
    query = {"period": period} if period else {}
    response = await bench.request("GET", f"/metrics/{deployment_id}", params=query, **options)
    assert response.status_code == 200, response.text
    MetricsResource.model_validate(response.json())
    return response.json()


async def _flushed(bench: Bench, deployment_id: str, period: str | None = None) -> Any:
    """The figures once everything counted so far is written."""
    await bench.services.recorder.flush()
    return (await _metrics(bench, deployment_id, period))["metrics"]


async def test_no_traffic_is_zeros_and_nulls(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    answer = await _metrics(bench, deployment.id)
    metrics = answer["metrics"]
    assert (answer["deployment_id"], answer["object"], answer["period"]) == (deployment.id, "metrics", "1h")
    assert metrics["requests"] == {
        "total": 0, "succeeded": 0, "failed": 0, "rejected": 0, "canceled": 0, "per_second": 0
    }  # fmt: skip
    assert metrics["latency"] == {"total": NOTHING, "queue": NOTHING, "compute": NOTHING}
    assert metrics["errors"] == {"rate": 0, "by_code": {}}
    assert metrics["throughput"] == {"inputs": 0, "inputs_per_second": 0, "mean_batch_size": None}
    assert all(
        (point["requests"], point["failed"], point["p50"], point["p99"]) == (0, 0, None, None)
        for point in metrics["series"]
    )


@pytest.mark.parametrize("period", PERIODS)
async def test_the_window_is_the_period_in_whole_buckets(bench: Bench, period: str) -> None:
    length_s, bucket_s = PERIODS[period]
    deployment = await bench.deploy("sentiment-v1")
    answer = await _metrics(bench, deployment.id, period)
    starts = [point["start"] for point in answer["metrics"]["series"]]
    assert answer["period"] == period
    assert abs(answer["end"] - time.time()) < 60
    assert answer["end"] - answer["start"] == length_s
    assert starts == [each for each in range(answer["start"], answer["end"] + 1) if each % bucket_s == 0]


async def test_the_figures_are_those_that_the_callers_were_told(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    usages = []
    for count in range(1, 11):
        response = await bench.predict("sentiment-v1", ["good"] * count)
        usages.append(response.json()["usage"])
    await bench.services.recorder.flush()
    answer = await _metrics(bench, deployment.id)
    metrics, seconds = answer["metrics"], answer["end"] - answer["start"]
    assert metrics["requests"] == {
        "total": 10, "succeeded": 10, "failed": 0, "rejected": 0, "canceled": 0,
        "per_second": pytest.approx(10 / seconds, rel=1e-5),
    }  # fmt: skip
    for name in ("total", "queue", "compute"):
        told = sorted(usage["latency_ms" if name == "total" else f"{name}_ms"] for usage in usages)
        shown = metrics["latency"][name]
        for percent, rank in ((50, 5), (90, 9), (95, 10), (99, 10)):
            exact = told[rank - 1]  # to a microsecond
            assert abs(shown[f"p{percent}"] - exact) <= 0.01 * exact + 0.001
        assert shown["max"] == pytest.approx(told[-1], abs=0.001)
        assert shown["mean"] == pytest.approx(sum(told) / 10, abs=0.001)
    assert metrics["throughput"]["inputs"] == 55
    assert metrics["throughput"]["inputs_per_second"] == pytest.approx(55 / seconds, rel=1e-5)
    sizes = [usage["batch_size"] for usage in usages]
    assert metrics["throughput"]["mean_batch_size"] == pytest.approx(sum(sizes) / 10)
    assert sum(point["requests"] for point in metrics["series"]) == 10
    assert {point["p50"] is None for point in metrics["series"] if point["requests"]} == {False}


async def test_failures_are_counted_by_code(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    for inputs in (["good"], [1], [2]):
        await bench.predict("sentiment-v1", inputs)
    bench.call.delay_s = 30
    assert (await bench.predict("sentiment-v1", ["a"], options={"timeout_ms": 20})).status_code == 504
    metrics = await _flushed(bench, deployment.id)
    assert metrics["errors"] == {"rate": 0.75, "by_code": {"deadline_exceeded": 1, "invalid_input": 2}}
    assert (metrics["requests"]["total"], metrics["requests"]["failed"]) == (4, 3)
    assert (metrics["throughput"]["inputs"], metrics["throughput"]["mean_batch_size"]) == (1, 1)
    assert sum(point["failed"] for point in metrics["series"]) == 3


async def test_an_item_that_fails_by_itself_leaves_the_request_a_success(
    bench: Bench, tmp_path: Path
) -> None:
    write_package(tmp_path, lookup())
    deployment = await bench.deploy("lookup", folder=tmp_path)
    answered = await bench.predict("lookup", [0, 10_000, 1], options={"on_error": "continue"})
    refused = await bench.predict("lookup", [0, 10_000, 1])
    assert (answered.status_code, refused.status_code) == (200, 422)
    metrics = await _flushed(bench, deployment.id)
    assert (metrics["requests"]["succeeded"], metrics["throughput"]["inputs"]) == (1, 3)
    assert metrics["errors"]["by_code"] == {"row_failed": 1}


async def test_what_was_not_routed_is_nobodys_failure(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    assert (await bench.predict("sentiment-v1", [])).status_code == 400
    assert (await bench.predict("unknown", ["a"])).status_code == 404
    assert (await _flushed(bench, deployment.id))["requests"]["total"] == 0


async def test_an_overload_is_a_rejection(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise PlatformError("overloaded", retry_after_s=1)

    deployment = await bench.deploy("sentiment-v1")
    monkeypatch.setattr(InProcessCall, "__call__", refuse)
    assert (await bench.predict("sentiment-v1", ["a"])).status_code == 503
    metrics = await _flushed(bench, deployment.id)
    assert (metrics["requests"]["rejected"], metrics["requests"]["failed"]) == (1, 0)
    assert metrics["errors"] == {"rate": 0, "by_code": {"overloaded": 1}}


async def test_a_defect_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    deployment = await bench.deploy("sentiment-v1")
    monkeypatch.setattr(InProcessCall, "__call__", fail)
    assert (await bench.predict("sentiment-v1", ["a"])).status_code == 500
    assert (await _flushed(bench, deployment.id))["errors"]["by_code"] == {"internal_error": 1}


async def test_a_caller_over_its_rate_limit_is_a_rejection(settings: Settings) -> None:
    """Counted for the deployment that would have taken the prediction; for none if the model has none."""
    plans = {**settings.plans, "tiny": PlanSettings(read=None, write=None, inference=2)}
    async with open_bench(settings.model_copy(update={"plans": plans})) as bench:
        deployment = await bench.deploy("sentiment-v1")
        key = await bench.add_key("org_a", plan="tiny")
        for model in ("sentiment-v1", "unknown"):
            for _ in range(4):
                await bench.request("POST", f"/predict/{model}", key=key, json={"inputs": ["a"]})
        metrics = await _flushed(bench, deployment.id)
    requests, by_code = metrics["requests"], metrics["errors"]["by_code"]
    assert requests["succeeded"] + requests["rejected"] == 4
    assert requests["rejected"] == by_code["rate_limit_exceeded"] >= 2


async def test_a_client_that_went_away_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running = asyncio.Event()

    async def run_for_ever(*_: object) -> None:
        running.set()
        await asyncio.Event().wait()

    deployment = await bench.deploy("sentiment-v1")
    monkeypatch.setattr(InProcessCall, "__call__", run_for_ever)
    calling = asyncio.create_task(bench.predict("sentiment-v1", ["a"]))
    await asyncio.wait_for(running.wait(), 60)
    calling.cancel()
    await asyncio.wait({calling})
    metrics = await _flushed(bench, deployment.id)
    assert (metrics["requests"]["canceled"], metrics["requests"]["total"]) == (1, 1)
    assert metrics["latency"]["total"] == NOTHING


async def test_the_numbers_survive_a_restart(settings: Settings) -> None:
    """Nobody flushes here but the app's lifespan at its end."""
    async with open_bench(settings) as bench:
        deployment = await bench.deploy("sentiment-v1")
        await bench.predict("sentiment-v1", ["good"])
    async with open_bench(settings) as bench:
        assert (await _metrics(bench, deployment.id))["metrics"]["requests"]["succeeded"] == 1


async def test_two_ingress_replicas_add_up(settings: Settings) -> None:
    async with open_bench(settings) as left, open_bench(settings) as right:
        deployment = await left.deploy("sentiment-v1")
        right.call.runners = left.call.runners
        for bench in (left, right, right):
            assert (await bench.predict("sentiment-v1", ["good"])).status_code == 200
            await bench.services.recorder.flush()
        assert (await _metrics(left, deployment.id))["metrics"]["requests"]["succeeded"] == 3


async def test_predictions_count_while_redis_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    deployment = await bench.deploy("sentiment-v1")
    await bench.predict("sentiment-v1", ["good"])
    with monkeypatch.context() as away:
        away.setattr(bench.services.store.redis, "execute_command", refuse)
        assert (await bench.predict("sentiment-v1", ["good"])).status_code == 200
        with pytest.raises(PlatformError):
            await bench.services.recorder.flush()
    assert (await _flushed(bench, deployment.id))["requests"]["succeeded"] == 2


async def test_another_period_is_400(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    for query in ({"period": "2h"}, {"period": ""}, {"perod": "1h"}):
        response = await bench.request("GET", f"/metrics/{deployment.id}", params=query)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
        assert [field["path"] for field in response.json()["error"]["details"]["fields"]] == list(query)


async def test_a_foreign_deployment_is_unknown(bench: Bench) -> None:
    foreign = await bench.deploy("digits", org="org_a")
    answers = [
        await bench.request("GET", f"/metrics/{name}")
        for name in (foreign.id, new_id("dep"), "nothing", "a:b")
    ]
    assert {response.status_code for response in answers} == {404}
    assert {response.json()["error"]["code"] for response in answers} == {"deployment_not_found"}
    bodies = {
        response.content.replace(response.headers["x-request-id"].encode(), b"") for response in answers
    }
    assert len(bodies) == 1


async def test_own_and_public_deployments_can_be_read(bench: Bench) -> None:
    own, public = await bench.deploy("digits", org="org_a"), await bench.deploy("sentiment-v1")
    key = await bench.add_key("org_a")
    for deployment in (own, public):
        assert (await _metrics(bench, deployment.id, key=key))["deployment_id"] == deployment.id


async def test_the_numbers_of_a_deleted_deployment_stay_with_its_record(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    await bench.predict("sentiment-v1", ["good"])
    for status in (DeploymentStatus.DRAINING, DeploymentStatus.DELETED):
        await bench.services.deployments.transition(deployment, status, message="")
    assert (await _flushed(bench, deployment.id))["requests"]["succeeded"] == 1


async def test_metrics_of_a_redis_that_is_away_are_503(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    deployment = await bench.deploy("sentiment-v1")
    await _metrics(bench, deployment.id)
    with monkeypatch.context() as away:
        away.setattr(bench.services.store.redis, "execute_command", refuse)
        response = await bench.request("GET", f"/metrics/{deployment.id}")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
