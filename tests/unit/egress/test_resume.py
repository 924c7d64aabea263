"""Downloads whose connection breaks in the middle: gone on with where that is safe, begun anew once where it is not."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress import download as downloads
from fyretoolkit.egress import transfer
from fyretoolkit.egress.fetch import fetch
from fyretoolkit.egress.transfer import Fetched, Pace, Timeouts
from fyretoolkit.egress.urls import Policy

if TYPE_CHECKING:
    from conftest import Origin

BODY = bytes(range(256)) * 12_000  # 3 MB: more than one chunk
OTHER = bytes(reversed(BODY))
RANGE = re.compile(r"bytes=(\d+)-")


@pytest.fixture(autouse=True)
def _without_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PAUSES_S", (0.01,) * len(downloads._PAUSES_S))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where downloads go."""
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def download(
    url: str, folder: Path, policy: Policy, *, max_bytes: int = 1 << 24, min_rate: int = 0, **codes: str
) -> Fetched:
    return asyncio.run(
        fetch(
            url,
            folder / "input",
            policy=policy,
            max_bytes=max_bytes,
            timeouts=Timeouts(connect_s=10, read_s=10, total_s=60, min_bytes_per_s=min_rate),
            not_found_code="input_not_found",
            unreachable_code="input_unreachable",
            too_large_code="input_too_large",
            **codes,  # type: ignore[typeddict-item]
        )
    )


def failure(url: str, folder: Path, policy: Policy, **options: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        download(url, folder, policy, **options)
    assert list(folder.iterdir()) == []
    return caught.value


def send(
    handler: BaseHTTPRequestHandler, body: bytes, *, start: int = 0, until: int | None = None, **headers: str
) -> None:
    """Answers 200, or from `start` on 206, and breaks the connection after the byte `until`."""
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - start))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body[start:until])
    handler.wfile.flush()


def start_of(handler: BaseHTTPRequestHandler) -> int:
    """Where the request wants to go on; 0: it wants all."""
    found = RANGE.fullmatch(handler.headers.get("Range", ""))
    return int(found[1]) if found else 0


def breaking_after(breaks: list[int], body: bytes = BODY, **headers: str) -> Callable[..., None]:
    """A server of ranges that breaks each connection at the next of these bytes, until none is left."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = start_of(handler)
        send(handler, body, start=start, until=breaks.pop(0) if breaks else None, **headers)

    return answer


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_who_is_told_to_come_later_does(
    status: int, origin: Origin, folder: Path, development: Policy
) -> None:
    """Before any byte came, and in the middle."""
    breaks = [1_000_000]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(origin.requests) in (1, 2, 4):
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            until = breaks.pop() if breaks else None
            send(handler, BODY, start=start_of(handler), until=until, **VERSION)

    origin.routes["/a"] = answer
    assert download(origin.url("/a"), folder, development).path.read_bytes() == BODY
    assert [asked for asked, _ in ranges(origin)] == [None, None, None, "bytes=1000000-", "bytes=1000000-"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_who_is_refused_does_not_ask_again(
    status: int, origin: Origin, folder: Path, development: Policy
) -> None:
    origin.answer("/a", status)
    failure(origin.url("/a"), folder, development)
    assert len(origin.requests) == 1


VERSION = {"etag": '"v1"', "accept_ranges": "bytes"}


def ranges(origin: Origin) -> list[tuple[str | None, str | None]]:
    """(Range, If-Range) of each request."""
    return [(headers.get("range"), headers.get("if-range")) for _, headers in origin.requests]


def test_a_broken_download_goes_on_where_it_broke(origin: Origin, folder: Path, development: Policy) -> None:
    """Every byte once, however often the connection breaks; the digest is that of the whole."""
    origin.routes["/a"] = breaking_after([1_000_000, 1_000_001, 2_500_000], **VERSION)
    fetched = download(origin.url("/a"), folder, development)
    assert fetched.path.read_bytes() == BODY
    assert (fetched.sha256, fetched.size_bytes) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
    assert fetched.etag == '"v1"'
    assert ranges(origin) == [
        (None, None), ("bytes=1000000-", '"v1"'), ("bytes=1000001-", '"v1"'), ("bytes=2500000-", '"v1"'),
    ]  # fmt: skip


def test_it_is_given_up_after_some_attempts(origin: Origin, folder: Path, development: Policy) -> None:
    """A server that always breaks ends with an error, not with the total deadline."""
    origin.routes["/a"] = breaking_after(list(range(1000, 100_000, 1000)), **VERSION)
    assert failure(origin.url("/a"), folder, development).code == "input_unreachable"
    assert len(origin.requests) == 1 + len(downloads._PAUSES_S)


def test_a_date_that_is_old_enough_tells_versions_apart(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """Last-Modified, where no ETag is given (RFC 9110 §8.8.2.2)."""
    date = "Wed, 01 Jan 2020 00:00:00 GMT"
    origin.routes["/a"] = breaking_after([1000], last_modified=date, accept_ranges="bytes")
    assert download(origin.url("/a"), folder, development).path.read_bytes() == BODY
    assert ranges(origin)[1] == ("bytes=1000-", date)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"etag": '"v1"'},
        {"etag": '"v1"', "accept_ranges": "none"},
        {"etag": 'W/"v1"', "accept_ranges": "bytes"},
        {"accept_ranges": "bytes"},
        {"last_modified": "Wed, 01 Jan 2120 00:00:00 GMT", "accept_ranges": "bytes"},
        {"last_modified": "yesterday", "accept_ranges": "bytes"},
        {"last_modified": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "accept_ranges": "bytes"},
    ],
)
def test_without_a_version_and_ranges_it_begins_anew_once(
    origin: Origin, folder: Path, development: Policy, headers: dict[str, str]
) -> None:
    """The second break ends it."""
    origin.routes["/a"] = breaking_after([1_500_000], **headers)
    assert download(origin.url("/a"), folder, development).path.read_bytes() == BODY
    assert ranges(origin) == [(None, None), (None, None)]
    origin.routes["/b"] = breaking_after([1_500_000, 2_000_000, 2_500_000], **headers)
    (folder / "input").unlink()
    error = failure(origin.url("/b"), folder, development)
    assert (error.code, len(origin.requests)) == ("input_unreachable", 4)


def test_a_changed_file_is_taken_from_its_beginning(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """If-Range makes the server send the new version whole; nothing of the old one stays."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if start_of(handler):
            send(handler, OTHER, etag='"v2"', accept_ranges="bytes")
        else:
            send(handler, BODY, until=1_500_000, **VERSION)

    origin.routes["/a"] = answer
    fetched = download(origin.url("/a"), folder, development)
    assert (fetched.path.read_bytes(), fetched.etag) == (OTHER, '"v2"')
    assert fetched.sha256 == hashlib.sha256(OTHER).hexdigest()


