"""Predictions: inputs of each kind, one result each, and every way in which one can be refused."""

from __future__ import annotations

import base64
import logging
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fyretoolkit.core.organizations import DEMO_ORG
from tests.contract.conformance.runs import golden
from tests.support.api_bench import Bench
from tests.support.conformance import BAD, GOOD, REGION, Caller, Organization, error_of, fields_of
from tests.support.onnx_graphs import busy, minus_batch_mean
from tests.support.sentences import sentence

SENTIMENT = "/predict/sentiment-v1"
ZEROS = [0.0] * 64


def results(caller: Caller, model: str, inputs: list[Any], **fields: Any) -> list[Any]:
    """The results of one prediction."""
    answer = caller.post(f"/predict/{model}", {"inputs": inputs, **fields})
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["results"]
    assert len(found) == len(inputs)
    return found


def labels(found: list[Any]) -> list[Any]:
    """The labels of results."""
    return [each["label"] for each in found]


def refused_paths(caller: Caller, model: str, inputs: list[Any]) -> list[tuple[int, str]]:
    """(index, path) of each input that a 422 names; the message names the first."""
    error = error_of(caller.post(f"/predict/{model}", {"inputs": inputs}), 422, "invalid_input")
    errors = error["details"]["errors"]
    assert errors[0]["path"] in error["message"]
    assert all(each["message"] for each in errors)
    return [(each["index"], each["path"]) for each in errors]


@sentence("predict-1", "predict-9", "predict-11", "predict-12")
def test_the_answer(caller: Caller) -> None:
    """Every field; a text model takes strings."""
    answer = caller.post(SENTIMENT, {"inputs": [GOOD, BAD]})
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"id", "object", "created", "model", "results", "usage"}
    assert (body["object"], body["model"]) == ("prediction", "sentiment-v1")
    assert labels(body["results"]) == ["positive", "negative"]
    usage = body["usage"]
    assert usage.keys() == {"latency_ms", "queue_ms", "compute_ms", "batch_size", "deployment", "region"}
    assert usage["latency_ms"] >= usage["compute_ms"] > 0
    assert usage["queue_ms"] >= 0
    assert usage["batch_size"] >= 2
    assert usage["deployment"].startswith("dep_")
    assert caller.read(f"/deployments/{usage['deployment']}")["region"] == usage["region"]


@sentence("predict-2", "predict-3")
@pytest.mark.parametrize("inputs", [None, [], "text", {"a": 1}])
def test_inputs_are_a_list_of_one_at_least(caller: Caller, inputs: Any) -> None:
    """Missing, empty or no array: 400."""
    body = {} if inputs is None else {"inputs": inputs}
    assert fields_of(caller.post(SENTIMENT, body)) == ["inputs"]


@sentence("predict-2", "predict-4")
def test_at_most_1024_inputs(caller: Caller) -> None:
    """1,024 are answered, one more is too many."""
    assert len(results(caller, "sentiment-v1", ["a film"] * 1024)) == 1024
    error_of(caller.post(SENTIMENT, {"inputs": ["a film"] * 1025}), 413, "payload_too_large")


@sentence("predict-5")
def test_16_mib(caller: Caller) -> None:
    """15 MiB reach the model, in one piece; 17 MiB are refused."""
    text = ("a film " * 2200)[: 15 << 10]
    assert len(results(caller, "sentiment-v1", [text] * 1024, options={"timeout_ms": 60_000})) == 1024
    error_of(caller.post(SENTIMENT, {"inputs": [text + "x" * 2048] * 1024}), 413, "payload_too_large")


@sentence("predict-6")
def test_metadata_is_echoed(caller: Caller) -> None:
    """As it came; none is none; it must be an object."""
    metadata = {"correlation_id": "c-1", "user_id": 7, "nested": {"list": [1, None, "é"]}}
    answer = caller.post(SENTIMENT, {"inputs": [GOOD], "metadata": metadata})
    assert answer.json()["metadata"] == metadata
    assert "metadata" not in caller.post(SENTIMENT, {"inputs": [GOOD]}).json()
    assert fields_of(caller.post(SENTIMENT, {"inputs": [GOOD], "metadata": "c-1"})) == ["metadata"]


