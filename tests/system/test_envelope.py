"""Whatever is sent, HAProxy and the API answer in one schema: the envelope, with the request id of the header in it.

What HAProxy 2.8 cannot parse at all is out of reach; `tests/unit/launch/test_haproxy_wrapper.py` names each such case.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from fyretoolkit.cli.log_files import LogReader, find_logs
from fyretoolkit.cli.platform import read_running
from fyretoolkit.schemas.errors import ErrorEnvelope
from tests.support.platform import RunningPlatform, until

pytestmark = pytest.mark.system

MEGABYTE = b"x" * 1_000_000


@dataclass(frozen=True)
class Answer:
    """What came back on the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header that is there once."""
        (value,) = [value for found, value in self.headers if found.lower() == name]
        return value

    def check_envelope(self, status: int, code: str) -> None:
        """One error in our schema, its request id that of the header."""
        assert self.status == status, self.body
        envelope = ErrorEnvelope.model_validate_json(self.body)
        assert envelope.error.code == code
        assert self.header("x-request-id") == envelope.error.request_id
        assert self.header("content-type") == "application/json"


@dataclass(frozen=True)
class Wire:
    """Sends bytes as they are, with a key of an organization without limits at hand."""

    port: int
    key: str

    @property
    def basic(self) -> bytes:
        """The Authorization header."""
        return b"authorization: Basic " + base64.b64encode(f"{self.key}:".encode())

    def send(self, head: bytes, *headers: bytes, body: tuple[bytes, ...] = ()) -> Answer:
        """The answer to a request line, headers and a body; a body is sent until the other side has enough of it."""
        method = head.partition(b" ")[0].decode("latin-1")
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            connection.sendall(b"".join(line + b"\r\n" for line in (head, *headers)) + b"\r\n")
            with suppress(ConnectionError):
                for part in body:
                    connection.sendall(part)
            response = HTTPResponse(connection, method=method)
            response.begin()
            return Answer(response.status, response.getheaders(), response.read())


@pytest.fixture(scope="module")
def wire(platform: RunningPlatform) -> Wire:
    """Limits are not what is tested here."""
    with platform.client() as client:
        made = client.post("/organizations", json={"name": "wire", "plan": "unlimited"})
    assert made.status_code == 201, made.text
    return Wire(platform.port, made.json()["api_key"]["key"])


HOST = b"host: api.localhost"
JSON = b"content-type: application/json"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic !!!",
        b"Basic c2tfbGl2ZV9kZW1vXzEyMzQ1",
        b"Bearer",
        b"Bearer \xff\xfe",
        b"Digest username=x",
        b"Basic " + b"QUFB" * 2000,
        b"null",
    ],
)
def test_a_broken_authorization_header_is_401(wire: Wire, value: bytes) -> None:
    """One message for all of them, and the challenge."""
    answer = wire.send(b"GET /models HTTP/1.1", HOST, b"authorization: " + value)
    answer.check_envelope(401, "invalid_api_key")
    assert answer.header("www-authenticate") == 'Basic realm="FyreToolkit"'


def test_two_authorization_headers_are_401(wire: Wire) -> None:
    """Even when both are right: which one counts?"""
    wire.send(b"GET /models HTTP/1.1", HOST, wire.basic, wire.basic).check_envelope(401, "invalid_api_key")


@pytest.mark.parametrize(
    "header",
    [b"x-large: " + b"a" * 20_000, b"cookie: " + b"a=b; " * 4000, b"authorization: Basic " + b"Q" * 20_000],
)
def test_a_header_of_20_kb_is_431(wire: Wire, header: bytes) -> None:
    wire.send(b"GET /models HTTP/1.1", HOST, header).check_envelope(431, "headers_too_large")


def test_two_thousand_headers_are_431(wire: Wire) -> None:
    headers = [b"x-%d: a" % number for number in range(2000)]
    wire.send(b"GET /models HTTP/1.1", HOST, *headers).check_envelope(431, "headers_too_large")


@pytest.mark.parametrize(
    "path",
    [
        b"/nope",
        b"/models/",
        b"//models",
        b"/models//digits",
        b"/%2e%2e/models",
        b"/models/%2e%2e/models",
        b"/models/%00",
        b"/models/digits%00",
        b"/models/a%2Fb",
        b"/models/%ff%fe",
        b"/models/%zz",
        b"/predict/",
        b"/-/routes",
        b"/-/healthz",
        b"/" + b"a" * 20_000,
        b"/models/" + b"a" * 50_000,
        b"/models/" + b"%41" * 10_000,
        b"/../../etc/passwd",
        b"/models;x=1",
    ],
)
def test_a_path_that_is_none_is_404(wire: Wire, path: bytes) -> None:
    """Encoded, doubled, dotted, long or Serve's own."""
    answer = wire.send(b"GET " + path + b" HTTP/1.1", HOST, wire.basic)
    if path == b"/predict/":
        answer.check_envelope(404, "not_found")
    else:
        assert answer.status == 404
        answer.check_envelope(404, json.loads(answer.body)["error"]["code"])
        assert json.loads(answer.body)["error"]["code"] in ("not_found", "model_not_found")


