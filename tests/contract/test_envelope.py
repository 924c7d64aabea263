"""Errors: one envelope for every failure, whoever is at fault, and a request id on every answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from fyretoolkit.api.edge import Edge
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import ErrorEnvelope
from fyretoolkit.store.models import ModelStore
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio


def _code(response: Any) -> str:
    envelope = ErrorEnvelope.model_validate(response.json())
    assert envelope.error.request_id == response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    return envelope.error.code


@pytest.mark.parametrize(
    "path",
    ["/nope", "/models/", "http://api.localhost//models", "/predict/a/b", "/predict/", "/models/a%2Fb"],
)
async def test_an_unknown_path_is_404(bench: Bench, path: str) -> None:
    response = await bench.request("POST" if "predict" in path else "GET", path)
    assert (response.status_code, _code(response)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/deployments", "GET, HEAD, POST"),
        ("PUT", "/models", "GET, HEAD, POST"),
        ("GET", "/predict/digits", "POST"),
        ("PUT", "/deployments/dep_x", "GET, HEAD, PATCH, DELETE"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("HEAD", "/predict/digits", "POST"),
        ("HEAD", "/batch/digits", "POST"),
    ],
)
async def test_a_wrong_method_is_405_with_every_method_of_the_path(
    bench: Bench, method: str, path: str, allowed: str
) -> None:
    response = await bench.request(method, path)
    assert response.status_code == 405
    if method == "HEAD":
        assert response.content == b""
    else:
        assert _code(response) == "method_not_allowed"
    assert set(response.headers["allow"].split(", ")) == set(allowed.split(", "))


@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits"])
@pytest.mark.parametrize(
    "content_type",
    [None, "application/x-www-form-urlencoded", "text/json", "application/json; charset=utf-16"],
)
async def test_a_body_that_is_not_declared_as_json_is_415_and_shows_the_header_to_add(
    bench: Bench, path: str, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await bench.request("POST", path, content=b'{"inputs": []}', headers=headers)
    assert (response.status_code, _code(response)) == (415, "unsupported_media_type")
    assert "-H 'content-type: application/json'" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/vnd.a+json"]
)
async def test_json_is_taken_under_all_its_names(bench: Bench, content_type: str) -> None:
    response = await bench.request(
        "POST", "/predict/digits", content=b"{}", headers={"content-type": content_type}
    )
    assert response.status_code == 400


async def test_the_same_content_type_twice_is_no_contradiction(bench: Bench) -> None:
    twice = [(b"content-type", b"application/json")] * 2
    assert (await bench.request("POST", "/predict/digits", content=b"{}", headers=twice)).status_code == 400
    differing = [*twice, (b"content-type", b"text/plain")]
    response = await bench.request("POST", "/predict/digits", content=b"{}", headers=differing)
    assert (response.status_code, _code(response)) == (415, "unsupported_media_type")
    assert "'application/json, text/plain'" in response.json()["error"]["message"]


async def test_a_compressed_body_is_415(bench: Bench) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = await bench.request("POST", "/predict/digits", content=b"{}", headers=headers)
    assert (response.status_code, _code(response)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits"])
async def test_a_declared_length_above_the_limit_is_413(bench: Bench, path: str) -> None:
    response = await bench.request(
        "POST", path, content=b"x" * 100_001, headers={"content-type": "application/json"}
    )
    assert (response.status_code, _code(response)) == (413, "payload_too_large")


async def test_a_body_without_a_length_is_not_read_beyond_the_limit(bench: Bench) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield b"x" * 10_000

    response = await bench.request(
        "POST", "/predict/digits", content=endless(), headers={"content-type": "application/json"}
    )
    assert (response.status_code, _code(response)) == (413, "payload_too_large")
    assert sent <= 120_000


@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000])
async def test_malformed_json_is_400(bench: Bench, path: str, body: bytes) -> None:
    response = await bench.request("POST", path, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, _code(response)) == (400, "malformed_json")


async def test_malformed_json_names_the_position(bench: Bench) -> None:
    response = await bench.request(
        "POST", "/predict/digits", content=b'{"inputs": [1,]}', headers={"content-type": "application/json"}
    )
    assert "column 14" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits"])
@pytest.mark.parametrize("body", [[], "text", 1, None])
async def test_a_body_that_is_no_object_is_400(bench: Bench, path: str, body: object) -> None:
    response = await bench.request(
        "POST", path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert (response.status_code, _code(response)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict/digits", {"inputs": [1], "inptus": [2]}),
        ("/predict/digits", {"inputs": [1], "options": {"timeout": 2}}),
        ("/deployments", {"model_uri": "models://a", "region": "us-east-1", "replica": 2}),
        ("/batch/digits", {"input_url": "https://a.example/x.csv", "web_hook": "https://a.example"}),
    ],
)
async def test_an_unknown_field_is_400_and_named(bench: Bench, path: str, body: dict[str, Any]) -> None:
    response = await bench.request("POST", path, json=body)
    assert (response.status_code, _code(response)) == (400, "invalid_request")
    field = response.json()["error"]["details"]["fields"][0]
    assert field["path"] in ("inptus", "options.timeout", "replica", "web_hook")
    assert field["path"] in response.json()["error"]["message"]


async def test_a_near_miss_is_answered_with_the_right_name(bench: Bench) -> None:
    response = await bench.predict("digits", [1], metdata={})
    assert "Did you mean metadata?" in response.json()["error"]["message"]


@pytest.mark.parametrize("given", ["a", "A-z.0_9", "x" * 128])
async def test_a_wellformed_request_id_is_kept(bench: Bench, given: str) -> None:
    response = await bench.http.get("/models", headers={"x-request-id": given})
    assert response.headers["x-request-id"] == given
    assert response.json()["error"]["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\x01", 'a"b', "é"])
async def test_any_other_request_id_is_replaced(bench: Bench, given: str) -> None:
    headers = [(b"x-request-id", given.encode("latin-1"))]
    response = await bench.http.get("/healthz", headers=headers)
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers.get_list("x-request-id") == [response.headers["x-request-id"]]


async def test_null_where_an_object_belongs_is_answered_without_a_class_name(bench: Bench) -> None:
    for path, field in (("/predict/digits", "options"), ("/predict/digits", "metadata")):
        body = {"inputs": [1], field: None if field == "options" else []}
        error = (await bench.request("POST", path, json=body)).json()["error"]
        assert error["message"] == f"{field}: Send an object."


async def test_a_bare_400_of_the_framework_does_not_point_to_fields_that_are_not_there() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": b"Malformed."})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(app)), base_url="http://x") as client:
        response = await client.get("/")
    assert (response.status_code, _code(response)) == (400, "invalid_request")
    assert "details" not in response.text


@pytest.mark.parametrize(
    "path",
    ["/models", "/models/digits", "/deployments", "/jobs", "/healthz", "/readyz", "/openapi.json", "/nope"],
)
async def test_head_is_answered_as_get_is_but_for_the_body(bench: Bench, path: str) -> None:
    """RFC 9110, 9.1: a server answers GET and HEAD; load balancers and `curl -I` ask with HEAD."""
    await bench.add_model("digits")
    same_id = {"x-request-id": "same"}
    get = await bench.request("GET", path, headers=same_id)
    head = await bench.request("HEAD", path, headers=same_id)
    moving = {"x-ratelimit-remaining", "x-ratelimit-reset"}
    assert head.status_code == get.status_code
    assert set(head.headers) == set(get.headers)
    assert {(k, v) for k, v in head.headers.items() if k not in moving} <= set(get.headers.items())
    assert (head.content, len(get.content)) == (b"", int(head.headers["content-length"]))


def _lasting(response: httpx.Response) -> dict[str, str]:
    """The headers but those that count requests."""
    return {name: value for name, value in response.headers.items() if not name.startswith("x-ratelimit-")}


async def test_head_needs_the_key_that_get_needs(bench: Bench) -> None:
    response = await bench.request("HEAD", "/models", key=None)
    assert (response.status_code, response.content) == (401, b"")
    assert response.headers["www-authenticate"]


async def test_every_answer_has_its_own_request_id(bench: Bench) -> None:
    answers = [await bench.request("GET", path) for path in ("/models", "/healthz", "/openapi.json", "/nope")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


async def test_a_defect_is_a_500_without_a_traceback_and_with_a_log_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ValueError("the secret inside")

    monkeypatch.setattr(ModelStore, "get", fail)
    with caplog.at_level(logging.ERROR):
        response = await bench.request("GET", "/models/digits")
    assert (response.status_code, _code(response)) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in caplog.text
    assert "the secret inside" in caplog.text


async def test_redis_away_is_503_with_retry_after(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.request("GET", "/models")

    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    monkeypatch.setattr(bench.services.store.redis, "hgetall", refuse)
    monkeypatch.setattr(bench.services.store.redis, "get", refuse)
    response = await bench.request("GET", "/models")
    assert (response.status_code, _code(response)) == (503, "unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_headers_that_ray_serve_would_obey_do_not_come_through() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent = {
        "X-Request-Timeout-Seconds": "0",
        "x-request-disconnect-disabled": "?1",
        "serve_multiplexed_model_id": "x",
        "x-session-id": "x",
        "x-request-id": "mine",
        "x-other": "kept",
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(app)), base_url="http://x") as client:
        await client.get("/", headers=sent)
    standard = {b"host", b"accept", b"accept-encoding", b"connection", b"user-agent"}
    ours = sorted(pair for pair in seen if pair[0] not in standard)
    assert ours == [(b"x-other", b"kept"), (b"x-request-id", b"mine")]


async def test_edges_nest_around_a_wrapper_that_answers_failures_itself() -> None:
    """Ray Serve's wrapper stands between two edges: the inner one has answered before it sees the exception."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise PlatformError("model_not_ready")

    def wrapped(inner: Any) -> Any:
        async def wrapper(scope: Any, receive: Any, send: Any) -> None:
            try:
                await inner(scope, receive, send)
            except PlatformError:
                headers = [(b"content-type", b"text/plain"), (b"x-request-id", b"theirs")]
                await send({"type": "http.response.start", "status": 500, "headers": headers})
                await send({"type": "http.response.body", "body": b"Internal Server Error"})

        return wrapper

    transport = httpx.ASGITransport(Edge(wrapped(Edge(app))))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        response = await client.get("/", headers={"x-request-id": "mine"})
    assert (response.status_code, _code(response)) == (409, "model_not_ready")
    assert response.headers.get_list("x-request-id") == ["mine"]


