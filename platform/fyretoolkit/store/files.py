"""Uploaded files in Redis: the records, which expire, and the set of those whose content may be on the disk.

The record decides whether a file exists. Its content is written before the record and removed after it, and the set
`keys.FILES` remembers it until then, so that a crash at any instant leaves nothing behind for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from fyretoolkit.core.files import StoredFile
from fyretoolkit.core.quotas import Resource
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, translated
from fyretoolkit.store.creation import Creation, Idempotency, Quota, create
from fyretoolkit.store.records import from_hash, to_hash

_AT_ONCE = 1000


class FileStore:
    """The repository of uploaded files."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(
        self, file: StoredFile, *, idempotency: Idempotency | None = None, max_bytes: int | None = None
    ) -> Creation:
        """Write the record of a file whose content is on the disk, with its idempotency answer, in one step.

        Raises:
            PlatformError: `quota_exceeded`, the organization's files would have more than `max_bytes` together.
        """
        return await create(
            self._store,
            record_key=keys.file(file.org, file.id),
            fields=to_hash(file),
            open_set=keys.FILES,
            lists={keys.files(file.org): file.id},
            change=("file", file.org, file.id),
            ttl_s=file.expires_at - file.created,
            idempotency=idempotency,
            quota=Quota(Resource.FILE_BYTES, max_bytes),
            size={
                "sizes": keys.file_sizes(file.org),
                "files": keys.files(file.org),
                "prefix": keys.file(file.org, ""),
                "id": file.id,
                "bytes": str(file.size_bytes),
                **({"limit": max_bytes} if max_bytes else {}),
            },
        )

    async def get(self, org: str, file_id: str) -> StoredFile | None:
        """The file, or None if this organization has none of this id, or none any more."""
        stored = await self._store.read_hash(keys.file(org, file_id))
        return from_hash(StoredFile, stored) if stored else None

    async def page(self, org: str, limit: int, *, starting_after: str | None = None) -> list[StoredFile]:
        """Newest first, all older than `starting_after`; fewer than `limit` at the end of the list alone.

        Files whose records expired leave the list here.
        """
        found: list[StoredFile] = []
        while len(found) < limit:
            ids = await self._store.read_page(keys.files(org), limit - len(found), below=starting_after)
            if not ids:
                break
            stored = await self._store.read_hashes([keys.file(org, file_id) for file_id in ids])
            found += [from_hash(StoredFile, fields) for fields in stored if fields]
            expired = [file_id for file_id, fields in zip(ids, stored, strict=True) if not fields]
            await self._store.remove_members(keys.files(org), expired)
            starting_after = ids[-1]
        return found

    async def delete(self, org: str, file_id: str) -> bool:
        """Forget the record; False if there is none, or none any more: an earlier attempt whose reply was lost took it.

        The content is the caller's to remove, then `forget_content`.
        """
        arguments = [file_id, keys.CHANGES_CHANNEL, change_message("file", org, file_id)]
        return bool(
            await self._store.run("delete_file", [keys.file(org, file_id), keys.files(org)], arguments)
        )

    async def with_content(self) -> list[tuple[str, str]]:
        """(organization, id) of every file whose content may be on the disk, expired and deleted ones included."""
        return await self._store.read_members(keys.FILES)

    async def without_record(self, files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of `files` that expired or were deleted."""
        ended: list[tuple[str, str]] = []
        for start in range(0, len(files), _AT_ONCE):
            some = files[start : start + _AT_ONCE]
            async with translated():
                pipeline = self._store.redis.pipeline(transaction=False)
                for org, file_id in some:
                    pipeline.exists(keys.file(org, file_id))
                is_there = await pipeline.execute()
            ended += [file for file, exists in zip(some, is_there, strict=True) if not exists]
        return ended

    async def forget_content(self, org: str, file_id: str) -> None:
        """The content of a file without a record is off the disk."""
        await self._store.run(
            "forget_content",
            [keys.FILES, keys.files(org), keys.file_sizes(org)],
            [f"{org} {file_id}", file_id],
        )