@sentence("predict-7")
@pytest.mark.anyio
async def test_metadata_reaches_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The two fields by which a caller finds a request, and no other."""
    await bench.deploy("sentiment-v1")
    metadata = {"correlation_id": "corr-17", "user_id": "user-42", "note": "private"}
    with caplog.at_level(logging.INFO, logger="fyretoolkit"):
        await bench.predict("sentiment-v1", [GOOD], metadata=metadata)
    assert "corr-17" in caplog.text
    assert "user-42" in caplog.text
    assert "private" not in caplog.text


@sentence("predict-8", "predict-21")
@pytest.mark.parametrize("timeout_ms", [0, -1, 60_001, "5", 1.5])
def test_timeout_ms(caller: Caller, timeout_ms: Any) -> None:
    """At most 60,000, a whole number above 0."""
    body = {"inputs": [GOOD], "options": {"timeout_ms": timeout_ms}}
    assert fields_of(caller.post(SENTIMENT, body)) == ["options.timeout_ms"]
    assert results(caller, "sentiment-v1", [GOOD], options={"timeout_ms": 60_000})


@sentence("predict-10", "predict-14")
def test_tensors_in_order(caller: Caller) -> None:
    """50 digits as nested numbers, each with its own label."""
    rows = golden("digits")
    assert labels(results(caller, "digits", [row["pixels"] for row in rows])) == [
        row["label"] for row in rows
    ]


@sentence("predict-13")
def test_objects_of_features(caller: Caller) -> None:
    """In whatever order they are written."""
    rows = golden("breast_cancer")[:10]
    inputs = [dict(reversed(row["features"].items())) for row in rows]
    assert labels(results(caller, "breast-cancer", inputs)) == [row["label"] for row in rows]


@sentence("predict-15")
def test_base64(caller: Caller) -> None:
    """The row's little-endian float32 give the answer of the same numbers."""
    pixels = golden("digits")[0]["pixels"]
    raw = base64.b64encode(struct.pack("<64f", *pixels)).decode()
    as_bytes, as_numbers = results(caller, "digits", [{"b64": raw}, pixels])
    assert as_bytes == as_numbers


@sentence("predict-16")
def test_another_shape(caller: Caller) -> None:
    """Too short, too deep; the good ones between are not named."""
    wrong = refused_paths(caller, "digits", [ZEROS, [0.0] * 63, ZEROS, [ZEROS]])
    assert [index for index, _ in wrong] == [1, 3]
    assert all(path.startswith(f"inputs[{index}]") for index, path in wrong)


@sentence("predict-17")
def test_another_type(caller: Caller) -> None:
    """Down to the number within the row."""
    row = [0.0, "one", *ZEROS[2:]]
    assert refused_paths(caller, "digits", [row]) == [(0, "inputs[0][1]")]
    assert refused_paths(caller, "sentiment-v1", [GOOD, 5]) == [(1, "inputs[1]")]
    features = {**golden("breast_cancer")[0]["features"], "mean_radius": True}
    assert refused_paths(caller, "breast-cancer", [features]) == [(0, "inputs[0].mean_radius")]


@sentence("predict-18")
def test_nan(caller: Caller) -> None:
    """Among the bytes of a tensor."""
    raw = base64.b64encode(struct.pack("<64f", *ZEROS[1:], float("nan"))).decode()
    assert refused_paths(caller, "digits", [{"b64": raw}])[0][0] == 0
    nan = {"content": b'{"inputs": [[NaN]]}', "headers": {"content-type": "application/json"}}
    error_of(caller.post("/predict/digits", **nan), 400, "malformed_json")


@sentence("predict-19")
def test_a_missing_feature(caller: Caller) -> None:
    """And one too many."""
    features = golden("breast_cancer")[0]["features"]
    fewer = {name: value for name, value in features.items() if name != "worst_area"}
    ((index, path),) = refused_paths(caller, "breast-cancer", [features, fewer])[:1]
    assert index == 1
    assert "worst_area" in path
    assert refused_paths(caller, "breast-cancer", [{**features, "colour": 1}])[0][0] == 0


@sentence("predict-8", "predict-20")
def test_on_error_continue(caller: Caller) -> None:
    """The bad one has an error in its place, its neighbours their results."""
    first, bad, last = results(caller, "sentiment-v1", [GOOD, 5, BAD], options={"on_error": "continue"})
    assert (first["label"], last["label"]) == ("positive", "negative")
    assert bad.keys() == {"error"}
    assert bad["error"].keys() == {"code", "message"}
    assert bad["error"]["code"] == "invalid_input"
    assert "inputs[1]" in bad["error"]["message"]
    strict = caller.post(SENTIMENT, {"inputs": [GOOD, 5], "options": {"on_error": "fail"}})
    assert strict.status_code == 422


@sentence("predict-22")
def test_the_deadline(caller: Caller) -> None:
    """A thousand long texts in one millisecond."""
    body = {"inputs": [GOOD * 40] * 1024, "options": {"timeout_ms": 1}}
    error_of(caller.post(SENTIMENT, body), 504, "deadline_exceeded")


@sentence("predict-23")
@pytest.mark.parametrize("model", ["not-here", "Not%20A%20Slug", "a" * 200])
def test_an_unknown_model(caller: Caller, model: str) -> None:
    """Whatever its id looks like."""
    error_of(caller.post(f"/predict/{model}", {"inputs": [1]}), 404, "model_not_found")


