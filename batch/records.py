"""A shard's bytes to its records, one at a time: whatever the bytes are, every record comes out, good or bad.

JSONL goes through orjson, which refuses what would crash or mislead others: deep nesting (pyarrow's reader segfaults on
20,000 levels), numbers beyond a double, NaN, bad UTF-8, lone surrogates, raw control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

import orjson

from batch.boundaries import InputFormat, record_bounds
from batch.cells import CellError, parse_cells
from batch.fields import CsvMapping, FieldError, RowId, RowShape, row_id, select, with_only_field
from batch.layouts import parse_header
from batch.shards import Plan, Shard
from fyretoolkit.core.errors import PlatformError

Bounds = Sequence[tuple[int, int, int]]


@dataclass(slots=True)  # to freeze it costs three times as much, of each of millions
class Record:
    """A row the model can be asked about. `index` counts records from 0, `line` physical lines from 1."""

    index: int
    line: int
    id: RowId | None
    value: object


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A row that becomes an error line."""

    index: int
    line: int
    id: RowId | None
    code: str
    message: str


@dataclass(slots=True)
class Columns:
    """Rows that follow one another and all can be asked about, by columns: an object for each costs 2 µs in all."""

    first: int
    """The index of the first."""
    first_line: int
    """The line that those of `bounds` count from."""
    bounds: Bounds
    ids: Sequence[RowId | None]
    values: Sequence[object]

    def records(self) -> list[Record]:
        """The same, one at a time."""
        rows = zip(self.bounds, self.ids, self.values, strict=True)
        return [
            Record(index, self.first_line + line, identifier, value)
            for index, ((_, _, line), identifier, value) in enumerate(rows, start=self.first)
        ]


class RecordReader:
    """Reads the shards of one plan for one model."""

    def __init__(self, plan: Plan, shape: RowShape, *, max_record_bytes: int, max_columns: int) -> None:
        self._format = plan.format
        self._max_record_bytes = max_record_bytes
        self._csv: CsvMapping | None = None
        self._shape = shape
        if plan.format is InputFormat.CSV:
            self._csv = CsvMapping(parse_header(plan.header, max_columns), shape)
        else:
            self._shape = with_only_field(shape, _first_fields(plan.header))

    @property
    def cells_are_text(self) -> bool:
        """Whether values come as text that the signature must cast."""
        return self._format is InputFormat.CSV

    def read(self, shard: Shard, chunk: bytes) -> Iterator[Record | BadRecord]:
        """The records of a shard from its bytes; of an oversized one the bytes are not looked at.

        Raises:
            PlatformError: `input_changed`, the bytes are not those that were cut.
        """
        if shard.is_oversized:
            message = f"The row is longer than {self._max_record_bytes} bytes. Shorten it, or leave it out."
            yield BadRecord(shard.first_record, shard.first_line, None, "invalid_row", message)
            return
        read = self._read_json if self._csv is None else self._read_csv
        yield from read(shard.first_record, shard.first_line, chunk, self._bounds(shard, chunk))

    def read_groups(
        self, shard: Shard, chunk: bytes, size: int
    ) -> Iterator[Columns | list[Record | BadRecord]]:
        """What `read` gives, `size` records at a time; columns where all are objects that hold what the model takes.

        Raises:
            PlatformError: as `read`.
        """
        if shard.is_oversized or self._csv is not None:
            records = self.read(shard, chunk)
            while group := list(islice(records, size)):
                yield group
            return
        bounds = self._bounds(shard, chunk)
        for at in range(0, len(bounds), size):
            place = (shard.first_record + at, shard.first_line, chunk, bounds[at : at + size])
            yield self._columns(*place) or list(self._read_json(*place))

    def _bounds(self, shard: Shard, chunk: bytes) -> Bounds:
        bounds = record_bounds(chunk, self._format)
        if len(bounds) != shard.records or len(chunk) != shard.end - shard.start:
            raise PlatformError("input_changed")
        return bounds

    def _columns(self, first: int, first_line: int, chunk: bytes, bounds: Bounds) -> Columns | None:
        """None if a row among them is to be looked at by itself."""
        names, loads = self._shape.names, orjson.loads
        try:
            rows = [loads(chunk[start:end]) for start, end, _ in bounds]
            if set(map(type, rows)) != {dict}:
                return None
            if self._shape.is_single:
                values = list(map(itemgetter(names[0]), rows))
            else:
                values = [{name: row[name] for name in names} for row in rows]
        except (orjson.JSONDecodeError, KeyError):
            return None
        ids: list[RowId | None] = [row.get("id") for row in rows]
        if set(map(type, ids)) != {int}:
            ids = list(map(row_id, rows))
        return Columns(first, first_line, bounds, ids, values)

    def _read_json(
        self, first: int, first_line: int, chunk: bytes, bounds: Bounds
    ) -> Iterator[Record | BadRecord]:
        shape, loads = self._shape, orjson.loads
        for index, (start, end, line) in enumerate(bounds, start=first):
            try:
                value = loads(chunk[start:end])
            except orjson.JSONDecodeError as error:
                reason = str(error).partition(": line ")[0]
                reason = f"it is not valid JSON, {reason} (byte {error.pos + 1})"
                yield _bad(index, first_line + line, None, reason)
                continue
            if type(value) is not dict:
                yield Record(index, first_line + line, None, value)
                continue
            identifier = row_id(value)
            try:
                yield Record(index, first_line + line, identifier, select(value, shape))
            except FieldError as error:
                yield _bad(index, first_line + line, identifier, str(error))

    def _read_csv(
        self, first: int, first_line: int, chunk: bytes, bounds: Bounds
    ) -> Iterator[Record | BadRecord]:
        assert self._csv is not None  # noqa: S101 - `read` chose by it
        for index, (start, end, line) in enumerate(bounds, start=first):
            cells: list[str] = []
            try:
                cells = parse_cells(chunk[start:end])
                identifier, value = self._csv.row(cells)
            except (CellError, FieldError) as error:
                yield _bad(index, first_line + line, self._csv.identify(cells), str(error))
                continue
            yield Record(index, first_line + line, identifier, value)


def _first_fields(line: bytes) -> tuple[str, ...]:
    """The fields of a JSONL file's first row; none if it is not an object."""
    return tuple(orjson.loads(line)) if line else ()


def _bad(index: int, line: int, identifier: RowId | None, reason: str) -> BadRecord:
    return BadRecord(index, line, identifier, "invalid_row", f"The row cannot be read: {reason}.")