def test_a_query_that_fits_nothing_is_400(wire: Wire) -> None:
    """Raw and encoded, long and without end."""
    for query in (
        b"?limit=abc",
        b"?limit=%00",
        b"?limit=" + b"9" * 5000,
        b"?limit=1&limit=x",
        b"?starting_after=%ff",
    ):
        answer = wire.send(b"GET /models" + query + b" HTTP/1.1", HOST, wire.basic)
        assert answer.status == 400
        answer.check_envelope(400, json.loads(answer.body)["error"]["code"])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (b"PUT", b"/models/digits", "GET, HEAD"),
        (b"DELETE", b"/readyz", "GET, HEAD"),
        (b"GET", b"/predict/digits", "POST"),
        (b"OPTIONS", b"/predict/digits", "POST"),
        (b"OPTIONS", b"/healthz", "GET, HEAD"),
        (b"TRACE", b"/healthz", "GET, HEAD"),
        (b"BREW", b"/healthz", None),
        (b"get", b"/healthz", None),
        (b"PROPFIND", b"/healthz", None),
    ],
)
def test_a_wrong_method_is_405_with_those_that_are_right(
    wire: Wire, method: bytes, path: bytes, allowed: str | None
) -> None:
    """TRACE would echo the key; methods that no path takes get the list of those that some path does."""
    answer = wire.send(method + b" " + path + b" HTTP/1.1", HOST, wire.basic)
    answer.check_envelope(405, "method_not_allowed")
    assert answer.header("allow") == (allowed or "GET, HEAD, POST, PATCH, DELETE")
    assert wire.key.encode() not in answer.body


def test_connect_and_targets_that_are_no_path(wire: Wire) -> None:
    """This is no proxy, and a server has no other resources than its paths."""
    wire.send(b"CONNECT api.localhost:443 HTTP/1.1", b"host: api.localhost:443").check_envelope(
        405, "method_not_allowed"
    )
    for line in (b"OPTIONS * HTTP/1.1", b"GET * HTTP/1.1", b"GET models HTTP/1.1"):
        wire.send(line, HOST, wire.basic).check_envelope(404, "not_found")


def test_an_absolute_target_is_the_path_in_it(wire: Wire) -> None:
    """RFC 9112, 3.2.2: a server accepts it."""
    assert wire.send(b"GET http://api.localhost/models HTTP/1.1", HOST, wire.basic).status == 200
    wire.send(b"GET http://api.localhost/nope HTTP/1.1", HOST, wire.basic).check_envelope(404, "not_found")


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"nonsense"])
def test_an_upgrade_is_ignored(wire: Wire, protocol: bytes) -> None:
    """The replica's server refused a websocket with a bare 403."""
    upgrade = (
        b"connection: upgrade",
        b"upgrade: " + protocol,
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        b"sec-websocket-version: 13",
    )
    wire.send(b"GET /models HTTP/1.1", HOST, *upgrade).check_envelope(401, "invalid_api_key")
    wire.send(b"GET /nope HTTP/1.1", HOST, wire.basic, *upgrade).check_envelope(404, "not_found")


@pytest.mark.parametrize("path", [b"/nope", b"/models", b"/predict/digits", b"/jobs/job_x"])
def test_head_has_the_headers_of_a_failure_and_no_body(wire: Wire, path: bytes) -> None:
    answer = wire.send(b"HEAD " + path + b" HTTP/1.1", HOST)
    assert answer.status in (401, 404, 405)
    assert answer.header("content-type") == "application/json"
    assert re.fullmatch(r"req_[0-9A-Za-z-]+", answer.header("x-request-id"))
    assert answer.body == b""


