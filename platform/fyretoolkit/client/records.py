"""The lines of a job's results and errors, cut out of a download as its blocks come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import JsonValue

from fyretoolkit.client.errors import UnexpectedResponseError

Record = dict[str, Any]

_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|\Z)')
"""Of a CSV file (RFC 4180), with what ends it. Python's `csv` takes no cell of more than 131,072 characters."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of one row of the input."""

    index: int
    """Which row, from 0."""
    id: JsonValue
    """The row's own `id` or `custom_id`; None if it has none."""
    result: JsonValue
    """What the model answered; of CSV output, an object of texts, or one text where the model answers no objects."""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why one row of the input has no result."""

    index: int
    """Which row, from 0."""
    line: int
    """Where it begins in the input, from 1."""
    id: JsonValue
    """The row's own `id` or `custom_id`; None if it has none."""
    code: str
    """A stable error code."""
    message: str
    """What is wrong with the row."""


class Records:
    """Blocks in, records out: JSON lines, or the rows of a CSV file with a header."""

    def __init__(self, *, is_csv: bool = False) -> None:
        self._is_csv = is_csv
        self._rest = b""
        self._begun: list[bytes] = []
        self._is_quoted = False
        self._header: list[str] | None = None

    def feed(self, block: bytes) -> Iterator[Record]:
        """The records that end within this block."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            yield from self._of_line(line + b"\n")

    def end(self) -> Iterator[Record]:
        """The last record, if no newline ends it.

        Raises:
            UnexpectedResponseError: it is cut off.
        """
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._of_line(rest)
        if self._begun:
            raise UnexpectedResponseError("The results end within a record.")

    def _of_line(self, line: bytes) -> Iterator[Record]:
        if not self._is_csv:
            yield _object(line)
            return
        self._begun.append(line)
        self._is_quoted ^= line.count(b'"') % 2 == 1
        if self._is_quoted:  # a cell goes on in the next line
            return
        whole, self._begun = b"".join(self._begun), []
        try:
            cells = _cells(whole.decode("utf-8"))
            if self._header is None:
                self._header = cells
            else:
                yield dict(zip(self._header, cells, strict=True))
        except ValueError as error:
            raise UnexpectedResponseError("A line of the results is not a row of their table.") from error


def read_result(record: Record) -> JobResult:
    """The result that a record of a job's output holds."""
    try:
        if not isinstance(record["index"], str):
            return JobResult(record["index"], record.get("id"), record["result"])
        fields = {name: value for name, value in record.items() if name not in ("index", "id")}
        result = fields["result"] if fields.keys() == {"result"} else fields
        return JobResult(int(record["index"]), record.get("id") or None, result)
    except (KeyError, ValueError) as error:
        raise UnexpectedResponseError("A line of the results is not one.") from error


def read_error(record: Record) -> JobError:
    """The error that a record of a job's errors holds."""
    try:
        error = record["error"]
        return JobError(record["index"], record["line"], record.get("id"), error["code"], error["message"])
    except (KeyError, TypeError) as problem:
        raise UnexpectedResponseError("A line of the errors is not one.") from problem


def _cells(row: str) -> list[str]:
    """The cells of one row, its newline aside.

    Raises:
        ValueError: it is none.
    """
    cells: list[str] = []
    at, end = 0, ","
    while end == ",":
        found = _CELL.match(row, at)
        if found is None:
            raise ValueError("a quote stands within a cell")
        quoted, plain, end = found.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        at = found.end()
    return cells


def _object(line: bytes) -> Record:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UnexpectedResponseError("A line of the results is not JSON.") from error
    if not isinstance(record, dict):
        raise UnexpectedResponseError("A line of the results is not an object.")
    return record
