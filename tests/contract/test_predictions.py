"""`POST /predict/{model_id}`."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from fyretoolkit.api.predict import PredictEndpoint
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.schemas.predictions import Prediction
from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT
from tests.support.api_bench import Bench, InProcessCall
from tests.support.model_packages import write_package
from tests.support.onnx_graphs import echo, lookup

pytestmark = pytest.mark.anyio

GOLDEN = PROJECT_ROOT / "tests" / "golden"


def _golden(name: str, count: int) -> list[dict[str, Any]]:
    lines = (GOLDEN / f"{name}_golden.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def _error(response: Any) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_sentiment_answers_as_it_did_when_it_was_trained(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    rows = _golden("sentiment", 16)
    results = (await bench.predict("sentiment-v1", [row["text"] for row in rows])).json()["results"]
    for result, row in zip(results, rows, strict=True):
        assert result["label"] == row["v1"]["label"]
        found = [result["probabilities"][name] for name in ("negative", "positive")]
        assert found == pytest.approx(row["v1"]["probabilities"], abs=1e-5)


async def test_features_and_tensors_answer_as_they_did_when_they_were_trained(bench: Bench) -> None:
    await bench.deploy("breast-cancer")
    await bench.deploy("digits")
    tumours, digits = _golden("breast_cancer", 16), _golden("digits", 16)
    by_features = (await bench.predict("breast-cancer", [row["features"] for row in tumours])).json()[
        "results"
    ]
    by_pixels = (await bench.predict("digits", [row["pixels"] for row in digits])).json()["results"]
    assert [result["label"] for result in by_features] == [row["label"] for row in tumours]
    assert [result["label"] for result in by_pixels] == [row["label"] for row in digits]


async def test_the_answer_is_what_the_schema_says(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1")
    metadata = {"correlation_id": "c1", "nested": {"kept": [1, None]}}
    response = await bench.predict("sentiment-v1", ["good", "bad"], metadata=metadata)
    answer = Prediction.model_validate(response.json())
    assert response.status_code == 200
    assert answer.model == "sentiment-v1"
    assert answer.id.startswith("pred_")
    assert len(answer.results) == 2
    assert answer.metadata == metadata
    usage = answer.usage
    assert (usage.deployment, usage.region, usage.batch_size) == (deployment.id, "us-east-1", 2)
    assert usage.latency_ms >= usage.compute_ms > 0
    assert usage.queue_ms >= 0


async def test_metadata_is_absent_unless_it_was_sent(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    assert "metadata" not in (await bench.predict("sentiment-v1", ["good"])).json()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "inputs"),
        ({"inputs": None}, "inputs"),
        ({"inputs": "text"}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": ["a"], "metadata": []}, "metadata"),
        ({"inputs": ["a"], "options": None}, "options"),
        ({"inputs": ["a"], "options": {"timeout_ms": "100"}}, "options.timeout_ms"),
        ({"inputs": ["a"], "options": {"timeout_ms": True}}, "options.timeout_ms"),
        ({"inputs": ["a"], "options": {"timeout_ms": 0}}, "options.timeout_ms"),
        ({"inputs": ["a"], "options": {"timeout_ms": 60_001}}, "options.timeout_ms"),
        ({"inputs": ["a"], "options": {"on_error": "ignore"}}, "options.on_error"),
        ({"inputs": ["a"], "options": {"region": 1}}, "options.region"),
    ],
)
async def test_a_body_of_another_shape_is_400_naming_the_field(
    bench: Bench, body: dict[str, Any], path: str
) -> None:
    response = await bench.request("POST", "/predict/sentiment-v1", json=body)
    assert (response.status_code, _error(response)["code"]) == (400, "invalid_request")
    assert [field["path"] for field in _error(response)["details"]["fields"]] == [path]


async def test_metadata_without_an_end_is_400(bench: Bench) -> None:
    body = b'{"inputs": ["a"], "metadata": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}"
    response = await bench.request(
        "POST", "/predict/sentiment-v1", content=body, headers={"content-type": "application/json"}
    )
    assert (response.status_code, _error(response)["details"]["fields"][0]["path"]) == (400, "metadata")


async def test_metadata_is_bounded_in_size(bench: Bench) -> None:
    response = await bench.predict("sentiment-v1", ["a"], metadata={"a": "x" * 16_384})
    assert (response.status_code, _error(response)["details"]["fields"][0]["path"]) == (400, "metadata")
    assert "at most 16384 bytes" in _error(response)["message"]


async def test_a_client_that_goes_away_ends_the_call_of_the_replica(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Serve cancels the request's task when the client hangs up; nothing between may hold that up."""
    await bench.deploy("sentiment-v1")
    events: asyncio.Queue[str] = asyncio.Queue()

    async def hang(*_: object) -> None:
        events.put_nowait("called")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.put_nowait("cancelled")
            raise

    monkeypatch.setattr(InProcessCall, "__call__", hang)
    with caplog.at_level(logging.INFO, logger="fyretoolkit.access"):
        request = asyncio.create_task(bench.predict("sentiment-v1", ["good"]))
        assert await events.get() == "called"
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert await asyncio.wait_for(events.get(), 30) == "cancelled"
    assert json.loads(caplog.records[-1].message)["status"] == 499


