"""Uploaded files on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fyretoolkit.core.files import StoredFile
from fyretoolkit.schemas.wire import RequestModel, Resource


class UploadQuery(RequestModel):
    """The query of `POST /files`. Not the header's place: header values are ASCII, file names are not."""

    model_config = ConfigDict(strict=False)

    filename: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            description="The file's name; its suffix (.csv, .jsonl, .onnx, .zip, .gz …) says what it is. "
            "Goes before the name in a form.",
        ),
    ] = None


class FileResource(Resource):
    """An uploaded file: `fyre://files/<id>` names it as `input_url` and `model_uri` until it expires."""

    id: str
    """The file's id."""
    object: Literal["file"] = "file"
    """Always `file`."""
    size_bytes: int
    """Its size in bytes."""
    sha256: str
    """Digest of its bytes in hexadecimal."""
    filename: str
    """As it was named, made safe."""
    created: int
    """When it was uploaded, in Unix seconds."""
    expires_at: int
    """When it is deleted, in Unix seconds."""

    @classmethod
    def from_record(cls, file: StoredFile) -> FileResource:
        """The stored file as callers see it."""
        return cls(
            id=file.id,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            filename=file.filename,
            created=file.created,
            expires_at=file.expires_at,
        )


class DeletedFile(Resource):
    """A file that is gone."""

    id: str
    """The file's id."""
    object: Literal["file"] = "file"
    """Always `file`."""
    deleted: Literal[True] = True
    """Always true."""
