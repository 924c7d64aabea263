"""`client.files`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from os import PathLike
from pathlib import Path

from fyretoolkit.client.asynchronous.pages import AsyncPage, async_page_of
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import Call, delete, get, is_url, path_of, with_idempotency_key
from fyretoolkit.client.errors import NotFoundError
from fyretoolkit.client.seams import async_save
from fyretoolkit.schemas.files import DeletedFile, FileResource


class AsyncFiles:
    """Files: what a caller sends along, for `fyre://files/<id>` as input of a job or as a model."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(
        self,
        file: str | PathLike[str] | bytes,
        *,
        filename: str | None = None,
        idempotency_key: str | None = None,
    ) -> FileResource:
        """Sends a local file, or bytes, which need a `filename`: its suffix says what it is."""
        content = file if isinstance(file, bytes) else Path(file)
        if filename is None:
            if isinstance(content, bytes):
                raise TypeError("Bytes need a filename, such as rows.jsonl.")
            filename = content.name
        call = Call(
            "POST",
            "/files",
            query={"filename": filename},
            content=content,
            headers={"content-type": "application/octet-stream"},
        )
        return await self._transport.fetch(with_idempotency_key(call, idempotency_key), FileResource)

    async def uri_of(self, source: str | PathLike[str], idempotency_key: str | None = None) -> str:
        """A URL as it is; a local file is uploaded first, and named as `fyre://files/<id>`."""
        if isinstance(source, str) and is_url(source):
            return source
        uploaded = await self.upload(source, idempotency_key=idempotency_key)
        return f"fyre://files/{uploaded.id}"

    async def list(
        self, *, limit: int | None = None, starting_after: str | None = None
    ) -> AsyncPage[FileResource]:
        """The organization's files that have not expired, newest first. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return await async_page_of(self._transport, FileResource, "/files", query)

    async def get(self, file_id: str) -> FileResource:
        """Its name, size and digest."""
        return await self._transport.fetch(get(path_of("files", file_id)), FileResource)

    async def blocks(self, file_id: str) -> AsyncIterator[bytes]:
        """Its bytes, block after block; a connection that drops is continued where it ended."""
        async for block in self._transport.blocks(path_of("files", file_id, "content")):
            yield block

    async def content(self, file_id: str) -> bytes:
        """Its bytes at once."""
        return b"".join([block async for block in self.blocks(file_id)])

    async def download(self, file_id: str, to: str | PathLike[str]) -> Path:
        """Its bytes as a local file, which is there when they are complete."""
        return await async_save(self.blocks(file_id), Path(to))

    async def delete(self, file_id: str) -> DeletedFile:
        """Gone at once."""
        try:
            return await self._transport.fetch(delete(path_of("files", file_id)), DeletedFile)
        except NotFoundError as error:
            if error.attempts == 1:
                raise
            return DeletedFile(id=file_id)  # by an attempt of which the answer was lost
