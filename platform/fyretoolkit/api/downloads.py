"""A job's two files over HTTP: who may have them, the links that open them without a key, and how they are read.

A job that was assembled has each as a file. Before that its committed parts are streamed as they are; no copy is made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

from anyio import to_thread
from fastapi import Depends, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from batch.committed import Committed
from batch.parts import PartFile
from fyretoolkit.api.dependencies import Parts, admit_reader
from fyretoolkit.api.edge import exchange_of
from fyretoolkit.api.queries import parse_query
from fyretoolkit.api.ranges import asked_range
from fyretoolkit.api.requests import header_values
from fyretoolkit.api.responses import Download
from fyretoolkit.api.services import Services
from fyretoolkit.core.downloads import DownloadKind, expiry_of, granted_organization, signed_links
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JOB, JobStatus, is_terminal
from fyretoolkit.schemas.jobs import DownloadQuery

PARTIAL = "X-Fyre-Partial"
_LINK = "token"
MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/jsonl"}
_FIELDS = {DownloadKind.OUTPUT: "results", DownloadKind.ERRORS: "errors"}
_BLOCK_BYTES = 1 << 18


async def links_of(services: Services, job: BatchJob, base_url: str) -> dict[DownloadKind, str]:
    """The signed URLs of a job's files; none before it ended with something to download."""
    if not job.has_results:
        return {}
    secret = await services.downloads.get()
    expires = expiry_of(services.settings.downloads.url_ttl_s, now=time.time())
    return signed_links(job.org, job.id, base_url=base_url, expires=expires, secret=secret)


def _admitting(kind: DownloadKind) -> Callable[[Request, str, Services], Awaitable[str]]:
    async def admitted(
        request: Request,
        job_id: str,
        services: Parts,
    ) -> str:
        if _LINK not in request.query_params or header_values(request.scope["headers"], b"authorization"):
            org = (await admit_reader(request)).org
            parse_query(request, DownloadQuery)
            return org
        token = parse_query(request, DownloadQuery).token
        secret = await services.downloads.get()
        granted = granted_organization(token, job_id, kind, now=time.time(), secret=secret)
        if granted is None:
            raise PlatformError("invalid_signature")
        await services.limits.count_link(granted, job_id, exchange_of(request.scope).headers)
        return granted

    return admitted


OutputOwner = Annotated[str, Depends(_admitting(DownloadKind.OUTPUT))]
"""The organization whose results are asked for: that of the key, or else the one that the link's token names."""
ErrorsOwner = Annotated[str, Depends(_admitting(DownloadKind.ERRORS))]
"""The same for the errors."""


