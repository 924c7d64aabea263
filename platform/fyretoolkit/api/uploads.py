"""Receiving a file: from the body of a request to the disk as it arrives, whatever its size.

At most a mebibyte of it is in memory. It is counted against the cap, and hashed, on the way, and it is there whole or
not at all: `egress.spool.Spool` writes it aside under a hidden name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Message, Receive, Scope

from fyretoolkit.api.forms import PART, FileForm
from fyretoolkit.api.requests import ClientGoneError, Headers, header_values
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import DEFAULT_NAME, clean_filename
from fyretoolkit.egress.room import room_translated
from fyretoolkit.egress.spool import Spool, in_thread
from fyretoolkit.schemas.errors import invalid_field
from fyretoolkit.settings import FileSettings

_BLOCK_BYTES = 1 << 20
_SYNC_BYTES = 64 << 20
"""Flushing gigabytes at the end would take longer than a proxy waits for an answer."""
_FORM_BYTES = 64 << 10
"""What a form may have around its file."""
_PACE_S = 60.0
"""The wait for data over which the smallest rate is measured."""


@dataclass(slots=True)
class Upload:
    """A file that was received whole. It is removed again unless it is published."""

    filename: str
    spool: Spool

    async def publish(self) -> None:
        """Make it durable and visible.

        Raises:
            PlatformError: `storage_full`; `unavailable`, it was removed meanwhile, as those that nobody writes to are.
        """
        try:
            await in_thread(self.spool.publish)
        except FileNotFoundError as error:
            raise PlatformError(
                "unavailable", "The file was lost while it arrived. Send it again."
            ) from error


@asynccontextmanager
async def receive_upload(
    scope: Scope, receive: Receive, destination: Path, limits: FileSettings, *, filename: str | None
) -> AsyncIterator[Upload]:
    """The file in a request: its raw body, or the one file of a form. `filename` goes before the form's own.

    Raises:
        PlatformError: `payload_too_large`, `invalid_request` (empty, or a form that is not one file),
            `unsupported_media_type` (compressed on the way), `storage_full`, `request_timeout`.
        ClientGoneError: the connection was closed.
    """
    form = _form_of(scope["headers"])
    most = limits.max_bytes + (_FORM_BYTES if form else 0)
    _check_declared(scope["headers"], most, limits)
    with room_translated():
        destination.parent.mkdir(parents=True, exist_ok=True)
        spool = Spool(
            destination, reserve_bytes=limits.min_free_bytes
        )  # not in a thread: a cancellation there would leave its file behind
    try:
        content = _Content(spool, limits)
        received = 0
        async for chunk in _body(_Pace(receive, limits.min_bytes_per_s)):
            received += len(chunk)
            if received > most:
                raise _too_large(limits)
            for piece in form.feed(chunk) if form else (chunk,):
                await content.add(piece)
        if form:
            form.finish()
        await content.end()
        yield Upload(clean_filename(filename or (form and form.filename) or DEFAULT_NAME), spool)
    finally:
        await in_thread(spool.discard)


class _Content:
    """The bytes of the file on their way into the spool."""

    def __init__(self, spool: Spool, limits: FileSettings) -> None:
        self._spool = spool
        self._limits = limits
        self._block = bytearray()
        self._synced_bytes = 0

    async def add(self, piece: bytes) -> None:
        self._block += piece
        if self._spool.size_bytes + len(self._block) > self._limits.max_bytes:
            raise _too_large(self._limits)
        if len(self._block) >= _BLOCK_BYTES:
            await self._write()

    async def end(self) -> None:
        await self._write()
        if not self._spool.size_bytes:
            raise invalid_field(
                PART,
                "The file is empty. Send its bytes as the body (curl --data-binary @PATH) or a form (-F file=@PATH).",
            )

    async def _write(self) -> None:
        block, self._block = self._block, bytearray()
        await in_thread(self._write_block, block)

    def _write_block(self, block: bytearray) -> None:
        self._spool.write(block)
        if self._spool.size_bytes - self._synced_bytes >= _SYNC_BYTES:
            self._spool.sync()
            self._synced_bytes = self._spool.size_bytes


class _Pace:
    """Ends a body that comes too slowly: `_PACE_S` of waiting, writing aside, must bring a minute's smallest amount."""

    def __init__(self, receive: Receive, min_bytes_per_s: int) -> None:
        self._receive = receive
        self._min_bytes_per_s = min_bytes_per_s
        self._received = 0
        self._left_s = _PACE_S

    async def __call__(self) -> Message:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._left_s):
                message = await self._receive()
        except TimeoutError as error:
            raise PlatformError(
                "request_timeout",
                f"Of the file came less than {self._min_bytes_per_s} bytes a second. Send it again, without pauses.",
            ) from error
        self._left_s = max(0.0, self._left_s - (clock() - began))
        self._received += len(message.get("body", b""))
        if self._received >= self._min_bytes_per_s * _PACE_S:
            self._received, self._left_s = 0, _PACE_S
        return message


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        is_more = message.get("more_body", False)
        yield message.get("body", b"")


def _form_of(headers: Headers) -> FileForm | None:
    """A reader if the body is a form; any other content type is the file itself."""
    encoding = b",".join(header_values(headers, b"content-encoding")).decode("latin-1")
    if encoding.lower() not in ("", "identity"):
        raise PlatformError(
            "unsupported_media_type",
            "The body is compressed. Send the file as it is, without a Content-Encoding; "
            "a .gz file may be sent under its own name.",
        )
    given = b", ".join(dict.fromkeys(header_values(headers, b"content-type"))).decode("latin-1")
    is_form = given.partition(";")[0].strip().lower() == "multipart/form-data"
    return FileForm(given) if is_form else None


def _check_declared(headers: Headers, most: int, limits: FileSettings) -> None:
    declared = header_values(headers, b"content-length")
    if declared and declared[0].isdigit() and int(declared[0][:20]) > most:
        raise _too_large(limits)


def _too_large(limits: FileSettings) -> PlatformError:
    return PlatformError(
        "payload_too_large",
        f"The file is larger than the limit of {limits.max_bytes} bytes. Compress it, or split it into several.",
    )
