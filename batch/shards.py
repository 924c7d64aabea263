"""Cutting an input into shards: byte ranges that begin and end with a record, counted exactly, in one pass.

The plan is made once for a job and kept as a file, so every later run works on the same shards. A record longer than
the cap becomes a shard of its own that nobody reads: its row is an error line, and no process ever holds it in memory.
Nearly all of that is looking for LFs and quotes, which needs nothing of what came before; so the blocks of a large file
are looked at in parallel, and what follows from their order, whether a LF is quoted above all, is settled in order.
Rejected: equal byte ranges that each worker aligns for itself (Hadoop's input splits), because CSV cannot be aligned
from the middle and row numbers would need a second pass.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from batch.boundaries import Flags, InputFormat, LineEnds, Offsets, Scanner, Survey, survey
from fyretoolkit.core.errors import PlatformError

_BLOCK_BYTES = 1 << 20
_LARGE_BYTES = 64 << 20
"""Below, one thread is done before a second has begun to help."""
_CR = 0x0D


@dataclass(frozen=True, slots=True)
class Shard:
    """A byte range `[start, end)` of the input, the number of its records, and the first one's index and line."""

    index: int
    start: int
    end: int
    first_record: int
    first_line: int
    """Physical line of the byte at `start`, counted from 1."""
    records: int
    is_oversized: bool = False
    """It holds one record that is longer than the cap, and is not read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How an input is cut. `header` names the fields: CSV's header, or the first row of JSONL if it is an object."""

    format: InputFormat
    header: bytes
    total: int
    shards: tuple[Shard, ...]

    def to_json(self) -> bytes:
        """The plan as a file's content."""
        shards = [list(asdict(shard).values()) for shard in self.shards]
        return orjson.dumps(
            {
                "format": self.format.value,
                "header": self.header.decode("utf-8"),
                "total": self.total,
                "shards": shards,
            }
        )

    @classmethod
    def from_json(cls, content: bytes) -> Plan:
        """The plan that `to_json` wrote."""
        stored = orjson.loads(content)
        shards = tuple(Shard(*fields) for fields in stored["shards"])
        return cls(InputFormat(stored["format"]), stored["header"].encode("utf-8"), stored["total"], shards)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the records of an input begin: after the BOM and, for CSV, the header. For `header` see `Plan`."""

    format: InputFormat
    start: int
    header: bytes = b""
    first_line: int = 1


def cut(
    path: Path,
    layout: Layout,
    *,
    target_bytes: int,
    max_record_bytes: int,
    max_records: int | None = None,
    block_bytes: int = _BLOCK_BYTES,
    threads: int | None = None,
) -> Plan:
    """Cut the file at `path` into shards of at least `target_bytes` (the last may be smaller).

    `max_record_bytes` counts a record with its line end. `threads` look at so many blocks at once; None: as many as
    there are CPUs, for a large file.

    Raises:
        PlatformError: `input_changed`, the file became shorter while it was read; `input_too_large`, it has more than
            `max_records`, and is not read to its end.
    """
    cutter = _Cutter(layout, target_bytes, max_record_bytes)
    scanner = Scanner(layout.format)
    position = layout.start
    for seen in _surveyed(path, layout, block_bytes, threads):
        cutter.take(position, seen.block, scanner.follow(seen))
        position += len(seen.block)
        _ensure_few(cutter.records, max_records)
    shards = tuple(cutter.finish(position))
    _ensure_few(cutter.records, max_records)
    return Plan(layout.format, layout.header, cutter.records, shards)


def _ensure_few(records: int, most: int | None) -> None:
    if most is not None and records > most:
        raise PlatformError(
            "input_too_large", f"The input has more than {most} rows. Split it into several jobs."
        )


def _surveyed(path: Path, layout: Layout, block_bytes: int, threads: int | None) -> Iterator[Survey]:
    """The blocks of the file from the layout's start on, in order, each surveyed."""
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)

        def look(position: int) -> Survey:
            wanted = min(block_bytes, size - position)
            block = os.pread(file.fileno(), wanted, position)
            if len(block) < wanted:
                raise PlatformError("input_changed")
            return survey(block, layout.format)

        positions = range(layout.start, size, block_bytes)
        if threads is None:
            threads = (os.cpu_count() or 1) if size >= _LARGE_BYTES else 1
        yield from map(look, positions) if threads == 1 else _ahead(look, positions, threads)