async def open_download(services: Services, job: BatchJob, kind: DownloadKind) -> Response:
    """The file if it was assembled, else what is committed of it.

    Raises:
        PlatformError: `output_not_ready`, `no_output`.
    """
    asked = _Asked(services, job, kind)
    if job.output is None and (files := await asked.committed()) is not None:
        committed = Committed(asked.folder / "parts", files, is_csv=asked.form == "csv")
        try:
            size = await to_thread.run_sync(committed.measure)
        except FileNotFoundError:
            asked = await asked.ended()
        else:
            return _PartialDownload(asked, committed, size)
    headers = {PARTIAL: "true"} if asked.job.is_partial else None
    media_type = MEDIA_TYPES[asked.form]
    return Download(asked.assembled(), headers=headers, media_type=media_type, filename=asked.filename)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One file of one job, as its record was when it was read."""

    services: Services
    job: BatchJob
    kind: DownloadKind
    is_lost: bool = False
    """Whether its committed parts were looked for and are gone."""

    @property
    def folder(self) -> Path:
        return self.services.settings.jobs_dir / self.job.id

    @property
    def form(self) -> str:
        return self.job.output_format if self.kind is DownloadKind.OUTPUT else "jsonl"

    @property
    def filename(self) -> str:
        return f"{self.job.id}-{_FIELDS[self.kind]}.{self.form}"

    async def committed(self) -> list[PartFile] | None:
        """The files of the committed parts, in the order in which they will be assembled; None: there are none.

        They are those before the first gap: what comes later must only add to them.
        """
        parts = await self.services.committed.of(self.job)
        return [getattr(part, _FIELDS[self.kind]) for part in parts] or None

    async def ended(self) -> _Asked:
        """The same file of the job as it is now that its parts are gone: it has completed."""
        now = await self.services.jobs.get(self.job.org, self.job.id)
        return replace(self, job=now or self.job, is_lost=True)

    def assembled(self) -> Path:
        """The assembled file.

        Raises:
            PlatformError: `output_not_ready`; `no_output`, and there will be none.
        """
        stored = cast(Mapping[str, Any], (self.job.output or {}).get(_FIELDS[self.kind]) or {})
        path = self.folder / Path(stored.get("name", "")).name
        if stored and path.is_file():
            return path
        is_empty = not self.job.succeeded and not self.job.failed
        if stored or self.is_lost or (is_terminal(JOB, self.job.status) and is_empty):
            raise PlatformError(
                "no_output",
                f"The job is {self.job.status} and has no {_FIELDS[self.kind]}. "
                f"See its status and error with GET /jobs/{self.job.id}.",
            )
        is_running = self.job.status is JobStatus.PROCESSING
        raise PlatformError(
            "output_not_ready",
            f"The job is {self.job.status} and has no {_FIELDS[self.kind]} to download yet. "
            f"Wait until GET /jobs/{self.job.id} shows {self.kind}_url"
            + (", or until progress.processed grows." if is_running else "."),
        )


class _PartialDownload(StreamingResponse):
    """What is committed, whole or the one range of it that is asked for."""

    def __init__(self, asked: _Asked, committed: Committed, size: int) -> None:
        """`size`: how much is committed; what is committed from now on is no part of this answer."""
        headers = {
            PARTIAL: "true",
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{asked.filename}"',
        }
        super().__init__((), headers=headers, media_type=MEDIA_TYPES[asked.form])
        self._asked = asked
        self._committed = committed
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chosen = asked_range(scope["headers"], self._size)
        if chosen is not None and not chosen:
            beyond = Response(status_code=416, headers={"Content-Range": f"bytes */{self._size}"})
            await beyond(scope, receive, send)
            return
        if chosen is not None:
            self.status_code = 206
            self.headers["Content-Range"] = f"bytes {chosen[0]}-{chosen[-1]}/{self._size}"
        wanted = range(self._size) if chosen is None else chosen
        self.headers["Content-Length"] = str(len(wanted))
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        reader = _Reader(self._asked, self._committed, wanted)
        try:
            async with aclosing(_from_first(await reader.read(), reader)) as body:
                self.body_iterator = body
                await super().__call__(scope, receive, send)
        finally:
            reader.close()


class _Reader:
    """The wanted bytes, block after block, from the parts and, when these vanish, from the assembled file."""

    def __init__(self, asked: _Asked, committed: Committed, wanted: range) -> None:
        self._asked = asked
        self._blocks = committed.blocks(wanted.start)
        self._wanted = wanted

    async def read(self) -> bytes:
        """The next block; empty at the end.

        Raises:
            PlatformError: `no_output`, `run_failed`: there is no more although there should be.
        """
        if not self._wanted:
            return b""
        try:
            block = await self._next()
        except FileNotFoundError:
            self._blocks = _file_blocks((await self._asked.ended()).assembled(), self._wanted.start)
            block = await self._next()
        if not block:
            raise PlatformError(
                "run_failed", f"The results of {self._asked.job.id} are shorter than they were."
            )
        block = block[: len(self._wanted)]
        self._wanted = self._wanted[len(block) :]
        return block

    async def _next(self) -> bytes:
        # Not asyncio's, which leaves the thread running when the client goes away: it may hold the generator then.
        return await to_thread.run_sync(next, self._blocks, b"")

    def close(self) -> None:
        """Close the file that is being read."""
        self._blocks.close()


async def _from_first(first: bytes, reader: _Reader) -> AsyncGenerator[bytes]:
    """Every block. The first was read before the status is sent: what fails at once is answered as a failure."""
    block = first
    while block:
        yield block
        block = await reader.read()


def _file_blocks(path: Path, start: int) -> Generator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_BLOCK_BYTES):
            yield block
