"""Receiving: what arrives is on the disk as it was sent, or nothing is."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fyretoolkit.api import requests, uploads
from fyretoolkit.api.requests import ClientGoneError
from fyretoolkit.api.responses import error_headers
from fyretoolkit.api.uploads import receive_upload
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.spool import Spool
from fyretoolkit.settings import FileSettings

pytestmark = pytest.mark.anyio

MEGABYTE = 1_000_000
CONTENT = os.urandom(MEGABYTE) * 5
LIMITS = FileSettings(max_bytes=6 * MEGABYTE, min_free_bytes=0)


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


class Client:
    """Sends `chunks` as ASGI messages, then goes away unless the body `ends`."""

    def __init__(self, chunks: Iterable[bytes], *, ends: bool = True) -> None:
        self._chunks = list(chunks)
        self._ends = ends
        self.sent_bytes = 0

    async def __call__(self) -> dict[str, Any]:
        if not self._chunks:
            return {"type": "http.disconnect"}
        chunk = self._chunks.pop(0)
        self.sent_bytes += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks) or not self._ends}


def chunks_of(content: bytes, size: int = 65_536) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def left_in(folder: Path) -> list[Path]:
    """What lies where uploads are stored, hidden files too."""
    return list((folder / "files").iterdir()) if (folder / "files").exists() else []


async def receive(folder: Path, client: Client, limits: FileSettings = LIMITS, **headers: str) -> Path:
    """The published file of a request."""
    destination = folder / "files" / "file_x"
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    async with receive_upload({"headers": raw}, client, destination, limits, filename=None) as upload:
        assert upload.spool.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert upload.spool.size_bytes == len(CONTENT)
        await upload.publish()
    return destination


async def failure(folder: Path, client: Client, limits: FileSettings = LIMITS, **headers: str) -> str:
    """The code of an upload that must fail and leave nothing behind."""
    with pytest.raises(PlatformError) as caught:
        await receive(folder, client, limits, **headers)
    assert left_in(folder) == []
    return caught.value.code


@pytest.mark.parametrize("size", [997, 65_536, 3 * MEGABYTE])
async def test_chunks_of_any_size_are_one_file(tmp_path: Path, size: int) -> None:
    path = await receive(tmp_path, Client(chunks_of(CONTENT, size)))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


async def test_a_form_is_the_file_within(tmp_path: Path) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + CONTENT + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    path = await receive(tmp_path, Client(chunks_of(body)), content_type=kind)
    assert path.read_bytes() == CONTENT


async def test_little_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes reach the disk while the rest is still on its way, in blocks of a mebibyte or a chunk more."""
    blocks: list[tuple[int, int]] = []
    client = Client(chunks_of(CONTENT))
    write = Spool.write

    def noted(spool: Spool, block: bytearray) -> None:
        blocks.append((len(block), client.sent_bytes))
        write(spool, block)

    monkeypatch.setattr(Spool, "write", noted)
    await receive(tmp_path, client)
    assert max(size for size, _ in blocks) <= (1 << 20) + 65_536
    assert blocks[0][1] <= (1 << 20) + 65_536


async def test_long_uploads_are_brought_to_the_disk_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the end does not take longer than a proxy waits."""
    synced: list[int] = []
    monkeypatch.setattr(uploads, "_SYNC_BYTES", 2 << 20)
    monkeypatch.setattr(Spool, "sync", lambda spool: synced.append(spool.size_bytes))
    await receive(tmp_path, Client(chunks_of(CONTENT)))
    assert len(synced) == 2


async def test_a_declared_size_over_the_cap_is_refused_unread(tmp_path: Path) -> None:
    client = Client([CONTENT])
    code = await failure(tmp_path, client, content_length=str(LIMITS.max_bytes + 1))
    assert (code, client.sent_bytes) == ("payload_too_large", 0)


@pytest.mark.parametrize("is_form", [False, True])
async def test_the_cap_is_crossed_midway(tmp_path: Path, is_form: bool) -> None:
    """No more is read than the chunk that crosses it; what is around a file in a form does not count."""
    limits = FileSettings(max_bytes=2 * MEGABYTE, min_free_bytes=0)
    head = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' if is_form else b""
    client = Client(chunks_of(head + CONTENT))
    headers = {"content_type": "multipart/form-data; boundary=b"} if is_form else {}
    assert await failure(tmp_path, client, limits, **headers) == "payload_too_large"
    assert client.sent_bytes <= limits.max_bytes + 2 * 65_536


async def test_a_form_does_not_go_on_for_ever(tmp_path: Path) -> None:
    """Around its file it may have little: an epilogue is no way past the cap."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n' + bytes(9 * MEGABYTE)
    client = Client(chunks_of(body))
    assert (
        await failure(tmp_path, client, content_type="multipart/form-data; boundary=b") == "payload_too_large"
    )


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    client = Client(chunks_of(CONTENT)[:40], ends=False)
    with pytest.raises(ClientGoneError):
        await receive(tmp_path, client)
    assert client.sent_bytes > 2 * MEGABYTE
    assert left_in(tmp_path) == []


