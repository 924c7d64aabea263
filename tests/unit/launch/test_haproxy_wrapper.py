"""What Serve renders for HAProxy is narrowed to loopback before HAProxy reads it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import pytest

from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.launch import children
from fyretoolkit.launch.haproxy_wrapper import FAILURES, REFUSALS, confine
from tests.support.platform import free_port

# The lines of Serve's template that matter (ray 2.60, serve/_private/haproxy_templates.py), as rendered.
RENDERED = """global
    log stderr format raw local0 info
    stats socket /tmp/x/s mode 666 level admin expose-fd listeners
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    errorfile 502 /tmp/x/500.http
    errorfile 503 /tmp/x/500.http
    errorfile 504 /tmp/x/500.http
    balance leastconn
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
  stats enable
"""
# Besides the lines that every status of FAILURES and the frontend get, left out by `without_envelopes`.
CONFINED = """# confined to loopback
global
    tune.http.maxhdr 6000
    log stderr format raw local0 notice
    stats socket /tmp/x/s mode 600 level admin expose-fd listeners
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout http-request 15s
    timeout client 75s
    timeout server 75s
    balance leastconn
frontend prometheus
    bind 127.0.0.1:9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind 127.0.0.1:8404
  stats enable
"""


def test_pages_and_socket_are_narrowed_and_nothing_else_changes() -> None:
    """The whole file, line by line."""
    assert without_envelopes(confine(RENDERED)) == CONFINED


def without_envelopes(configuration: str) -> str:
    """The configuration less what answers in our schema."""
    ours = ("unique-id-format", "http-error", "http-request", "http-response")
    return "".join(line for line in configuration.splitlines(True) if not line.strip().startswith(ours))


def test_a_second_rewrite_changes_nothing() -> None:
    """Serve may start HAProxy twice with one file."""
    assert confine(confine(RENDERED)) == confine(RENDERED)


@pytest.mark.parametrize(
    ("host", "binds"),
    [
        ("127.0.0.1", ["bind 127.0.0.1:8000"]),
        ("0.0.0.0", ["bind 0.0.0.0:8000"]),
        ("::", ["bind :::8000 v4v6"]),
        ("10.0.0.1", ["bind 127.0.0.1:8000", "bind 10.0.0.1:8000"]),
        ("::1", ["bind 127.0.0.1:8000", "bind ::1:8000"]),
    ],
)
def test_the_api_alone_listens_where_the_operator_says(host: str, binds: list[str]) -> None:
    """And on loopback as ever; statistics and metrics stay there."""
    frontends = confine(RENDERED, host).partition("frontend http_frontend\n")
    api, listen, stats = frontends[2].partition("listen stats\n")
    assert [line.strip() for line in api.splitlines() if "bind" in line] == binds
    assert listen
    assert "bind 127.0.0.1:8404" in stats
    assert "bind 127.0.0.1:9101" in frontends[0]


def test_serve_still_renders_what_is_rewritten_here() -> None:
    """A new Ray whose template reads otherwise must not pass unnoticed."""
    template = _serve_template()
    assert "bind :{{ config.metrics_port }}" in template
    assert "bind *:{{ config.stats_port }}" in template
    assert "mode 666 level admin" in template
    assert "log {{ config.log_target }} local0 info" in template
    assert "    errorfile 502 {{ config.error_file_path }}\n" in template
    assert "\ndefaults\n" in template
    assert "\nfrontend http_frontend\n    bind {{" in template
    assert "\nbackend default_backend\n    http-request return status 404 " in template
    assert "{% if config.timeout_connect_s is not none %}timeout connect" in template


def _serve_template() -> str:
    from importlib.metadata import files

    (found,) = [
        file for file in files("ray") or () if str(file).endswith("serve/_private/haproxy_templates.py")
    ]
    return found.read_text()


def test_haproxy_accepts_the_confined_file(tmp_path: Path) -> None:
    """The generated executable rewrites the file it is given and becomes the real HAProxy, which checks it."""
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(RENDERED.replace("/tmp/x/s", str(tmp_path / "s")))
    wrapper = tmp_path / "haproxy"
    children.write_haproxy_wrapper(wrapper, "0.0.0.0")
    done = subprocess.run(
        [wrapper, "-c", "-f", configuration], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bind 127.0.0.1:8404" in configuration.read_text()
    assert "bind 0.0.0.0:8000" in configuration.read_text()


FRONTEND = """global
    tune.bufsize 65536
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server {patience}
    retries 0
    errorfile 502 /nowhere
    errorfile 503 /nowhere
    errorfile 504 /nowhere
