"""Writing an answer: JSON over plain ASGI, and the error envelope with its headers."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from fyretoolkit.api.ranges import is_one_range
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import render_error

RawHeaders = list[tuple[bytes, bytes]]

CHALLENGE = b'Basic realm="FyreToolkit"'
JSON = b"application/json"

CODES_BY_STATUS = {
    400: "invalid_request",
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "payload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    431: "headers_too_large",
    502: "bad_gateway",
    503: "unavailable",
    504: "deadline_exceeded",
}
"""What a bare status of the framework means in our catalogue; any other one is `internal_error`."""


class Download(FileResponse):
    """A file, whole or in part. A Range header is ignored unless it is one range of bytes (RFC 9110, 14.2).

    Several ranges would be `multipart/byteranges`, which no downloader asks for.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ranges = [value for name, value in scope["headers"] if name == b"range"]
        if len(ranges) != 1 or not is_one_range(ranges[0]):
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}
        await super().__call__(scope, receive, send)


def framework_error(status: int) -> PlatformError:
    """A bare status of the framework, in our words."""
    if status == 400:
        return PlatformError(
            "invalid_request",
            "The request could not be read. Check its headers and its path, then send it again.",
        )
    return PlatformError(CODES_BY_STATUS.get(status, "internal_error"))


def error_headers(error: PlatformError) -> RawHeaders:
    """The headers that a code asks for, beside the content type."""
    headers: RawHeaders = []
    if error.status == 401:
        headers.append((b"www-authenticate", CHALLENGE))
    if error.status == 408:  # the rest of the request may still come
        headers.append((b"connection", b"close"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    return headers


def json_headers(body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> RawHeaders:
    """The headers of one whole JSON answer."""
    return [(b"content-type", JSON), (b"content-length", b"%d" % len(body)), *more]


async def send_json(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """One whole JSON answer."""
    raw = json_headers(body, headers)
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, error: PlatformError, request_id: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """The envelope of an error, with the headers it asks for and those given."""
    body = render_error(error, request_id)
    await send_json(send, error.status, body, [*error_headers(error), *headers])