async def test_a_canceled_request_leaves_nothing(tmp_path: Path) -> None:
    """Wherever the cancellation meets it, a write in a thread included."""
    for turns in range(12):
        task = asyncio.create_task(receive(tmp_path, Client(chunks_of(CONTENT), ends=False)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left_in(tmp_path) == []


def _full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_when_written(descriptor: int, *_: object) -> BinaryIO:
    os.close(descriptor)
    return Path("/dev/full").open("wb", buffering=0)


FULL = {
    "begin": ("tempfile.mkstemp", _full),
    "write": ("os.fdopen", _full_when_written),
    "end": ("os.fsync", _full),
}


@pytest.mark.parametrize("moment", FULL)
async def test_a_disk_that_is_full_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    name, behaviour = FULL[moment]
    monkeypatch.setattr(f"fyretoolkit.egress.spool.{name}", behaviour)
    assert await failure(tmp_path, Client(chunks_of(CONTENT))) == "storage_full"


async def test_the_rest_of_the_platform_keeps_its_share_of_the_disk(tmp_path: Path) -> None:
    limits = FileSettings(max_bytes=6 * MEGABYTE, min_free_bytes=1 << 60)
    assert await failure(tmp_path, Client(chunks_of(CONTENT)), limits) == "storage_full"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Client([b""]), "invalid_request"),
        (lambda: Client([b"", b"", b""]), "invalid_request"),
    ],
)
async def test_an_empty_body_is_no_file(tmp_path: Path, make: Callable[[], Client], code: str) -> None:
    assert await failure(tmp_path, make()) == code


class Trickle:
    """Sends a byte whenever it is asked, after a while, and never ends."""

    def __init__(self, pause_s: float, size: int = 1) -> None:
        self._pause_s = pause_s
        self._size = size

    async def __call__(self) -> dict[str, Any]:
        await asyncio.sleep(self._pause_s)
        return {"type": "http.request", "body": b"x" * self._size, "more_body": True}


@pytest.mark.parametrize("pause_s", [0.01, 1000.0])
async def test_a_file_that_trickles_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    """It would hold a request for hours; a silent one for ever."""
    monkeypatch.setattr(uploads, "_PACE_S", 0.2)
    assert await failure(tmp_path, Trickle(pause_s)) == "request_timeout"  # type: ignore[arg-type]


async def test_time_on_the_disk_and_data_in_time_are_not_held_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long upload of a good pace, onto a disk that is slow, ends by its size."""
    monkeypatch.setattr(uploads, "_PACE_S", 1)
    write, pauses_s = Spool.write, [1.5]

    def slow(spool: Spool, block: bytearray) -> None:
        time.sleep(pauses_s.pop() if pauses_s else 0)
        write(spool, block)

    monkeypatch.setattr(Spool, "write", slow)
    assert await failure(tmp_path, Trickle(0.01, 200_000)) == "payload_too_large"  # type: ignore[arg-type]


async def test_a_spool_that_was_removed_is_said_so(tmp_path: Path) -> None:
    """By whoever took it for left behind."""
    destination = tmp_path / "files" / "file_x"
    async with receive_upload(
        {"headers": []}, Client([b"abc"]), destination, LIMITS, filename=None
    ) as upload:
        for path in left_in(tmp_path):
            path.unlink()
        with pytest.raises(PlatformError) as caught:
            await upload.publish()
    assert caught.value.code == "unavailable"


async def test_a_json_body_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the connection with it: the rest may still come."""
    monkeypatch.setattr(requests, "BODY_S", 0.1)
    with pytest.raises(PlatformError) as caught:
        await requests.read_body({"headers": []}, Trickle(0.01), 1000)
    assert (caught.value.code, caught.value.status) == ("request_timeout", 408)
    assert (b"connection", b"close") in error_headers(caught.value)
