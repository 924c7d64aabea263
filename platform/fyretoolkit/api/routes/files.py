"""`/files`: what a caller sends along, for `fyre://files/<id>` as `input_url` and `model_uri`."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from fyretoolkit.api.dependencies import Parts, Reader, Writer
from fyretoolkit.api.forms import PART
from fyretoolkit.api.idempotency import Claim, claim_over, created, find_replay, header_key, replayed
from fyretoolkit.api.openapi import creation_headers, download, failures
from fyretoolkit.api.pages import check_cursor, page_by_id
from fyretoolkit.api.responses import Download
from fyretoolkit.api.services import Services
from fyretoolkit.api.uploads import Upload, receive_upload
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import PREFIX, UPLOAD_PATH, StoredFile
from fyretoolkit.core.ids import is_id, new_id
from fyretoolkit.egress.spool import in_thread
from fyretoolkit.schemas.files import DeletedFile, FileResource, UploadQuery
from fyretoolkit.schemas.pages import Page, PageQuery
from fyretoolkit.store.creation import Creation, CreationOutcome

COLLECTION = UPLOAD_PATH
_MEDIA_TYPES: Mapping[str, str] = MappingProxyType({".csv": "text/csv", ".jsonl": "application/jsonl"})
_ANY = "application/octet-stream"
_BYTES = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": [PART], "properties": {PART: _BYTES}, "additionalProperties": False}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A form with one part, named file; or, with any other content type, the file itself.",
        "content": {"multipart/form-data": {"schema": _FORM}, _ANY: {"schema": _BYTES}},
    }
}

logger = logging.getLogger(__name__)
router = APIRouter(tags=["Files"])


@router.post(
    COLLECTION,
    status_code=201,
    summary="Upload a file",
    response_model=FileResource,
    responses={
        **creation_headers(201),
        **failures("idempotency_key_reused", "quota_exceeded", "storage_full"),
    },
    openapi_extra=_BODY,
)
async def create_file(
    request: Request, principal: Writer, services: Parts, query: Annotated[UploadQuery, Query()]
) -> Response:
    """Stores an input or a model for `fyre://files/<id>`. With an idempotency key, the same bytes are stored once."""
    header_key(request)  # a malformed one is refused before gigabytes are sent
    file_id = new_id(PREFIX)
    path = services.settings.files_dir / file_id
    limits = services.settings.files
    async with receive_upload(
        request.scope, request.receive, path, limits, filename=query.filename
    ) as upload:
        file = _record(file_id, principal.org, upload, limits.ttl_s)
        claim = claim_over(request, principal, _fingerprint(file))
        if (answer := await find_replay(services.store, claim)) is not None:
            return replayed(answer, status=201, collection=COLLECTION)
        await upload.publish()
    answer = FileResource.from_record(file).to_json()
    creation = await _create(services, file, claim, answer)
    return created(creation, answer, status=201, collection=COLLECTION)


@router.get(COLLECTION, summary="List files")
async def list_files(
    principal: Reader, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[FileResource]:
    """The organization's files that have not expired, newest first."""
    check_cursor(query.starting_after, PREFIX)
    found, has_more = await page_by_id(principal.org, query, services.files)
    return Page[FileResource](data=[FileResource.from_record(file) for file in found], has_more=has_more)


@router.get(COLLECTION + "/{file_id}", summary="Get a file", responses=failures("file_not_found"))
async def get_file(file_id: str, principal: Reader, services: Parts) -> FileResource:
    """Its name, size and digest; the bytes are at `/content`."""
    return FileResource.from_record(await _known_file(services, principal.org, file_id))


@router.get(
    COLLECTION + "/{file_id}/content",
    summary="Download a file",
    response_class=FileResponse,
    responses={
        **download(*_MEDIA_TYPES.values(), _ANY, headers=("ETag",)),
        **failures("file_not_found", "range_not_satisfiable"),
    },
)
async def get_content(file_id: str, principal: Reader, services: Parts) -> FileResponse:
    """The bytes as they were sent, whole or in part."""
    file = await _known_file(services, principal.org, file_id)
    path = services.settings.files_dir / file.id
    try:
        status = await in_thread(os.stat, path)
    except FileNotFoundError as error:  # deleted just now
        raise PlatformError("file_not_found") from error
    return Download(
        path,
        headers={"ETag": f'"{file.sha256}"', "X-Content-Type-Options": "nosniff"},
        media_type=_MEDIA_TYPES.get(Path(file.filename).suffix.lower(), _ANY),
        filename=file.filename,
        stat_result=status,
    )


@router.delete(COLLECTION + "/{file_id}", summary="Delete a file", responses=failures("file_not_found"))
async def delete_file(file_id: str, principal: Writer, services: Parts) -> DeletedFile:
    """Gone at once. A job that has begun to read it goes on; one that has not fails."""
    file = await _known_file(services, principal.org, file_id)
    await services.files.delete(file.org, file.id)  # whoever took it since: it was there, and is gone
    try:
        await _remove(services, file.id)
        await services.files.forget_content(file.org, file.id)
    except (OSError, PlatformError):  # the controller removes what is left
        logger.exception("the content of %s could not be removed now", file.id)
    return DeletedFile(id=file.id)


def _record(file_id: str, org: str, upload: Upload, ttl_s: int) -> StoredFile:
    now = int(time.time())
    return StoredFile(
        id=file_id,
        org=org,
        filename=upload.filename,
        size_bytes=upload.spool.size_bytes,
        sha256=upload.spool.sha256,
        created=now,
        expires_at=now + ttl_s,
    )


def _fingerprint(file: StoredFile) -> str:
    """What two uploads have in common if they are one: the name and the bytes."""
    return hashlib.sha256(f"{file.sha256} {file.filename}".encode()).hexdigest()


async def _create(services: Services, file: StoredFile, claim: Claim | None, answer: str) -> Creation:
    """The record of a published file. The file goes again if it will certainly have none."""
    try:
        creation = await services.files.create(
            file,
            idempotency=claim.with_answer(answer) if claim else None,
            max_bytes=services.settings.quotas.file_bytes,
        )
    except PlatformError as error:
        if error.code != "unavailable":  # then nobody knows; the controller looks later
            await _remove(services, file.id)
        raise
    if creation.outcome is not CreationOutcome.CREATED:
        await _remove(services, file.id)
    return creation


async def _remove(services: Services, file_id: str) -> None:
    path = services.settings.files_dir / file_id
    await in_thread(path.unlink, missing_ok=True)


async def _known_file(services: Services, org: str, file_id: str) -> StoredFile:
    file = await services.files.get(org, file_id) if is_id(file_id, PREFIX) else None
    if file is None:
        raise PlatformError("file_not_found")
    return file
