"""Errors and conventions: one envelope for every failure, whoever says it, and what every answer has."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fyretoolkit.api.edge import Edge
from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.settings import PROJECT_ROOT
from fyretoolkit.store.models import ModelStore
from tests.support.api_bench import Bench
from tests.support.conformance import GOOD, REGION, Caller, Organization, error_of, fields_of
from tests.support.sentences import sentence

CODES_PAGE = PROJECT_ROOT / "platform" / "fyretoolkit" / "api" / "ERRORS.md"
ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"


def exchange(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of one request as it goes over the wire; the connection is closed behind it."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=120) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


def assert_envelope(headers: dict[str, str], body: bytes, code: str) -> None:
    """The envelope around a failure that came over the wire."""
    error = json.loads(body)["error"]
    assert error["code"] == code
    assert error["request_id"] == headers["x-request-id"]
    assert headers["content-type"] == "application/json"


@sentence("errors-1", "errors-2")
@pytest.mark.parametrize("path", ["/nope", "/models/a/b/c", "/predict/", "//models", "/batch"])
def test_an_unknown_path(api: Caller, caller: Caller, path: str) -> None:
    """With a key and without."""
    for each in (api, caller):
        base = str(each.http.base_url).rstrip("/")  # two slashes at the beginning would name a host
        error_of(each.get(f"{base}{path}"), 404, "not_found")


@sentence("errors-1", "errors-3")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/models", {"GET", "HEAD", "POST"}),
        ("GET", "/predict/digits", {"POST"}),
        ("DELETE", "/jobs/job_x", {"GET", "HEAD"}),
        ("POST", "/deployments/dep_x", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("GET", "/batch/digits", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method(caller: Caller, method: str, path: str, allowed: set[str]) -> None:
    """`Allow` names every method that the path takes."""
    answer = caller.request(method, path)
    error_of(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@sentence("errors-4")
@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits", "/models"])
def test_a_body_over_the_limit(caller: Caller, path: str) -> None:
    """17 MiB, declared."""
    headers = {"content-type": "application/json"}
    answer = caller.post(path, content=b" " * (17 << 20), headers=headers)
    error_of(answer, 413, "payload_too_large")


@sentence("errors-4")
def test_a_body_of_100_mb(caller: Caller) -> None:
    """Sent in pieces, its length not said."""

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    answer = caller.post("/predict/digits", content=pieces(), headers={"content-type": "application/json"})
    error_of(answer, 413, "payload_too_large")


@sentence("errors-5")
@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits", "/models", "/api_keys"])
@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type(caller: Caller, path: str, content_type: str | None) -> None:
    """What curl sends with -d alone is told what to add."""
    headers = {"content-type": content_type} if content_type else {}
    answer = caller.post(path, content=b"{}", headers=headers)
    assert "application/json" in error_of(answer, 415, "unsupported_media_type")["message"]


@sentence("errors-6")
@pytest.mark.front
def test_a_header_of_20_kb(caller: Caller) -> None:
    """The envelope, although the HTTP server refuses it before the API sees it."""
    error_of(caller.get("/models", headers={"x-large": "x" * 20_000}), 431, "headers_too_large")


@sentence("errors-7")
@pytest.mark.anyio
async def test_a_defect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns nothing of the code; whoever reads the log finds it by the request id."""

    async def fail(*_: object, **__: object) -> None:
        raise ValueError("what went wrong inside")

    monkeypatch.setattr(ModelStore, "get", fail)
    with caplog.at_level(logging.ERROR):
        answer = await bench.request("GET", "/models/digits")
    error_of(answer, 500, "internal_error")
    assert "inside" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text