async def test_as_many_inputs_as_allowed_and_one_more(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    assert len((await bench.predict("sentiment-v1", ["a"] * 16)).json()["results"]) == 16
    response = await bench.predict("sentiment-v1", ["a"] * 17)
    assert (response.status_code, _error(response)["code"]) == (413, "payload_too_large")


async def test_an_input_that_does_not_fit_is_422_naming_index_and_path(bench: Bench) -> None:
    await bench.deploy("breast-cancer")
    good = _golden("breast_cancer", 1)[0]["features"]
    bad = {name: value for name, value in good.items() if name != "mean_radius"}
    response = await bench.predict("breast-cancer", [good, bad])
    error = _error(response)
    assert (response.status_code, error["code"]) == (422, "invalid_input")
    assert error["message"].startswith("inputs[1].mean_radius")
    assert error["details"]["errors"] == [
        {"index": 1, "path": "inputs[1].mean_radius", "message": "is missing"}
    ]


async def test_every_misfit_is_listed(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    response = await bench.predict("sentiment-v1", [1, "good", None, {"x": 1}])
    assert [error["index"] for error in _error(response)["details"]["errors"]] == [0, 2, 3]


async def test_on_error_continue_puts_the_error_in_its_place(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    options = {"on_error": "continue"}
    response = await bench.predict("sentiment-v1", ["good", 7, "bad"], options=options)
    first, second, third = response.json()["results"]
    assert response.status_code == 200
    assert (first["label"], third["label"]) == ("positive", "negative")
    assert second["error"]["code"] == "invalid_input"
    assert second["error"]["message"].startswith("inputs[1]")
    alone = (await bench.predict("sentiment-v1", ["good"])).json()["results"][0]
    assert first["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-6)


async def test_on_error_continue_answers_when_nothing_fits(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    response = await bench.predict("sentiment-v1", [1, 2], options={"on_error": "continue"})
    assert [result["error"]["code"] for result in response.json()["results"]] == ["invalid_input"] * 2
    assert bench.call.calls == 0


async def test_inputs_of_different_shapes_are_answered_each(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "any-length"
    write_package(folder, echo("float32", ("N", "L"), name="x"))
    await bench.deploy("any-length", folder=folder)
    inputs = [[1.0], [1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]
    response = await bench.predict("any-length", inputs)
    assert response.status_code == 200
    assert len(response.json()["results"]) == 4
    assert "4.0,5.0,6.0" in response.text
    assert bench.call.calls == 3


async def test_a_row_that_the_model_fails_on_is_named(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "lookup"
    write_package(folder, lookup())
    await bench.deploy("lookup", folder=folder)
    response = await bench.predict("lookup", [0, 10_000, 1])
    assert (response.status_code, _error(response)["code"]) == (422, "row_failed")
    assert [error["path"] for error in _error(response)["details"]["errors"]] == ["inputs[1]"]
    kept = (await bench.predict("lookup", [0, 10_000, 1], options={"on_error": "continue"})).json()["results"]
    assert kept[1]["error"]["code"] == "row_failed"
    assert "error" not in kept[0]
    assert "error" not in kept[2]


async def test_an_unknown_model_is_404(bench: Bench) -> None:
    for name in ("nothing", "NOT-A-SLUG", "a:b", "x" * 300):
        response = await bench.predict(name, [1])
        assert (response.status_code, _error(response)["code"]) == (404, "model_not_found")


async def test_a_model_without_a_deployment_is_409(bench: Bench) -> None:
    await bench.add_model("digits")
    response = await bench.predict("digits", [1])
    assert (response.status_code, _error(response)["code"]) == (409, "model_not_ready")
    assert _error(response)["details"] == {"deployments": []}


@pytest.mark.parametrize(
    "status", [DeploymentStatus.PROVISIONING, DeploymentStatus.FAILED, DeploymentStatus.DRAINING]
)
async def test_a_model_without_a_ready_deployment_is_409_with_its_state(
    bench: Bench, status: DeploymentStatus
) -> None:
    deployment = await bench.deploy("digits", status=status)
    response = await bench.predict("digits", [1])
    assert (response.status_code, _error(response)["code"]) == (409, "model_not_ready")
    assert _error(response)["details"]["deployments"][0]["id"] == deployment.id
    assert _error(response)["details"]["deployments"][0]["status"] == status


async def test_a_deployment_without_traffic_takes_none(bench: Bench) -> None:
    await bench.deploy("sentiment-v1", traffic=0)
    assert (await bench.predict("sentiment-v1", ["a"])).status_code == 409


async def test_the_wished_region_answers_if_it_is_ready(bench: Bench) -> None:
    await bench.deploy("sentiment-v1", region="us-east-1")
    await bench.deploy("sentiment-v1", region="eu-west-1")
    for region in ("us-east-1", "eu-west-1"):
        response = await bench.predict("sentiment-v1", ["a"], options={"region": region})
        assert response.json()["usage"]["region"] == region
    elsewhere = await bench.predict("sentiment-v1", ["a"], options={"region": "us-west-2"})
    assert elsewhere.status_code == 200


async def test_an_unknown_region_is_422(bench: Bench) -> None:
    response = await bench.predict("sentiment-v1", ["a"], options={"region": "mars"})
    assert (response.status_code, _error(response)["code"]) == (422, "invalid_region")
    assert "us-east-1" in _error(response)["details"]["regions"]


async def test_the_deadline_is_504(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    bench.call.delay_s = 30
    response = await bench.predict("sentiment-v1", ["a"], options={"timeout_ms": 20})
    assert (response.status_code, _error(response)["code"]) == (504, "deadline_exceeded")


async def test_another_organizations_model_is_unknown(bench: Bench) -> None:
    await bench.deploy("digits", org="org_a")
    foreign = await bench.predict("digits", [1])
    unknown = await bench.predict("no-such-model", [1])
    assert foreign.status_code == 404
    assert _without_id(foreign) == _without_id(unknown)


def _without_id(response: Any) -> bytes:
    content: bytes = response.content
    return content.replace(response.headers["x-request-id"].encode(), b"")


async def test_a_warm_prediction_needs_no_redis(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.deploy("sentiment-v1")
    await bench.predict("sentiment-v1", ["a"])

    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    monkeypatch.setattr(bench.services.store.redis, "execute_command", refuse)
    for _ in range(20):
        assert (await bench.predict("sentiment-v1", ["a"])).status_code == 200
    assert (await bench.predict("unknown", ["a"])).status_code == 503


async def test_the_predict_endpoint_is_complete_by_itself(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    transport = httpx.ASGITransport(PredictEndpoint(bench.services))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", auth=(DEMO_KEY, "")
    ) as client:
        good = await client.post("/predict/sentiment-v1", json={"inputs": ["good"]})
        wrong = await client.get("/predict/sentiment-v1")
        bad = await client.post("/predict/sentiment-v1", json={"inputs": [1]})
        stranger = await client.post("/predict/sentiment-v1", json={"inputs": ["a"]}, auth=("x", ""))
    assert good.json()["results"][0]["label"] == "positive"
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert (bad.status_code, stranger.status_code) == (422, 401)
    for response in (wrong, bad, stranger):
        assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