def _ahead(look: Callable[[int], Survey], positions: Iterable[int], threads: int) -> Iterator[Survey]:
    """The same as `map`, by threads that are a few blocks ahead. numpy and `pread` leave Python's lock to others."""
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Survey]] = deque()
        for position in positions:
            begun.append(pool.submit(look, position))
            if len(begun) > 2 * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


class _Cutter:
    """The state of one pass: the shard being filled and the record being read."""

    def __init__(self, layout: Layout, target_bytes: int, max_record_bytes: int) -> None:
        self._target_bytes = target_bytes
        self._max_record_bytes = max_record_bytes
        self._shards: list[Shard] = []
        self._shard_start = self._record_start = layout.start
        self._shard_line = self._record_line = self._line = layout.first_line
        self._shard_first = 0
        self._last_byte = 0
        self.records = 0
        """Records that ended so far."""

    def take(self, position: int, block: bytes, lines: LineEnds) -> None:
        """Add a block that begins at `position`."""
        ordinals = np.flatnonzero(lines.ends_record)
        if len(ordinals):
            local = lines.offsets[ordinals]
            sizes = np.diff(local + position + 1, prepend=self._record_start)
            before = np.frombuffer(block, np.uint8)[local - 1]
            if local[0] == 0:
                before[0] = self._last_byte
            is_record = ~((sizes == 1) | ((sizes == 2) & (before == _CR)))
            self._advance(local + position + 1, is_record, ordinals + 1, sizes)
        self._line += len(lines.offsets)
        self._last_byte = block[-1]

    def _advance(self, ends: Offsets, is_record: Flags, lines: Offsets, sizes: Offsets) -> None:
        """Take record ends (file offsets), the line ordinal after each, and the sizes of what they end."""
        totals = self.records + np.cumsum(is_record)
        after = lines + self._line
        first = 0
        for giant in [*np.flatnonzero(sizes > self._max_record_bytes).tolist(), len(ends)]:
            self._fill(ends[first:giant], totals[first:giant], after[first:giant])
            if giant < len(ends):
                self._close()
                self._reach(int(ends[giant]), int(totals[giant]), int(after[giant]))
                self._close(is_oversized=True)
            first = giant + 1

    def _fill(self, ends: Offsets, totals: Offsets, lines: Offsets) -> None:
        position = 0
        while position < len(ends):
            full = int(np.searchsorted(ends, self._shard_start + self._target_bytes))
            last = min(max(full, position), len(ends) - 1)
            self._reach(int(ends[last]), int(totals[last]), int(lines[last]))
            if full < len(ends):
                self._close()
            position = last + 1

    def _reach(self, end: int, records: int, line: int) -> None:
        self._record_start, self.records, self._record_line = end, records, line

    def _close(self, *, is_oversized: bool = False) -> None:
        """End the shard after the last record reached."""
        count = self.records - self._shard_first
        if count:
            self._shards.append(
                Shard(
                    index=len(self._shards),
                    start=self._shard_start,
                    end=self._record_start,
                    first_record=self._shard_first,
                    first_line=self._shard_line,
                    records=count,
                    is_oversized=is_oversized,
                )
            )
        self._shard_start, self._shard_line = self._record_start, self._record_line
        self._shard_first = self.records

    def finish(self, size: int) -> list[Shard]:
        """All shards, after a last record without a line end."""
        rest = size - self._record_start
        if rest > 1 or (rest == 1 and self._last_byte != _CR):
            is_oversized = rest > self._max_record_bytes
            if is_oversized:
                self._close()
            self._reach(size, self.records + 1, self._line)
            self._close(is_oversized=is_oversized)
        self._close()
        return self._shards
