"""The failed rows of a job, kept byte for byte when it ends, so that they can be tried again alone.

Two files beside the output: the records one after another as they stood in the input, and the index and line that each
had there. A job over them reads the first as its input and answers under the numbers of the second, so its lines join
those of the first job; its own failed rows keep the same numbers. The header is that of the first job's plan: the first
of the failed rows may not be what told the fields.

Rejected: fetching the input again (it may have changed, or cost), and keeping all of it (for three rows of a billion).
A record that is too long is copied without being held in memory, and fails again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from batch.assembly import checked_blocks
from batch.boundaries import split_records
from batch.parts import Part, PartFile
from batch.records import BadRecord, Record
from batch.shards import Layout, Plan, Shard
from batch.sources import Source
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.spool import Spool

Numbers = npt.NDArray[np.int64]

_BLOCK_BYTES = 1 << 20
_NUMBER_BYTES = 16
_LF, _CR = 0x0A, 0x0D


@dataclass(frozen=True, slots=True)
class FailedRows:
    """What is kept, by the names of the files in the job's folder."""

    rows: str
    numbers: str
    count: int

    def to_json(self) -> dict[str, object]:
        """As the job's output stores it."""
        return asdict(self)


def keep_failed_rows(
    folder: Path, plan: Plan, source: Source, parts: Mapping[int, Part], epoch: int, *, reserve_bytes: int = 0
) -> FailedRows | None:
    """Copy the rows that are in the errors of these shards' parts; None if there are none.

    Raises:
        PlatformError: `input_changed`, the input is not there any more as it was read; `storage_full`, the copy would
            not leave `reserve_bytes` on the disk; `run_failed`, a part is not what was committed.
        FileNotFoundError: a part is gone.
    """
    failing = [shard for shard in sorted(parts) if parts[shard].errors.size_bytes]
    if not failing:
        return None
    kept = FailedRows(f"failed-rows-{epoch}", f"failed-rows-{epoch}.numbers", 0)
    count = 0
    rows, numbers = (Spool(folder / name, reserve_bytes=reserve_bytes) for name in (kept.rows, kept.numbers))
    try:
        for index in failing:
            shard = plan.shards[index]
            failed = _failed_numbers(folder / "parts", parts[index].errors)
            for block in _records(shard, source, plan, failed[:, 0]):
                rows.write(block)
            numbers.write(failed.tobytes())
            count += len(failed)
        numbers.publish()
        rows.publish()
    finally:
        rows.discard()
        numbers.discard()
    return FailedRows(kept.rows, kept.numbers, count)


def find_failed_rows(folder: Path, epoch: int) -> FailedRows | None:
    """What `keep_failed_rows` kept for this run already; None: nothing. The numbers are there before the rows are."""
    kept = FailedRows(f"failed-rows-{epoch}", f"failed-rows-{epoch}.numbers", 0)
    if not (folder / kept.rows).exists():
        return None
    return replace(kept, count=(folder / kept.numbers).stat().st_size // _NUMBER_BYTES)


def _failed_numbers(folder: Path, errors: PartFile) -> Numbers:
    """Index and line of each error line."""
    lines = [orjson.loads(line) for line in b"".join(checked_blocks(folder, errors)).splitlines()]
    return np.array([(line["index"], line["line"]) for line in lines], np.int64).reshape(-1, 2)


def _records(shard: Shard, source: Source, plan: Plan, failed: Numbers) -> Iterator[bytes]:
    """The bytes of a shard's failed records, each with its line end; `failed` are their numbers, in order."""
    if shard.is_oversized:
        yield from _blocks(source, shard)
        return
    chunk = source.read(shard)
    spans = split_records(chunk, plan.format)
    own = read_numbers(source, shard)
    places = failed - shard.first_record if own is None else np.searchsorted(own[:, 0], failed)
    failing = []
    for place in places.tolist():
        end = spans[place].end
        end += end < len(chunk) and chunk[end] == _CR
        end += end < len(chunk) and chunk[end] == _LF
        failing.append(chunk[spans[place].start : end])
    yield b"".join(failing)  # at once: for each block the disk is asked for room


def _blocks(source: Source, shard: Shard) -> Iterator[bytes]:
    """A record that is too long for memory."""
    source.read(shard)  # looks whether the file is still the same
    with Path(source.path).open("rb", buffering=0) as file:
        position = shard.start
        while position < shard.end:
            block = os.pread(file.fileno(), min(_BLOCK_BYTES, shard.end - position), position)
            if not block:
                raise PlatformError("input_changed")
            position += len(block)
            yield block


def take_failed_rows(
    parent: Path, plan_file: str, kept: Mapping[str, object], folder: Path
) -> tuple[Source, Layout]:
    """The failed rows of the job with the folder `parent` as the input of another, in `folder`.

    They are linked: they stay although the first job expires.

    Raises:
        PlatformError: `input_not_found`, it has expired already.
    """
    rows, numbers = folder / "input", folder / "numbers"
    try:
        for target, name in ((rows, kept["rows"]), (numbers, kept["numbers"])):
            target.unlink(missing_ok=True)
            _link(parent / Path(str(name)).name, target)
        plan = Plan.from_json((parent / plan_file).read_bytes())
    except FileNotFoundError as error:
        raise PlatformError(
            "input_not_found", "The failed rows are gone with the job that they were kept for."
        ) from error
    status = rows.stat()
    source = Source(str(rows), status.st_size, status.st_mtime_ns, status.st_ino, numbers=str(numbers))
    return source, Layout(plan.format, 0, plan.header)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


def read_numbers(source: Source, shard: Shard) -> Numbers | None:
    """Index and line of each record of a shard in the job that it failed in; None if it is its first."""
    if not source.numbers:
        return None
    flat = np.fromfile(
        source.numbers, np.int64, count=2 * shard.records, offset=_NUMBER_BYTES * shard.first_record
    )
    return flat.reshape(-1, 2)


def renumbered(
    records: Iterable[Record | BadRecord], numbers: Numbers | None
) -> Iterable[Record | BadRecord]:
    """The records of a shard under the numbers that they had when they failed."""
    return records if numbers is None else _with_numbers(records, numbers)


def _with_numbers(records: Iterable[Record | BadRecord], numbers: Numbers) -> Iterator[Record | BadRecord]:
    for record, (index, line) in zip(records, numbers.tolist(), strict=True):
        if isinstance(record, BadRecord):
            yield BadRecord(index, line, record.id, record.code, record.message)
        else:
            yield Record(index, line, record.id, record.value)