async def test_a_client_that_went_away_is_logged_as_499_and_not_as_our_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ray Serve answers 499 to nobody, then cancels; the log said 500."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 499, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        raise asyncio.CancelledError

    with caplog.at_level(logging.INFO, logger="fyretoolkit.access"), pytest.raises(asyncio.CancelledError):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(app)), base_url="http://x") as client:
            await client.get("/")
    assert json.loads(caplog.records[-1].message)["status"] == 499


async def test_one_log_line_a_request_without_secrets(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.deploy("sentiment-v1")
    with caplog.at_level(logging.DEBUG, logger="fyretoolkit"):
        response = await bench.predict(
            "sentiment-v1",
            ["a private sentence"],
            metadata={"correlation_id": "c-1", "user_id": 7, "note": "hidden"},
        )
        await bench.request("GET", "/nope?signature=hush")
    lines = [json.loads(record.message) for record in caplog.records if record.name == "fyretoolkit.access"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/predict/sentiment-v1", 200),
        ("GET", "/nope", 404),
    ]
    assert lines[0]["request_id"] == response.headers["x-request-id"]
    assert lines[0]["org"] == "org_demo"
    assert "c-1" in caplog.text
    for secret in ("private", "hush", "hidden", "12345", "Basic"):
        assert secret not in caplog.text
