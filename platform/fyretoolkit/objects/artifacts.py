"""The artifact store on object storage: a folder of objects for each digest, and a marker that says it is whole.

Object storage has no rename, so what a crash leaves half-written would look like an artifact: the marker names the
files with their sizes and is written last, and what has no marker is not there. Writing twice is harmless, since a
digest has one content. Whoever reads checks the digest (`models.artifacts`), so neither a marker that lies nor an
object that was changed is ever served. Rejected: one archive object for each artifact, which would have to be unpacked
by every reader, and could not be read with a plain client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.artifacts import FILES, ArtifactStore
from fyretoolkit.objects.client import (
    CHUNK_BYTES,
    ObjectNotFoundError,
    StorageError,
    open_client,
    storage_errors,
)
from fyretoolkit.settings import EgressSettings, S3Settings, Settings

MARKER = "artifact.json"
_MAX_MARKER_BYTES = 1 << 16


def open_artifacts(settings: Settings) -> ArtifactStore:
    """The platform's artifact store: folders of this machine, or its cache of a bucket."""
    bucket = settings.artifacts_bucket
    if bucket is None:
        return ArtifactStore(settings.artifacts_dir)
    origin = BucketArtifacts(bucket, settings.artifacts.s3, settings.egress)
    return ArtifactStore(settings.artifacts_dir, origin, settings.artifacts.cache_bytes)


class BucketArtifacts:
    """Artifacts in a bucket, beneath a prefix: `bucket/prefix/<sha256>/model.onnx`."""

    def __init__(self, bucket: str, storage: S3Settings, egress: EgressSettings) -> None:
        """`bucket` with its prefix, without a slash at the end; of `egress` the timeouts are taken."""
        self._bucket = bucket
        self._storage = storage
        self._egress = egress

    def upload(self, sha256: str, folder: Path) -> None:
        """Keep the files of a folder, unless the artifact is there whole already.

        Raises:
            PlatformError: `unavailable`.
        """
        place = f"{self._bucket}/{sha256}"
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        with self._failures():
            client = self._client()
            if _is_whole(client, place, sizes):
                return
            for name in sizes:
                _send(client, folder / name, f"{place}/{name}")
            marker = json.dumps({"sha256": sha256, "files": sizes}).encode()
            with storage_errors(), client.open_output_stream(f"{place}/{MARKER}") as stream:
                stream.write(marker)

    def download(self, sha256: str, folder: Path) -> None:
        """Write an artifact's files into an empty folder.

        Raises:
            PlatformError: `artifact_not_found`, `unavailable`.
        """
        place = f"{self._bucket}/{sha256}"
        try:
            with self._failures():
                client = self._client()
                for name, size in _read_marker(client, place).items():
                    _receive(client, f"{place}/{name}", folder / name, size)
        except ObjectNotFoundError as error:
            raise PlatformError(
                "artifact_not_found",
                f"The artifact store has no whole {sha256} at s3://{self._bucket}. Deploy the model again.",
            ) from error

    def _client(self) -> Any:
        egress = self._egress
        return open_client(self._storage, connect_s=egress.connect_timeout_s, read_s=egress.read_timeout_s)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise PlatformError(
                "unavailable",
                f"The artifact store at s3://{self._bucket} {error.words}. Try again in a moment.",
            ) from error


def _read_marker(client: Any, place: str) -> Mapping[str, int]:
    """The files of a whole artifact with their sizes; names of ours alone, since they become paths.

    Raises:
        ObjectNotFoundError: there is no marker, or it is none.
    """
    with storage_errors(), client.open_input_file(f"{place}/{MARKER}") as file:
        content = file.read(_MAX_MARKER_BYTES)
    try:
        sizes = json.loads(content)["files"]
        is_marker = sizes.keys() <= set(FILES) and all(
            type(size) is int and size >= 0 for size in sizes.values()
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        is_marker = False
    if not is_marker:
        raise ObjectNotFoundError
    found: Mapping[str, int] = sizes
    return found


def _is_whole(client: Any, place: str, sizes: Mapping[str, int]) -> bool:
    """Whether the artifact is there with its marker: one that lost a file is written again."""
    try:
        if _read_marker(client, place) != sizes:
            return False
    except ObjectNotFoundError:
        return False
    with storage_errors():
        found = client.get_file_info([f"{place}/{name}" for name in sizes])
    return [each.size for each in found] == list(sizes.values())


def _send(client: Any, source: Path, path: str) -> None:
    with source.open("rb") as file:
        with storage_errors():
            stream = client.open_output_stream(path)
        while chunk := file.read(CHUNK_BYTES):
            with storage_errors():
                stream.write(chunk)
        with storage_errors():
            stream.close()


def _receive(client: Any, path: str, target: Path, size_bytes: int) -> None:
    """At most `size_bytes` of an object: the disk is not filled by one that grew."""
    with storage_errors():
        source = client.open_input_file(path)
    left = size_bytes
    with target.open("xb") as file:
        while left:
            with storage_errors():
                chunk = source.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise ObjectNotFoundError
            file.write(chunk)
            left -= len(chunk)