@sentence("errors-8")
@pytest.mark.anyio
async def test_a_part_that_is_away(bench: Bench) -> None:
    """503 and 504 have the envelope; what waits says how long."""
    bench.control["controller"] = "away"
    answer = await bench.request("GET", "/readyz")
    error_of(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    await bench.deploy("digits")
    bench.call.delay_s = 5
    late = await bench.predict("digits", [[0] * 64], options={"timeout_ms": 50})
    error_of(late, 504, "deadline_exceeded")


@sentence("errors-8")
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_a_layer_between_says_has_the_envelope(status: int) -> None:
    """A bare failure of the layers around the API is said in its words."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>Bad Gateway</html>"})

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Edge(bare))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    code = {500: "internal_error", 502: "bad_gateway", 503: "unavailable", 504: "deadline_exceeded"}[status]
    error_of(answer, status, code)


@sentence("errors-9")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/models"),
        ("POST", "/predict/digits"),
        ("GET", "/nope"),
        ("HEAD", "/jobs"),
    ],
)
def test_a_request_id_on_every_answer(caller: Caller, method: str, path: str) -> None:
    """Once, and another one each time."""
    answers = [caller.request(method, path) for _ in range(2)]
    ids = [answer.headers.get_list("x-request-id") for answer in answers]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0] != ids[1]


@sentence("errors-10")
def test_the_callers_request_id(caller: Caller) -> None:
    """Kept if it is well-formed, replaced if not, in the header and in the body."""
    for given in ("a", "My-id_1.2", "x" * 128):
        for path in ("/models", "/models/not-here"):
            answer = caller.get(path, headers={"x-request-id": given})
            assert answer.headers["x-request-id"] == given
        assert error_of(answer, 404, "model_not_found")["request_id"] == given
    for given in ("a b", "x" * 129, 'a"b', ""):
        answer = caller.get("/models/not-here", headers={"x-request-id": given})
        assert re.fullmatch(f"req_{ULID}", error_of(answer, 404, "model_not_found")["request_id"])


@sentence("errors-11")
@pytest.mark.parametrize("path", ["/predict/digits", "/deployments", "/batch/digits", "/models"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b"[" * 10_000])
def test_malformed_json(caller: Caller, path: str, body: bytes) -> None:
    """Whichever operation it is sent to."""
    answer = caller.post(path, content=body, headers={"content-type": "application/json"})
    error_of(answer, 400, "malformed_json")


MISFITS: list[tuple[str, dict[str, Any], str]] = [
    ("/predict/digits", {}, "inputs"),
    ("/predict/digits", {"inputs": "text"}, "inputs"),
    ("/predict/digits", {"inputs": [1], "options": {"on_error": "ignore"}}, "options.on_error"),
    ("/deployments", {"region": REGION}, "model_uri"),
    ("/deployments", {"model_uri": "models://digits"}, "region"),
    ("/deployments", {"model_uri": "models://digits", "region": REGION, "replicas": "2"}, "replicas"),
    ("/deployments", {"model_uri": "models://digits", "region": REGION, "replicas": 0}, "replicas"),
    ("/batch/digits", {}, "input_url"),
    ("/batch/digits", {"input_url": 5}, "input_url"),
    ("/batch/digits", {"input_url": "https://a.example/a.csv", "max_error_rate": 1.5}, "max_error_rate"),
    ("/models", {"model_uri": 1}, "model_uri"),
    ("/api_keys", {"name": ["x"]}, "name"),
]


@sentence("errors-12", "errors-14")
@pytest.mark.parametrize(("path", "body", "field"), MISFITS)
def test_a_field_that_does_not_fit(caller: Caller, path: str, body: dict[str, Any], field: str) -> None:
    """Missing or of another type: 400 that names it."""
    assert fields_of(caller.post(path, body)) == [field]


@sentence("errors-13", "errors-14")
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/predict/digits", {"inputs": [1], "inptus": [2]}, "inptus"),
        ("/predict/digits", {"inputs": [1], "options": {"timeout": 2}}, "options.timeout"),
        ("/deployments", {"model_uri": "models://digits", "region": REGION, "replica": 2}, "replica"),
        ("/batch/digits", {"input_url": "https://a.example/a.csv", "web_hook": "x"}, "web_hook"),
        ("/models", {"id": "a", "status": "training", "descripton": "x"}, "descripton"),
        ("/api_keys", {"name": "x", "scope": ["read"]}, "scope"),
        ("/organizations", {"name": "x", "plans": "free"}, "plans"),
    ],
)
def test_an_unknown_field(
    caller: Caller, operator: Caller, path: str, body: dict[str, Any], field: str
) -> None:
    """A typo is never ignored."""
    by = operator if path == "/organizations" else caller
    assert fields_of(by.post(path, body)) == [field]


@sentence("errors-15")
def test_impossible_requests(caller: Caller) -> None:
    """Well-formed, and yet it cannot be done."""
    deployment = {"model_uri": "models://digits", "region": "mars"}
    error_of(caller.post("/deployments", deployment), 422, "invalid_region")
    job = {"input_url": "http://169.254.169.254/a.csv"}
    error_of(caller.post("/batch/digits", job), 422, "url_not_allowed")
    error_of(caller.post("/predict/digits", {"inputs": [[1, 2]]}), 422, "invalid_input")


@sentence("errors-18")
def test_a_conflict(caller: Caller) -> None:
    """What would have been fine in another state."""
    body = {"id": "conflicting", "status": "training"}
    caller.post("/models", body)
    error_of(caller.post("/models", body), 409, "model_conflict")


@sentence("errors-16")
def test_the_table_of_codes() -> None:
    """Each code with its status and whether a retry can help; none that there is no more."""
    rows = {
        cells[0].strip("`"): cells
        for line in CODES_PAGE.read_text("utf-8").splitlines()
        if line.startswith("| `")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert rows.keys() == CATALOGUE.keys()
    for code, kind in CATALOGUE.items():
        assert str(kind.status) in rows[code], code
        assert any(cell.lower() in ("yes", "no") for cell in rows[code]), code


@sentence("errors-17")
@pytest.mark.parametrize(
    ("method", "path", "body", "step"),
    [
        ("GET", "/models/not-here", None, "GET /models"),
        ("GET", "/deployments/dep_x", None, "GET /deployments"),
        ("GET", "/nope", None, "/openapi.json"),
        ("POST", "/deployments", {"model_uri": "models://digits", "region": "mars"}, "us-east-1"),
        ("POST", "/predict/digits", {"inptus": []}, "Did you mean inputs?"),
    ],
)
def test_messages_name_the_next_step(caller: Caller, method: str, path: str, body: Any, step: str) -> None:
    """What to do is in the message."""
    answer = caller.request(method, path, **({"json": body} if body is not None else {}))
    assert step in answer.json()["error"]["message"]


@sentence("errors-19")
def test_no_header_switches_the_deadline_off(caller: Caller) -> None:
    """Neither shortens it nor lifts it."""
    headers = {
        "x-request-timeout-seconds": "0.000001",
        "x-request-disconnect-disabled": "?1",
        "serve_multiplexed_model_id": "x",
    }
    answer = caller.post("/predict/sentiment-v1", {"inputs": [GOOD]}, headers=headers)
    assert answer.status_code == 200
    late = {"inputs": [GOOD * 40] * 1024, "options": {"timeout_ms": 1}}
    answer = caller.post("/predict/sentiment-v1", late, headers={"x-request-timeout-seconds": "60"})
    error_of(answer, 504, "deadline_exceeded")


@sentence("errors-20")
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/models", 401, "invalid_api_key"), ("/nope", 404, "not_found"), ("/healthz", 200, None)],
)
def test_http_1_0(api_url: str, path: str, status: int, code: str | None) -> None:
    """Old clients and health checks of load balancers speak it."""
    answered, headers, body = exchange(api_url, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert answered == status
    if code:
        assert_envelope(headers, body, code)


@sentence("auth-4", "errors-1")
def test_a_broken_authorization_on_the_wire(api_url: str) -> None:
    """Bytes that are no text."""
    request = b"GET /models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic \xff\xfe\r\nConnection: close\r\n\r\n"
    status, headers, body = exchange(api_url, request)
    assert status == 401
    assert_envelope(headers, body, "invalid_api_key")


@sentence("wire-1", "wire-2")
def test_times_and_ids(
    org: Organization, deployment: dict[str, Any], jobs: dict[str, dict[str, Any]]
) -> None:
    """Whole seconds that are now; prefixes and ULIDs."""
    file = org.caller.read("/files", params={"limit": 1})["data"][0]
    key = org.caller.read(f"/api_keys/{org.key['id']}")
    prediction = org.caller.post("/predict/table", {"inputs": [1]}).json()
    objects = {"dep": deployment, "job": jobs["rows"], "file": file, "key": key, "pred": prediction}
    for prefix, found in objects.items():
        assert re.fullmatch(f"{prefix}_{ULID}", found["id"])
        assert isinstance(found["created"], int)
        assert abs(time.time() - found["created"]) < 7 * 86_400
    assert re.fullmatch(f"org_{ULID}", org.id)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]?", deployment["model"])


@sentence("wire-3")
@pytest.mark.parametrize("path", ["/models", "/jobs", "/healthz", "/openapi.json", "/nope", "/models/digits"])
def test_json(caller: Caller, path: str) -> None:
    """Said and meant."""
    answer = caller.get(path)
    assert answer.headers["content-type"] == "application/json"
    answer.json()


@sentence("wire-4")
@pytest.mark.parametrize(
    "path", ["/models", "/models/digits", "/jobs", "/files", "/healthz", "/openapi.json"]
)
def test_head(caller: Caller, path: str) -> None:
    """The same answer without its body."""
    get, head = caller.get(path), caller.request("HEAD", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    moving = {"x-request-id", "date", "x-ratelimit-remaining", "x-ratelimit-reset"}
    assert head.headers.keys() - moving == get.headers.keys() - moving
    assert head.headers["content-type"] == get.headers["content-type"]


@sentence("wire-5", "wire-7")
def test_creations_say_where(org: Organization) -> None:
    """`Location` leads to the object; 201 for what is there, 202 for what is to be done."""
    caller = org.caller
    job = {"input_url": "file:///not-here/a.csv"}
    answers = [
        (201, caller.post("/files", content=b"x", headers={"content-type": "text/plain"})),
        (201, caller.post("/api_keys", {"name": "x"})),
        (201, caller.post("/deployments", {"model_uri": "file:///not-here/x.onnx", "region": REGION})),
        (202, caller.post("/batch/digits", job)),
    ]
    for status, answer in answers:
        assert answer.status_code == status
        found = caller.get(answer.headers["location"])
        assert (found.status_code, found.json()["id"]) == (200, answer.json()["id"])


@sentence("wire-6")
def test_the_order_of_refusals(org: Organization) -> None:
    """Whoever is not known learns nothing of scopes, whoever may not learns nothing of bodies, and so on."""
    reader = org.scoped("read")
    text = {"content": b"{", "headers": {"content-type": "text/plain"}}
    json_type = {"content-type": "application/json"}
    error_of(reader.with_key(None).post("/deployments", **text), 401, "invalid_api_key")
    error_of(reader.post("/deployments", **text), 403, "insufficient_scope")
    error_of(org.caller.post("/deployments", **text), 415, "unsupported_media_type")
    error_of(org.caller.post("/deployments", content=b"{", headers=json_type), 400, "malformed_json")
    wrong = {"model_uri": "models://not-here", "region": "mars", "replicas": 0}
    assert fields_of(org.caller.post("/deployments", wrong)) == ["replicas"]
    impossible = {**wrong, "region": REGION, "replicas": 1}
    error_of(org.caller.post("/deployments", impossible), 404, "model_not_found")
