"""Downloads from a real server on loopback: what arrives, what is refused before a connection, what is bounded."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress import download as downloads
from fyretoolkit.egress.fetch import Fetched, Timeouts, fetch, timeouts_from
from fyretoolkit.egress.pinned import Resolver, resolve_host
from fyretoolkit.egress.urls import Policy
from fyretoolkit.settings import EgressSettings

if TYPE_CHECKING:
    from conftest import Origin, Trap

QUICK = Timeouts(connect_s=10, read_s=10, total_s=60)


class Answers:
    """A resolver that gives one prepared answer after the other and counts how often it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where downloads go; a test that fails to download expects it empty."""
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def download(
    url: str,
    folder: Path,
    policy: Policy,
    *,
    resolve: Resolver = resolve_host,
    max_bytes: int = 1 << 20,
    timeouts: Timeouts = QUICK,
) -> Fetched:
    return asyncio.run(
        fetch(
            url,
            folder / "input",
            policy=policy,
            max_bytes=max_bytes,
            timeouts=timeouts,
            resolve=resolve,
            not_found_code="input_not_found",
            unreachable_code="input_unreachable",
            too_large_code="input_too_large",
        )
    )


def failure(url: str, folder: Path, policy: Policy, **options: object) -> PlatformError:
    """The error of a download that must fail and leave nothing behind."""
    with pytest.raises(PlatformError) as caught:
        download(url, folder, policy, **options)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []
    return caught.value


def test_a_file_arrives_whole(origin: Origin, folder: Path, development: Policy) -> None:
    """Bytes, digest, headers; the request asks for no compression and carries nothing of ours."""
    body = bytes(range(256)) * 20_000
    origin.answer("/a.csv", 200, body, content_type="text/csv", etag='"v1"')
    fetched = download(origin.url("/a.csv?sig=secret"), folder, development, max_bytes=len(body))
    expected = Fetched(
        path=folder / "input",
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        content_type="text/csv",
        etag='"v1"',
        final_url=origin.url("/a.csv"),
        name="a.csv",
    )
    assert fetched == expected
    assert fetched.path.read_bytes() == body
    assert list(folder.iterdir()) == [folder / "input"]
    [(path, headers)] = origin.requests
    assert path == "/a.csv?sig=secret"
    assert headers == {
        "host": f"127.0.0.1:{origin.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_an_empty_file_replaces_what_was_there(origin: Origin, folder: Path, development: Policy) -> None:
    """The destination is replaced in one step; no headers means None."""
    (folder / "input").write_text("old")
    origin.answer("/", 200)
    fetched = download(origin.url(""), folder, development)
    assert (fetched.size_bytes, fetched.content_type, fetched.etag) == (0, None, None)
    assert (folder / "input").read_bytes() == b""


def test_redirects_are_followed_up_to_the_limit(origin: Origin, folder: Path, development: Policy) -> None:
    """Three by default; absolute, rooted and relative; the fourth is an error."""
    origin.answer("/d/file.csv", 200, b"abc")
    origin.answer("/3", 302, location="d/file.csv")
    origin.answer("/2", 307, location="/3")
    origin.answer("/1", 301, location=origin.url("/2"))
    origin.answer("/0", 308, location="/1")
    assert download(origin.url("/1"), folder, development).final_url == origin.url("/d/file.csv")
    (folder / "input").unlink()
    assert failure(origin.url("/0"), folder, development).code == "input_unreachable"


@pytest.mark.parametrize(
    "location",
    [
        "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://localhost\\@127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://inside.example:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "http:///{port}/",
        "http:{port}",
        "//",
        "///{port}/",
    ],
)
def test_a_redirect_to_what_is_forbidden_connects_nowhere(
    location: str, origin: Origin, trap: Trap, folder: Path, development: Policy
) -> None:
    """The server that was allowed cannot send us on: a listener at the forbidden place sees no connection."""
    origin.answer("/", 302, location=location.format(port=trap.port))
    policy = replace(development, ports=frozenset({80, trap.port}))
    error = failure(origin.url("/"), folder, policy, resolve=Answers(["127.0.0.1"]))
    assert error.code == "url_not_allowed"
    assert trap.is_untouched()


def test_a_redirect_never_leads_to_a_file(
    origin: Origin, root: Path, folder: Path, development: Policy
) -> None:
    """Not even to a file that the caller could have named: the server chose it, the caller did not."""
    (root / "a.csv").write_text("abc")
    origin.answer("/", 302, location=f"file://{root}/a.csv")
    error = failure(origin.url("/"), folder, development)
    assert (error.code, "file:// is not allowed" in error.message) == ("url_not_allowed", True)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["0.0.0.0"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%lo"],
        ["8.8.8.8", "127.0.0.1"],
    ],
)
@pytest.mark.parametrize("mode", ["production", "development"])
def test_a_name_that_leads_inside_connects_nowhere(
    addresses: list[str], mode: str, trap: Trap, folder: Path, request: pytest.FixtureRequest
) -> None:
    """One forbidden address among the answers refuses the name, in development too: loopback must be named."""
    policy = replace(request.getfixturevalue(mode), ports=frozenset({trap.port}))
    url = f"https://rebind.example:{trap.port}/"
    assert failure(url, folder, policy, resolve=Answers(addresses)).code == "url_not_allowed"
    assert trap.is_untouched()


def test_a_name_is_resolved_once_and_pinned(origin: Origin, folder: Path, development: Policy) -> None:
    """Rebinding: the second answer of the resolver, a forbidden one, is never asked for; Host keeps the name."""
    origin.answer("/", 200, b"abc")
    resolve = Answers(["127.0.0.1"], ["169.254.169.254"])
    download(origin.url("/", host="pinned.localhost"), folder, development, resolve=resolve)
    assert resolve.asked == ["pinned.localhost"]
    assert origin.requests[0][1]["host"] == f"pinned.localhost:{origin.port}"


def test_each_hop_is_resolved_and_checked_again(origin: Origin, folder: Path, development: Policy) -> None:
    """The same name may answer otherwise for the second hop; that answer is checked as the first was."""
    origin.answer("/", 302, location="/next")
    resolve = Answers(["127.0.0.1"], ["10.0.0.1"])
    error = failure(origin.url("/", host="hop.localhost"), folder, development, resolve=resolve)
    assert error.code == "url_not_allowed"
    assert [path for path, _ in origin.requests] == ["/"]


def test_localhost_must_lead_to_loopback(trap: Trap, folder: Path, development: Policy) -> None:
    """`localhost` is allowed any port, so it must not be a way to any port of a public host."""
    url = f"http://localhost:{trap.port}/"
    assert failure(url, folder, development, resolve=Answers(["8.8.8.8"])).code == "url_not_allowed"


def test_the_next_address_is_tried(origin: Origin, folder: Path, development: Policy) -> None:
    """A name with a dead first address still works."""
    origin.answer("/", 200, b"abc")
    resolve = Answers(["127.0.0.2", "::1", "127.0.0.1"])
    assert download(origin.url("/", host="localhost"), folder, development, resolve=resolve).size_bytes == 3


def test_a_name_that_does_not_resolve_is_unreachable(folder: Path, development: Policy) -> None:
    """Through the system's own resolver (RFC 6761: .invalid never exists), and with an empty answer."""
    assert failure("http://nothing.invalid/", folder, development).code == "input_unreachable"
    error = failure("http://nothing.example/", folder, development, resolve=Answers([]))
    assert (error.code, "nothing.example" in error.message) == ("input_unreachable", True)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "input_not_found"),
        (410, "input_not_found"),
        (401, "input_unreachable"),
        (403, "input_unreachable"),
        (206, "input_unreachable"),
        (304, "input_unreachable"),
        (302, "input_unreachable"),
        (500, "input_unreachable"),
        (503, "input_unreachable"),
    ],
)
def test_status_becomes_a_code(
    status: int,
    code: str,
    origin: Origin,
    folder: Path,
    development: Policy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names the host and the status, never the query or the server's own words."""
    monkeypatch.setattr(downloads, "_PAUSES_S", (0.0,))
    origin.answer("/a", status, b"" if status in (304,) else b"secret-body")
    error = failure(origin.url("/a?X-Amz-Signature=hunter2"), folder, development)
    assert error.code == code
    assert f"127.0.0.1:{origin.port} answered {status}" in error.message
    assert "hunter2" not in error.message
    assert "secret" not in error.message


def test_a_refused_connection_is_unreachable(trap: Trap, folder: Path, development: Policy) -> None:
    """Nothing listens: an error at once, with the host's name."""
    trap.close()
    error = failure(f"http://127.0.0.1:{trap.port}/", folder, development)
    assert (error.code, error.message) == (
        "input_unreachable",
        f"127.0.0.1:{trap.port} refused the connection.",
    )


def test_an_announced_size_above_the_limit_is_not_read(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """Content-Length alone is enough to refuse."""
    origin.answer("/", 200, b"x" * 1001)
    assert failure(origin.url("/"), folder, development, max_bytes=1000).code == "input_too_large"


def test_an_endless_answer_is_cut_at_the_limit(origin: Origin, folder: Path, development: Policy) -> None:
    """Without a Content-Length the bytes are counted as they come."""

    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not origin.is_closing.is_set():
            handler.wfile.write(b"x" * 65536)

    origin.routes["/"] = pour
    error = failure(origin.url("/"), folder, development, max_bytes=3 << 20)
    assert (error.code, str(3 << 20) in error.message) == ("input_too_large", True)


def drip(origin: Origin, every_s: float, then: Callable[[], object] = lambda: None) -> None:
    """Makes `/` send a byte every so often, until the test ends; `then` is called once it has begun."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x")
        then()
        while not origin.is_closing.wait(every_s):
            handler.wfile.write(b"x")

    origin.routes["/"] = answer


def test_a_slow_drip_ends_at_the_total_deadline(origin: Origin, folder: Path, development: Policy) -> None:
    """Each read is in time, the whole is not."""
    drip(origin, every_s=0.02)
    before = time.monotonic()
    error = failure(origin.url("/"), folder, development, timeouts=replace(QUICK, total_s=0.4))
    assert error.code == "input_unreachable"
    assert "within 0.4 s" in error.message
    assert 0.4 <= time.monotonic() - before < 30


def test_silence_ends_at_the_read_timeout(origin: Origin, folder: Path, development: Policy) -> None:
    """A server that stops sending is given up long before the total deadline."""
    drip(origin, every_s=30)
    error = failure(origin.url("/"), folder, development, timeouts=replace(QUICK, read_s=0.2))
    assert (error.code, "was silent" in error.message) == ("input_unreachable", True)


def test_an_answer_that_ends_early_is_unreachable(origin: Origin, folder: Path, development: Policy) -> None:
    """Half a file is no file."""

    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"x" * 50)

    origin.routes["/"] = half
    assert failure(origin.url("/"), folder, development).code == "input_unreachable"


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-server\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"]
)
def test_what_is_not_http_is_unreachable(
    raw: bytes, origin: Origin, folder: Path, development: Policy
) -> None:
    """Another protocol on the port, or a broken answer."""
    origin.routes["/"] = lambda handler: [handler.wfile.write(raw), None][1]
    assert failure(origin.url("/"), folder, development).code == "input_unreachable"


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_transfer_is_refused(
    coding: str, origin: Origin, folder: Path, development: Policy
) -> None:
    """It was not asked for, and it would escape the limit when unpacked."""
    origin.answer("/", 200, b"abc", content_encoding=coding)
    assert failure(origin.url("/"), folder, development).code == "input_unreachable"


def test_a_cancelled_download_leaves_nothing(origin: Origin, folder: Path, development: Policy) -> None:
    """Cancelling the task removes what had arrived."""

    async def cancel_midway() -> None:
        is_flowing = asyncio.Event()
        loop = asyncio.get_running_loop()
        drip(origin, every_s=0.01, then=lambda: loop.call_soon_threadsafe(is_flowing.set))
        task = asyncio.create_task(
            fetch(
                origin.url("/"),
                folder / "input",
                policy=development,
                max_bytes=1 << 20,
                timeouts=QUICK,
                not_found_code="input_not_found",
                unreachable_code="input_unreachable",
                too_large_code="input_too_large",
            )
        )
        async with asyncio.timeout(30):
            await is_flowing.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel_midway())
    assert list(folder.iterdir()) == []


def test_the_environment_names_no_proxy(
    origin: Origin, trap: Trap, folder: Path, development: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name again, out of our sight."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
    origin.answer("/", 200, b"abc")
    assert download(origin.url("/"), folder, development).size_bytes == 3
    assert trap.is_untouched()


def test_a_failure_of_the_destination_is_not_blamed_on_the_source(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """OSErrors of our own disk stay what they are; here the folder does not exist."""
    origin.answer("/", 200, b"x" * 100)
    with pytest.raises(FileNotFoundError):
        download(origin.url("/"), folder / "missing", development)


def test_timeouts_come_from_the_settings() -> None:
    """The figures of `egress:` in configs/platform.yaml."""
    assert timeouts_from(
        EgressSettings(connect_timeout_s=1, read_timeout_s=2, total_timeout_s=3, min_bytes_per_s=4)
    ) == Timeouts(1, 2, 3, 4)
