# Generated from ../asynchronous/files.py by scripts/describe: change that one.
"""`client.files`."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from fyretoolkit.client.calls import Call, delete, get, is_url, path_of, with_idempotency_key
from fyretoolkit.client.errors import NotFoundError
from fyretoolkit.client.seams import save
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.files import DeletedFile, FileResource


class Files:
    """Files: what a caller sends along, for `fyre://files/<id>` as input of a job or as a model."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
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
        return self._transport.fetch(with_idempotency_key(call, idempotency_key), FileResource)

    def uri_of(self, source: str | PathLike[str], idempotency_key: str | None = None) -> str:
        """A URL as it is; a local file is uploaded first, and named as `fyre://files/<id>`."""
        if isinstance(source, str) and is_url(source):
            return source
        uploaded = self.upload(source, idempotency_key=idempotency_key)
        return f"fyre://files/{uploaded.id}"

    def list(self, *, limit: int | None = None, starting_after: str | None = None) -> Page[FileResource]:
        """The organization's files that have not expired, newest first. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, FileResource, "/files", query)

    def get(self, file_id: str) -> FileResource:
        """Its name, size and digest."""
        return self._transport.fetch(get(path_of("files", file_id)), FileResource)

    def blocks(self, file_id: str) -> Iterator[bytes]:
        """Its bytes, block after block; a connection that drops is continued where it ended."""
        for block in self._transport.blocks(path_of("files", file_id, "content")):
            yield block

    def content(self, file_id: str) -> bytes:
        """Its bytes at once."""
        return b"".join([block for block in self.blocks(file_id)])

    def download(self, file_id: str, to: str | PathLike[str]) -> Path:
        """Its bytes as a local file, which is there when they are complete."""
        return save(self.blocks(file_id), Path(to))

    def delete(self, file_id: str) -> DeletedFile:
        """Gone at once."""
        try:
            return self._transport.fetch(delete(path_of("files", file_id)), DeletedFile)
        except NotFoundError as error:
            if error.attempts == 1:
                raise
            return DeletedFile(id=file_id)  # by an attempt of which the answer was lost