frontend http_frontend
    bind 127.0.0.1:{port}
    {backend}
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
backend application
    server replica 127.0.0.1:{replica}
"""


@dataclass
class Front:
    """A running HAProxy, and the socket of the replica behind it."""

    port: int
    replica: socket.socket

    def answer(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            body = response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body

    def answer_behind(self, content_type: bytes, status: int) -> tuple[int, dict[str, str], bytes]:
        """What comes through of a replica's answer `{}`."""

        def reply() -> None:
            with self.replica.accept()[0] as connection:
                connection.recv(1000)
                head = b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
                connection.sendall(head % (status, content_type) + b"{}")

        thread = threading.Thread(target=reply)
        thread.start()
        found = self.answer(GET + b"\r\n")
        thread.join()
        return found


@pytest.fixture
def front(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Front]:
    """The bundled HAProxy behind our wrapper; by parameter, without an application to route to, or impatient."""
    chosen = {"backend": "default_backend application", "patience": "60s", **getattr(request, "param", {})}
    with socket.socket() as replica:
        replica.bind(("127.0.0.1", 0))
        port = free_port()
        configuration, wrapper = tmp_path / "haproxy.cfg", tmp_path / "haproxy"
        configuration.write_text(FRONTEND.format(port=port, replica=replica.getsockname()[1], **chosen))
        children.write_haproxy_wrapper(wrapper, "127.0.0.1")
        process = subprocess.Popen([wrapper, "-q", "-db", "-f", configuration])
        try:
            wait_for_listener(port, process)
            yield Front(port, replica)
        finally:
            process.kill()
            process.wait()


def wait_for_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as the port answers; fail when the process has ended."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return


def check_envelope(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> dict[str, str]:
    """Our error schema, with the header's request id in it; the headers."""
    found, headers, body = answer
    assert (found, headers["content-type"]) == (status, "application/json")
    error = json.loads(body)["error"]
    assert error.keys() == {"code", "message", "request_id"}
    assert error["code"] == code
    assert error["request_id"] == headers["x-request-id"]
    return headers


GET = b"GET /models HTTP/1.1\r\nhost: x\r\n"


def test_a_dead_replica_is_503_in_our_envelope(front: Front) -> None:
    """Serve's template made `500 text/plain` of it."""
    headers = check_envelope(front.answer(GET + b"\r\n"), 503, "unavailable")
    assert headers["retry-after"] == "1"
    assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("front", [{"patience": "300ms"}], indirect=True)
def test_a_silent_replica_is_504_in_our_envelope(front: Front) -> None:
    """It is there, and does not answer."""
    front.replica.listen()
    check_envelope(front.answer(GET + b"\r\n"), 504, "deadline_exceeded")


def test_a_replica_that_hangs_up_is_502_in_our_envelope(front: Front) -> None:
    """The other way to be there and not to answer."""
    front.replica.listen()

    def hang_up() -> None:
        with front.replica.accept()[0] as connection:
            connection.recv(1000)

    thread = threading.Thread(target=hang_up)
    thread.start()
    check_envelope(front.answer(GET + b"\r\n"), 502, "bad_gateway")
    thread.join()


@pytest.mark.parametrize("front", [{"backend": "default_backend default_backend"}], indirect=True)
def test_no_application_yet_is_503_in_our_envelope(front: Front) -> None:
    """During a restart the paths are still ours: Serve's `404 text/plain` said that they were not."""
    check_envelope(front.answer(GET + b"\r\n"), 503, "unavailable")


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [(b"my-Req_1.2", True), (b"a" * 127, True), (b"a" * 128, False), (b'a"b', False), (b"a b", False), (b"", False)],
)  # fmt: skip
def test_a_well_formed_request_id_of_the_caller_is_kept(front: Front, given: bytes, is_kept: bool) -> None:
    """As the API itself does; anything else gets a new one, and cannot break out of the JSON."""
    headers = check_envelope(front.answer(GET + b"x-request-id: " + given + b"\r\n\r\n"), 503, "unavailable")
    assert (headers["x-request-id"].encode() == given) == is_kept


def test_two_request_ids_are_none(front: Front) -> None:
    """Which of them would be meant?"""
    two = b"x-request-id: one\r\nx-request-id: two\r\n\r\n"
    assert check_envelope(front.answer(GET + two), 503, "unavailable")["x-request-id"].startswith("req_")