@sentence("predict-24")
def test_a_model_that_is_not_deployed(fresh: Organization) -> None:
    """Known, not ready: 409 with the state of each deployment."""
    caller = fresh.caller
    caller.made("/models", {"id": "mine", "status": "training"})
    error = error_of(caller.post("/predict/mine", {"inputs": [1]}), 409, "model_not_ready")
    assert (error["details"]["deployments"], error["details"]["status"]) == ([], "training")
    body = {"model_uri": "file:///not-here/other.onnx", "model_id": "other"}
    deployment = caller.settled_deployment(**body)
    assert deployment["status"] == "failed"
    error = error_of(caller.post("/predict/other", {"inputs": [1]}), 409, "model_not_ready")
    (state,) = error["details"]["deployments"]
    assert (state["id"], state["status"]) == (deployment["id"], "failed")
    assert "Waiting does not help" in error["message"]


@sentence("predict-31")
@pytest.mark.anyio
async def test_public_deployments_stand_in(bench: Bench) -> None:
    """As long as the organization's own one takes no traffic."""
    public, own = await bench.deploy("digits"), await bench.deploy("digits", org=DEMO_ORG)
    for traffic, expected in ((100, own), (0, public), (50, own)):
        path = f"/deployments/{own.id}"
        assert (await bench.request("PATCH", path, json={"traffic": traffic})).status_code == 200
        await bench.services.routes.refresh_if_changed()
        answer = await bench.predict("digits", [ZEROS])
        assert answer.json()["usage"]["deployment"] == expected.id


@sentence("predict-27")
def test_company_changes_no_answer(caller: Caller) -> None:
    """A text alone and among a hundred others: one label, probabilities within 1e-6."""
    texts = [row["text"] for row in golden("sentiment")]
    together = results(caller, "sentiment-v1", texts)
    for number in (0, 7, 50, 99):
        (alone,) = results(caller, "sentiment-v1", [texts[number]])
        assert alone["label"] == together[number]["label"]
        for name, probability in alone["probabilities"].items():
            assert together[number]["probabilities"][name] == pytest.approx(probability, abs=1e-6)


@sentence("predict-29")
def test_an_unknown_region(caller: Caller) -> None:
    """The known ones are named."""
    answer = caller.post(SENTIMENT, {"inputs": [GOOD], "options": {"region": "mars"}})
    assert REGION in error_of(answer, 422, "invalid_region")["details"]["regions"]


@sentence("predict-30")
def test_a_wished_region(caller: Caller, deployment: dict[str, Any]) -> None:
    """Served from there if a deployment is, else from elsewhere; the answer says from where."""
    assert deployment["region"] == "us-west-2"
    for wished in ("us-west-2", "eu-west-1"):
        answer = caller.post("/predict/table", {"inputs": [1], "options": {"region": wished}})
        assert answer.json()["usage"]["region"] == "us-west-2"
        assert answer.json()["results"] == [{"value": 10.0}]


@sentence("predict-26")
def test_more_than_it_can_do(caller: Caller) -> None:
    """Refused at once with when to come back; who obeys gets an answer."""
    uri = caller.upload(busy(), "busy.onnx")
    made = caller.settled_deployment(model_uri=uri, model_id="busy")
    assert made["status"] == "ready", made["error"]
    tries: list[int] = []

    def insist() -> None:
        for count in range(1, 20):
            answer = caller.post("/predict/busy", {"inputs": [[1.0]], "options": {"timeout_ms": 60_000}})
            tries.append(count)
            if answer.status_code == 200:
                assert answer.json()["results"] == [{"y": 1.0}]
                return
            error = error_of(answer, 503, "overloaded")
            assert "Try again in" in error["message"]
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(float(answer.headers["retry-after"]))
        raise AssertionError("never answered")

    with ThreadPoolExecutor(24) as pool:
        for done in [pool.submit(insist) for _ in range(24)]:
            done.result()
    assert max(tries) > 1, "nobody was refused"
    assert caller.delete(f"/deployments/{made['id']}").status_code in (200, 202, 204)


@sentence("predict-28")
def test_answers_that_depend_on_company(caller: Caller) -> None:
    """Found at the warm-up; every row then runs alone, also those of one request."""
    uri = caller.upload(minus_batch_mean(), "mean.onnx")
    made = caller.settled_deployment(model_uri=uri, model_id="mean")
    assert made["status"] == "ready", made["error"]
    assert (made["batching"]["max_batch_size"], made["batching"]["reason"]) == (1, "depends_on_company")
    assert made["batching"]["max_difference"] > 0
    together = results(caller, "mean", [[1.0, 2.0, 3.0], [100.0, 0.0, -5.0]])
    assert together == results(caller, "mean", [[1.0, 2.0, 3.0]]) + results(
        caller, "mean", [[100.0, 0.0, -5.0]]
    )
    assert caller.delete(f"/deployments/{made['id']}").status_code in (200, 202, 204)
