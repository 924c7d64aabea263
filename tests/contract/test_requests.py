"""What a request may hold: queries, bodies, and the field that each refusal names."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench
from tests.support.batch_jobs import post_job, start_job

pytestmark = pytest.mark.anyio

JOB = "job_01M82CZBDNTDTBGWDT4TW34HQ4"
JSON = {"content-type": "application/json"}


def _refused(response: Any, status: int, code: str) -> dict[str, str]:
    """What the refusal says of each field."""
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    return {field["path"]: field["message"] for field in error["details"]["fields"]}


@pytest.mark.parametrize(
    "path", ["/models", "/deployments", "/jobs", "/files", "/api_keys", "/organizations"]
)
async def test_a_parameter_with_a_typo_is_answered_with_the_right_name(bench: Bench, path: str) -> None:
    response = await bench.request("GET", f"{path}?limt=5")
    assert _refused(response, 400, "invalid_request") == {"limt": "Unknown parameter. Did you mean limit?"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models?limit=1&limit=2", "limit"),
        ("/models?limit=1&limit=1", "limit"),
        ("/metrics/dep_01M82CZBDNTDTBGWDT4TW34HQ4?period=1h&period=5m", "period"),
        (f"/jobs/{JOB}/output?token=a&token=b", "token"),
        ("/jobs?zzz=1&zzz=2", "zzz"),
    ],
)
async def test_a_parameter_that_comes_twice_is_400(bench: Bench, path: str, name: str) -> None:
    response = await bench.request("GET", path)
    assert _refused(response, 400, "invalid_request") == {name: "Send this parameter once."}


async def test_an_upload_takes_its_name_once(bench: Bench) -> None:
    response = await bench.request("POST", "/files?filename=a.csv&filename=b.csv", content=b"a\n1\n")
    assert _refused(response, 400, "invalid_request") == {"filename": "Send this parameter once."}


@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_downloads_take_a_token_and_nothing_else(bench: Bench, kind: str) -> None:
    """Whoever has neither key nor token is told that first."""
    path = f"/jobs/{JOB}/{kind}"
    for query in ("tokn=a", "token=a&tokn=a"):
        response = await bench.request("GET", f"{path}?{query}")
        assert _refused(response, 400, "invalid_request") == {
            "tokn": "Unknown parameter. Did you mean token?"
        }
    without_key = await bench.request("GET", f"{path}?tokn=a", key=None)
    assert without_key.status_code == 401
    assert (await bench.request("GET", f"{path}?token=", key=None)).status_code == 403


@pytest.mark.parametrize("kind", ["cancel", "archive"])
async def test_an_operation_without_fields_takes_an_empty_object_or_nothing(bench: Bench, kind: str) -> None:
    await bench.add_model("digits", org=DEMO_ORG)
    job = (await post_job(bench)).json()["id"]
    path = {"cancel": f"/jobs/{job}/cancel", "archive": "/models/digits/archive"}[kind]
    unknown = await bench.request("POST", path, json={"reason": "x"})
    assert _refused(unknown, 400, "invalid_request") == {"reason": "Unknown field. Remove it."}
    for body in (b"[]", b"null", b"{"):
        assert (await bench.request("POST", path, content=body, headers=JSON)).status_code == 400
    assert (
        await bench.request("POST", path, content=b"{}", headers={"content-type": "a/b"})
    ).status_code == 415
    for body in (b"{}", b""):
        assert (await bench.request("POST", path, content=body, headers=JSON)).status_code == 200


async def test_a_name_that_comes_twice_in_a_body_is_400(bench: Bench) -> None:
    await bench.add_model("digits")
    body = b'{"model_uri": "models://digits", "region": "us-east-1", "replicas": 1, "replicas": 2}'
    response = await bench.request("POST", "/deployments", content=body, headers=JSON)
    assert _refused(response, 400, "invalid_request") == {"replicas": "This field comes twice. Send it once."}


async def test_an_integer_that_would_come_back_as_a_float_is_400(bench: Bench) -> None:
    await bench.add_model("digits")
    response = await post_job(bench, metadata={"order": {"numbers": [1, 2**64]}})
    assert list(_refused(response, 400, "invalid_request")) == ["metadata.order.numbers[1]"]
    kept = {"order": [2**64 - 1, -(2**63), 1e30]}
    assert (await post_job(bench, metadata=kept)).json()["metadata"] == kept


@pytest.mark.parametrize(
    "path", ["/models", "/deployments", "/jobs", "/files", "/api_keys", "/organizations"]
)
async def test_a_cursor_of_another_list_is_named(bench: Bench, path: str) -> None:
    response = await bench.request("GET", path, params={"starting_after": "a:b"})
    assert list(_refused(response, 400, "invalid_cursor")) == ["starting_after"]


async def test_what_is_unknown_is_named_beside_what_there_is(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    predicted = await bench.predict("sentiment-v1", ["a"], options={"region": "mars-1"})
    assert list(_refused(predicted, 422, "invalid_region")) == ["options.region"]
    deployed = await bench.create_deployment(region="mars-1")
    assert list(_refused(deployed, 422, "invalid_region")) == ["region"]
    assert "us-east-1" in deployed.json()["error"]["details"]["regions"]
    organization = await bench.request("POST", "/organizations", json={"name": "x", "plan": "gold"})
    assert list(_refused(organization, 422, "invalid_plan")) == ["plan"]
    assert "free" in organization.json()["error"]["details"]["plans"]


async def test_an_empty_file_and_a_model_without_an_id_are_named(bench: Bench) -> None:
    empty = await bench.request("POST", "/files", content=b"")
    assert list(_refused(empty, 400, "invalid_request")) == ["file"]
    waiting = await bench.request("POST", "/models", json={"status": "training"})
    assert _refused(waiting, 400, "invalid_request") == {"id": "A model in training needs an id. Add it."}


@pytest.mark.parametrize("uri", ["MODELS://digits", "Fyre://Models/digits"])
async def test_the_scheme_of_a_model_is_taken_in_any_case(bench: Bench, uri: str) -> None:
    await bench.add_model("digits")
    response = await bench.create_deployment(model_uri=uri)
    assert (response.status_code, response.json()["model_uri"]) == (201, "models://digits")
    refused = await bench.request("POST", "/models", json={"id": "mine", "model_uri": uri})
    said = _refused(refused, 422, "url_not_allowed")["model_uri"]
    assert "https://, file:// or fyre://files/<id>" in said


async def test_a_bare_name_is_answered_with_the_uri_that_it_should_be(bench: Bench) -> None:
    said = _refused(await bench.create_deployment(model_uri="digits"), 422, "url_not_allowed")["model_uri"]
    assert "models://digits" in said
    assert "https://" in said
    said = _refused(await bench.create_deployment(model_uri="My Model"), 422, "url_not_allowed")["model_uri"]
    assert "models://<id>" in said


async def test_null_for_what_cannot_be_null_is_400(bench: Bench) -> None:
    """In each PATCH alike."""
    organization = f"/organizations/{DEMO_ORG}"
    for name in ("name", "plan"):
        body = {"name": "x", "plan": "pro", name: None}
        response = await bench.request("PATCH", organization, json=body)
        assert _refused(response, 400, "invalid_request") == {name: "Send a string."}
    deployment = await bench.deploy("digits", org=DEMO_ORG)
    response = await bench.request("PATCH", f"/deployments/{deployment.id}", json={"replicas": None})
    assert list(_refused(response, 400, "invalid_request")) == ["replicas"]


@pytest.mark.parametrize("path", ["/api_keys", "/organizations"])
async def test_a_name_of_blanks_is_400(bench: Bench, path: str) -> None:
    assert list(
        _refused(await bench.request("POST", path, json={"name": " \u2003"}), 400, "invalid_request")
    ) == ["name"]


async def test_output_that_is_on_its_way_says_what_to_watch(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()["id"]
    queued = (await bench.request("GET", f"/jobs/{job}/output")).json()["error"]
    assert (queued["code"], "progress.processed" in queued["message"]) == ("output_not_ready", False)
    running = await start_job(bench)
    processing = (await bench.request("GET", f"/jobs/{running}/output")).json()["error"]
    assert processing["message"].endswith("shows output_url, or until progress.processed grows.")


async def test_an_error_without_details_has_no_such_field(bench: Bench) -> None:
    failure = {"code": "invalid_onnx", "message": "Broken."}
    found = []
    for error in (failure, {**failure, "details": {"path": "a"}}):
        deployment = await bench.deploy("digits", org=DEMO_ORG, status="failed", error=error)
        found.append((await bench.request("GET", f"/deployments/{deployment.id}")).json()["error"])
    assert found == [failure, {**failure, "details": {"path": "a"}}]