def test_a_header_of_20_kb_is_431_in_our_envelope(front: Front) -> None:
    """HAProxy's own answer was a page in HTML."""
    large = b"x-large: " + b"a" * 20_000 + b"\r\n\r\n"
    check_envelope(front.answer(GET + large), 431, "headers_too_large")


def test_many_headers_are_431_in_our_envelope(front: Front) -> None:
    """A hundred were HAProxy's limit, and its answer the page in HTML."""
    many = b"".join(b"x-%d: a\r\n" % number for number in range(2000))
    check_envelope(front.answer(GET + many + b"\r\n"), 431, "headers_too_large")


@pytest.mark.parametrize(
    "line", [b"CONNECT x:443 HTTP/1.1", b"BREW /models HTTP/1.1", b"get /models HTTP/1.1"]
)
def test_a_method_that_no_path_takes_is_405_in_our_envelope(front: Front, line: bytes) -> None:
    """The replicas' own server answered `Invalid HTTP request received.`"""
    headers = check_envelope(front.answer(line + b"\r\nhost: x:443\r\n\r\n"), 405, "method_not_allowed")
    assert headers["allow"] == "GET, HEAD, POST, PATCH, DELETE"


@pytest.mark.parametrize(
    "target",
    [b"*", b"models", b"/-/routes", b"/-/healthz", b"/%2d/routes", b"/-%2Froutes", b"/%2D%2fhealthz"],
)
def test_what_is_no_path_of_the_api_is_404_in_our_envelope(front: Front, target: bytes) -> None:
    """Serve's own pages among it: they name the applications to everybody."""
    check_envelope(front.answer(b"OPTIONS " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n"), 404, "not_found")


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid_request"), (500, "internal_error"), (503, "unavailable")]
)
def test_a_failure_of_the_replicas_server_is_said_in_our_envelope(
    front: Front, status: int, code: str
) -> None:
    """Uvicorn answers with a text what it cannot read; an answer of the API's own passes as it is."""
    front.replica.listen()
    check_envelope(front.answer_behind(b"text/plain; charset=utf-8", status), status, code)
    assert front.answer_behind(b"application/json", status)[2] == b"{}"


def test_a_client_that_asks_before_it_sends_is_answered_by_haproxy(front: Front) -> None:
    """A replica's server that is asked closes the connection of a refused request, and its answer was cut off."""
    heads: list[bytes] = []

    def reply() -> None:
        with front.replica.accept()[0] as connection:
            heads.append(connection.recv(1000))
            connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    front.replica.listen()
    thread = threading.Thread(target=reply)
    thread.start()
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as connection:
        connection.sendall(
            b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(1000).startswith(b"HTTP/1.1 204")
    thread.join()
    assert b"expect" not in heads[0].lower()


UNREACHABLE = {
    "a space in the path": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
    "bytes above ASCII in the path": b"GET /mod\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
    "a fragment in the path": b"GET /models#x HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method that is no token": b"F@O /models HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/0.9": b"GET /models\r\n\r\n",
    "two hosts": b"GET /models HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "an absolute target of another host": b"GET http://y/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "a host with a space": b"GET /models HTTP/1.1\r\nhost: a b\r\n\r\n",
    "CONNECT with a path": b"CONNECT /models HTTP/1.1\r\nhost: x\r\n\r\n",
    "two lengths": b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a length that is no number": b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
    "an unknown transfer coding": b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
    "a chunk without a size": b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    "a header without a colon": b"GET /models HTTP/1.1\r\nhost: x\r\nnocolon\r\n\r\n",
    "a header name with a space": b"GET /models HTTP/1.1\r\nhost: x\r\nbad name: y\r\n\r\n",
    "a NUL in a header": b"GET /models HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n",
    "a websocket without a key": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "a head of over 64 kB": b"GET /models HTTP/1.1\r\nhost: x\r\na: " + b"a" * 70_000 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100,
}
"""What HAProxy's parser refuses: no rule is evaluated then. `api/README.md` says so too."""


@pytest.mark.parametrize("case", UNREACHABLE)
def test_what_is_no_http_gets_haproxys_own_page(front: Front, case: str) -> None:
    """HAProxy 2.8 cannot be told otherwise. Once it can, this test fails: correct the docs."""
    status, headers, body = front.answer(UNREACHABLE[case])
    assert (status, headers["content-type"]) == (400, "text/html")
    assert b"400 Bad request" in body


def test_every_failure_has_a_code_of_the_catalogue() -> None:
    """With its status."""
    for status, (code, message) in (FAILURES | REFUSALS).items():
        assert CATALOGUE[code].status == status
        assert "'" not in message
