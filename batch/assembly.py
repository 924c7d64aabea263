"""Parts to one output file and one errors file, in the input's order, published by rename.

Each part's digest is checked while it is copied, so a part that a disk lost or changed can never become a silent gap.
CSV output is made from the same parts: its columns are the union of the results' fields, found in a first pass.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from batch import tables
from batch.failpoints import reach
from batch.parts import Part, PartFile, sync_folder
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.room import require_room, room_translated

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Output:
    """The assembled files, by their names in the job folder."""

    results: PartFile
    errors: PartFile
    is_partial: bool

    def to_json(self) -> dict[str, object]:
        """As the job stores it."""
        return {"results": asdict(self.results), "errors": asdict(self.errors), "partial": self.is_partial}


def assemble(
    folder: Path,
    target: Path,
    parts: Sequence[Part],
    *,
    output_format: str,
    epoch: int,
    is_partial: bool = False,
    reserve_bytes: int = 0,
) -> Output:
    """Concatenate the parts in `folder` into files of `target`, in the order given.

    Their names carry the run's epoch: a run that slept through its end cannot write over what a newer one published.

    Raises:
        PlatformError: `run_failed`, a part is missing or is not what was committed; `storage_full`, less than
            `reserve_bytes` would be left on the disk.
    """
    results = [part.results for part in parts]
    blocks = _csv_blocks(folder, results) if output_format == "csv" else _copied_blocks(folder, results)
    name = f"output-{epoch}.{output_format}"
    output = Output(
        _publish(target / name, blocks, reserve_bytes),
        _publish(
            target / f"errors-{epoch}.jsonl",
            _copied_blocks(folder, [part.errors for part in parts]),
            reserve_bytes,
        ),
        is_partial,
    )
    sync_folder(target)
    return output


def _publish(path: Path, blocks: Iterable[bytes], reserve_bytes: int = 0) -> PartFile:
    """Room is looked for at each block: others write too, and all of them found it at their beginning."""
    digest, size = hashlib.sha256(), 0
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # another thread may assemble the same job
    try:
        with room_translated(), aside.open("wb") as file:
            for block in blocks:
                require_room(path.parent, len(block), reserve_bytes)
                digest.update(block)
                size += file.write(block)
            file.flush()
            os.fsync(file.fileno())
        reach("output.aside", path.name)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return PartFile(path.name, size, digest.hexdigest())


def _copied_blocks(folder: Path, files: Iterable[PartFile]) -> Iterator[bytes]:
    for file in files:
        try:
            yield from checked_blocks(folder, file)
        except FileNotFoundError as error:
            raise _damaged(file, "is missing") from error


def checked_blocks(folder: Path, file: PartFile) -> Iterator[bytes]:
    """The content of a part's file; the last block comes when the digest of all of it was found right.

    Raises:
        FileNotFoundError: it is not there.
        PlatformError: `run_failed`, it is not what was committed.
    """
    digest, held = hashlib.sha256(), b""
    with (folder / file.name).open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            if held:
                yield held
            held = block
    if digest.hexdigest() != file.sha256:
        raise _damaged(file, "is not what was committed")
    if held:
        yield held


def _damaged(file: PartFile, how: str) -> PlatformError:
    return PlatformError("run_failed", f"The results are damaged: {file.name} {how}. Create the job again.")


def _csv_blocks(folder: Path, files: Sequence[PartFile]) -> Iterator[bytes]:
    columns = tables.find_columns(line for file in files for line in _lines(folder, file))
    yield tables.header(columns)
    for file in files:
        yield tables.rows(_lines(folder, file), columns)


def _lines(folder: Path, file: PartFile) -> list[bytes]:
    return b"".join(_copied_blocks(folder, [file])).splitlines()