DATES = ("Wed, 01 Jan 2020 00:00:00 GMT", "Thu, 02 Jan 2020 00:00:00 GMT")
CHANGES: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    # the headers before and after, and whether the rest of the other version comes instead of all of it
    "all of the other version": (VERSION, {"etag": '"v2"', "accept_ranges": "bytes"}, False),
    "the rest of the other version": (VERSION, {"etag": '"v2"', "accept_ranges": "bytes"}, True),
    "a server without ranges": ({"etag": '"v1"'}, {"etag": '"v2"'}, False),
    "weak tags": ({"etag": 'W/"v1"'}, {"etag": 'W/"v2"'}, False),
    "dates alone": ({"last_modified": DATES[0]}, {"last_modified": DATES[1]}, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_input_of_a_job_is_pinned(origin: Origin, folder: Path, development: Policy, change: str) -> None:
    """A file that became another one while its connection was broken ends the fetch, whatever tells of it."""
    before, after, is_rest = CHANGES[change]
    asked: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(start_of(handler))
        if len(asked) == 1:
            send(handler, BODY, until=1_500_000, **before)
        else:
            send(handler, OTHER, start=asked[-1] if is_rest else 0, **after)

    origin.routes["/a"] = answer
    error = failure(origin.url("/a?sig=secret"), folder, development, changed_code="input_changed")
    assert (error.code, len(asked)) == ("input_changed", 2)
    assert "secret" not in error.message


@pytest.mark.parametrize("headers", [VERSION, {"etag": '"v1"'}, {"last_modified": DATES[0]}, {}])
def test_a_pinned_input_that_stays_the_same_arrives(
    origin: Origin, folder: Path, development: Policy, headers: dict[str, str]
) -> None:
    """Gone on with or begun anew; a server that gives no version at all is believed."""
    origin.routes["/a"] = breaking_after([1_500_000], **headers)
    fetched = download(origin.url("/a"), folder, development, changed_code="input_changed")
    assert fetched.path.read_bytes() == BODY


def test_of_a_version_that_gave_no_byte_nothing_is_pinned(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """There is nothing that another one could be mixed with."""
    versions = ['"v1"', '"v2"']

    def answer(handler: BaseHTTPRequestHandler) -> None:
        version = versions.pop(0)
        send(handler, BODY, until=None if version == '"v2"' else 0, etag=version, accept_ranges="bytes")

    origin.routes["/a"] = answer
    assert download(origin.url("/a"), folder, development, changed_code="input_changed").etag == '"v2"'


def test_a_drip_is_given_up(
    origin: Origin, folder: Path, development: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and all of them would take for ever. It is not asked for again."""
    monkeypatch.setattr(transfer, "PACE_S", 0.05)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, BODY, until=0, **VERSION)
        while not origin.is_closing.wait(0.01):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    origin.routes["/a"] = answer
    error = failure(origin.url("/a"), folder, development, min_rate=1_000_000)
    assert (error.code, "less than 1000000 bytes a second" in error.message) == ("input_unreachable", True)
    assert len(origin.requests) == 1


def test_pace_is_looked_at_once_a_minute() -> None:
    """What came before is neither a credit nor a debt."""
    now = [0.0]
    pace = Pace(10, clock=lambda: now[0])

    def is_kept_at(second: float, received: int) -> bool:
        now[0] = second
        return pace.is_kept(received)

    assert is_kept_at(59.9, 0)
    assert is_kept_at(60, 600)
    assert is_kept_at(100, 5000)
    assert is_kept_at(120, 0)
    assert not is_kept_at(181, 599)
    assert Pace(0, clock=lambda: now[0]).is_kept(0)


def test_a_server_that_ignores_ranges_is_not_asked_for_ever(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """It says that it serves them, and begins at the beginning: once is enough."""
    origin.routes["/a"] = lambda handler: send(handler, BODY, until=1_500_000, **VERSION)
    error = failure(origin.url("/a"), folder, development)
    assert (error.code, "from its beginning" in error.message) == ("input_unreachable", True)
    assert len(origin.requests) == 3


WRONG: dict[str, Callable[[BaseHTTPRequestHandler, int], None]] = {
    "another version": lambda handler, start: send(handler, OTHER, start=start, etag='"v2"'),
    "another place": lambda handler, start: send(handler, BODY, start=start + 1, **VERSION),
    "not to the end": lambda handler, start: partial(handler, f"bytes {start}-{start + 9}/{len(BODY)}"),
    "no place": lambda handler, start: partial(handler, "bytes"),
    "nothing left": lambda handler, start: (handler.send_response(416), handler.end_headers())[1],
}


def partial(handler: BaseHTTPRequestHandler, content_range: str) -> None:
    """Ten bytes of some place."""
    handler.send_response(206)
    handler.send_header("Content-Range", content_range)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(b"0123456789")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_rest_that_does_not_fit_is_never_put_together(
    origin: Origin, folder: Path, development: Policy, wrong: str
) -> None:
    """The whole is asked for instead."""
    asked: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(start_of(handler))
        if asked[-1]:
            WRONG[wrong](handler, asked[-1])
        else:
            send(handler, BODY, until=1_500_000 if len(asked) == 1 else None, **VERSION)

    origin.routes["/a"] = answer
    assert download(origin.url("/a"), folder, development).path.read_bytes() == BODY
    assert asked == [0, 1_500_000, 0]


def test_a_rest_from_another_place_is_not_put_together(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """A redirect that leads elsewhere the second time: one server's ETag says nothing of another's file."""
    places = ["/one", "/two", "/two"]

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", places.pop(0))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    origin.routes["/"] = redirect
    origin.routes["/one"] = breaking_after([1_500_000], **VERSION)
    origin.routes["/two"] = breaking_after([], OTHER, **VERSION)
    fetched = download(origin.url("/"), folder, development)
    assert (fetched.path.read_bytes(), fetched.final_url) == (OTHER, origin.url("/two"))


def test_a_redirect_is_followed_and_checked_anew(origin: Origin, folder: Path, development: Policy) -> None:
    """A link that expired meanwhile is renewed by where it came from; where it may not lead, it still may not."""
    places = ["/file?sig=1", "http://10.0.0.1/file"]

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", places.pop(0))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    origin.routes["/"] = redirect
    origin.routes["/file"] = breaking_after([1_500_000], **VERSION)
    assert failure(origin.url("/"), folder, development).code == "url_not_allowed"


def test_the_limit_holds_over_all_parts(origin: Origin, folder: Path, development: Policy) -> None:
    """Bytes of one attempt count in the next."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = start_of(handler)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        for name, value in VERSION.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"186A0\r\n" + BODY[start : start + 100_000] + b"\r\n")

    origin.routes["/a"] = answer
    error = failure(origin.url("/a"), folder, development, max_bytes=250_000)
    assert (error.code, len(origin.requests)) == ("input_too_large", 3)


def test_a_server_that_stays_away_ends_with_its_error(
    origin: Origin, folder: Path, development: Policy
) -> None:
    """Gone in the middle, then answering errors: the last one is named. Deleted meanwhile: not found, at once."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if len(asked) == 1:
            send(handler, BODY, until=1000, **VERSION)
        else:
            handler.send_response(503 if handler.path == "/a" else 410)
            handler.end_headers()

    origin.routes["/a"] = origin.routes["/b"] = answer
    error = failure(origin.url("/a"), folder, development)
    assert (error.code, "answered 503" in error.message) == ("input_unreachable", True)
    asked.clear()
    assert failure(origin.url("/b"), folder, development).code == "input_not_found"
    assert len(asked) == 2
