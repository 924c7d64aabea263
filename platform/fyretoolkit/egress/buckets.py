"""`s3://bucket/key`: an object of a bucket that the operator opened to callers (`egress.s3.roots`).

The platform's own credentials read it, whoever asks: so what may be read is decided by the operator's list alone
(`urls.check_parsed`), never by what the credentials could do. Rejected: credentials in the request, which would lie in
Redis; a signed https:// URL serves whoever has some of his own.

The client's calls block, and the longest takes its own timeout several times over. So they run in a thread of this
fetch, which nobody waits for when the time is up: it ends by itself, and closes what it had open.

Each part is a request of its own: one that breaks is made again, by the client and then by us, and in the end the
object must still be the one that was opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.spool import in_thread
from fyretoolkit.egress.transfer import Fetched, Timeouts, Transfer
from fyretoolkit.egress.urls import ParsedUrl, Policy
from fyretoolkit.objects.client import (
    CHUNK_BYTES,
    ObjectNotFoundError,
    StorageError,
    open_client,
    storage_errors,
)
from fyretoolkit.settings import S3Settings

_PAUSES_S = (0.5, 2.0)
"""Before a part is asked for again, which the client itself has asked for three times by then."""

T = TypeVar("T")


class _Object:
    """One object, open for reading. Blocks; every call belongs to one thread."""

    def __init__(self, path: str, storage: S3Settings, timeouts: Timeouts) -> None:
        self._path = path
        with storage_errors():
            self._client = open_client(storage, connect_s=timeouts.connect_s, read_s=timeouts.read_s)
            self._file: Any = self._client.open_input_file(path)
            self.size_bytes: int = self._file.size()
            self._headers = self._file.metadata()

    def header(self, name: str) -> str | None:
        """What the service said of the object."""
        value = self._headers.get(name)
        return value.decode("latin-1") if value else None

    def read(self) -> bytes:
        """The next bytes, none at the end."""
        with storage_errors():
            chunk: bytes = self._file.read(CHUNK_BYTES)
        return chunk

    def is_unchanged(self) -> bool:
        """Whether it is still the version that was opened: its parts were asked for one by one."""
        with storage_errors(), self._client.open_input_file(self._path) as now:
            headers = now.metadata()
        return all(headers.get(name) == self._headers.get(name) for name in ("ETag", "Content-Length"))

    def close(self) -> None:
        """Lets go of it."""
        self._file.close()


class _Thread:
    """A thread whose calls are awaited, and which may be left behind in one of them."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "object")

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """What `call` returns. Who is cancelled waits no longer."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *args)

    def leave(self, last: Callable[[], None]) -> None:
        """After the call that it may be in, `last`, then nothing more."""
        self._executor.submit(last)
        self._executor.shutdown(wait=False)


async def copy_object(job: Transfer, url: ParsedUrl, policy: Policy) -> Fetched:
    """The object at a URL that the policy allows; `fetch` says what it raises."""
    if url.is_object_folder:
        raise PlatformError(
            job.codes["not_found_code"], f"{url.shown} names a folder, and one object is wanted here."
        )
    thread = _Thread()
    opened: list[_Object] = []

    def open_object() -> _Object:
        opened.append(_Object(url.object_path, policy.storage, job.timeouts))
        return opened[0]

    def close() -> None:
        for each in opened:
            each.close()

    try:
        source = await thread.run(open_object)
        job.ensure_fits(source.size_bytes)
        job.ensure_room(source.size_bytes)
        while chunk := await _next_part(thread, source):
            job.ensure_fits(job.spool.size_bytes + len(chunk))
            await in_thread(job.spool.write, chunk)
        if not await thread.run(source.is_unchanged):
            raise job.changed(url) or PlatformError(
                job.codes["unreachable_code"], f"{url.shown} was written to while it was read. Try again."
            )
    except ObjectNotFoundError as error:
        raise PlatformError(
            job.codes["not_found_code"],
            f"There is no object {url.shown}. Check bucket and key; a folder's URL ends with a slash.",
        ) from error
    except StorageError as error:
        raise PlatformError(
            job.codes["unreachable_code"],
            f"The object storage {error.words}: {url.shown} could not be read. Ask the operator of this platform.",
        ) from error
    finally:
        thread.leave(close)
    return await job.published(url, content_type=source.header("Content-Type"), etag=source.header("ETag"))


async def _next_part(thread: _Thread, source: _Object) -> bytes:
    """The next bytes, none at the end. A part that could not be read has moved nothing: it is read once more."""
    for pause_s in _PAUSES_S:
        try:
            return await thread.run(source.read)
        except StorageError:
            await asyncio.sleep(pause_s)
    return await thread.run(source.read)