@pytest.mark.parametrize("path", [b"/predict/digits", b"/batch/digits", b"/deployments", b"/organizations"])
@pytest.mark.parametrize("content_type", [b"x-none: 1", b"content-type: text/plain", b"content-type: \xff"])
def test_a_wrong_content_type_is_415(wire: Wire, path: bytes, content_type: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1"
    answer = wire.send(head, HOST, wire.basic, content_type, b"content-length: 2", body=(b"{}",))
    if path == b"/organizations":
        assert answer.status in (403, 415)
    else:
        answer.check_envelope(415, "unsupported_media_type")


@pytest.mark.parametrize("path", [b"/predict/digits", b"/batch/digits", b"/deployments"])
@pytest.mark.parametrize("body", [b"", b"{", b"\x00", b"\xff\xfe", b'{"inputs": [NaN]}', b"[" * 50_000])
def test_malformed_json_is_400(wire: Wire, path: bytes, body: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1"
    length = b"content-length: %d" % len(body)
    wire.send(head, HOST, wire.basic, JSON, length, body=(body,)).check_envelope(400, "malformed_json")


@pytest.mark.parametrize("path", [b"/predict/digits", b"/batch/digits", b"/deployments", b"/api_keys"])
@pytest.mark.parametrize("expect", [b"x-none: 1", b"expect: 100-continue"])
def test_a_body_of_100_mb_is_413(wire: Wire, path: bytes, expect: bytes) -> None:
    """Declared or in chunks, asked for or not: the whole answer arrives, though it left before the body was read."""
    head = b"POST " + path + b" HTTP/1.1"
    chunk = b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE)
    for length, part in ((b"content-length: 100000000", MEGABYTE), (b"transfer-encoding: chunked", chunk)):
        answer = wire.send(head, HOST, wire.basic, JSON, expect, length, body=(part,) * 100)
        answer.check_envelope(413, "payload_too_large")


def test_a_body_without_a_key_is_refused_unread(wire: Wire) -> None:
    """Nobody sends us 100 MB without being known."""
    head = b"POST /predict/digits HTTP/1.1"
    answer = wire.send(head, HOST, JSON, b"content-length: 100000000", body=(MEGABYTE,))
    answer.check_envelope(401, "invalid_api_key")


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_without_a_host_header_and_in_http_1_0_it_is_the_same_api(wire: Wire, version: bytes) -> None:
    """RFC 9112 lets a server refuse HTTP/1.1 without Host; nothing here depends on it."""
    assert wire.send(b"GET /models " + version, wire.basic, b"connection: close").status == 200
    wire.send(b"GET /models " + version, b"connection: close").check_envelope(401, "invalid_api_key")
    wire.send(b"GET /nope " + version, b"connection: close").check_envelope(404, "not_found")
    wire.send(b"PUT /models/digits " + version, b"connection: close").check_envelope(
        405, "method_not_allowed"
    )
    answer = wire.send(
        b"POST /predict/digits " + version, wire.basic, JSON, b"content-length: 1", body=(b"{",)
    )
    answer.check_envelope(400, "malformed_json")


def test_the_same_length_twice_is_no_contradiction(wire: Wire) -> None:
    """RFC 9110, 8.6. Two different ones are no HTTP: see the list of what HAProxy answers itself."""
    lengths = (b"content-length: 2", b"content-length: 2")
    answer = wire.send(b"POST /predict/digits HTTP/1.1", HOST, wire.basic, JSON, *lengths, body=(b"{}",))
    answer.check_envelope(400, "invalid_request")


@pytest.mark.parametrize("given", [b"mine-1.2_3", b"a" * 128])
def test_a_request_id_of_the_caller_is_in_header_and_body(wire: Wire, given: bytes) -> None:
    answer = wire.send(b"GET /nope HTTP/1.1", HOST, b"x-request-id: " + given)
    answer.check_envelope(404, "not_found")
    assert answer.header("x-request-id") == given.decode()


DIGIT = {"inputs": [[0, 0, 5, 13, 9, 1, 0, 0] * 8]}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-request-timeout-seconds": "0.000001"},
        {"x-request-timeout-seconds": "-1"},
        {"x-request-timeout-seconds": "nonsense"},
        {"x-request-disconnect-disabled": "?1"},
        {"serve_multiplexed_model_id": "another"},
        {"serve-multiplexed-model-id": "another"},
        {"x-session-id": "another"},
        {"x-request-timeout-seconds": "0.000001", "x-request-disconnect-disabled": "?1", "x-session-id": "s"},
    ],
)
def test_headers_that_ray_serve_would_obey_change_nothing(
    platform: RunningPlatform, wire: Wire, headers: dict[str, str]
) -> None:
    """A caller can neither switch deadlines off nor steer which replica answers. Predict and the other paths alike."""
    with httpx.Client(base_url=platform.url, auth=(wire.key, ""), timeout=120, trust_env=False) as client:
        plain = client.post("/predict/digits", json=DIGIT)
        assert plain.status_code == 200, plain.text
        for _ in range(3):
            answer = client.post("/predict/digits", json=DIGIT, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["results"] == plain.json()["results"]
        models = client.get("/models", headers=headers)
        assert (models.status_code, models.json()) == (200, client.get("/models").json())


def test_a_request_is_found_in_the_log_by_its_id(platform: RunningPlatform, wire: Wire) -> None:
    """The id that an error names leads an operator to a line of `fyre logs ingress`."""
    with httpx.Client(base_url=platform.url, auth=(wire.key, ""), timeout=120, trust_env=False) as client:
        answer = client.get("/jobs/job_unknown")
    state = read_running(platform.home)
    assert state is not None
    logs = find_logs(platform.home, Path(state["runtime_dir"]) / "ray" / "session_latest" / "logs", "ingress")

    def found() -> list[str]:
        lines = [line.text for path, label in logs.items() for line in LogReader(path, label).new_lines()]
        return [line for line in lines if answer.headers["x-request-id"] in line]

    (line,) = until(found, timeout_s=30, what="the line of a request that was answered a moment ago")
    assert '"path": "/jobs/job_unknown", "status": 404' in line
