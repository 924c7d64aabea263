"""Result lines as a CSV table: a column for the index, the row's own id, and each field of the results.

The rows of a table depend on its columns and on their own lines alone, so it can be made piece by piece.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

_OWN = ("index", "id")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def find_columns(lines: Iterable[bytes]) -> tuple[str, ...]:
    """Every field of any of the result lines, in the order of their first appearance."""
    return tuple(dict.fromkeys(name for line in lines for name in _fields(orjson.loads(line)["result"])))


def header(columns: Sequence[str]) -> bytes:
    """The first line of the table. A field with the name of one of our columns is `result.index`, `result.id`."""
    names = (f"result.{name}" if name in _OWN else _cell(name) for name in columns)
    return _csv([[*_OWN, *names]])


def rows(lines: Iterable[bytes], columns: Sequence[str]) -> bytes:
    """A line of the table for each result line."""
    return _csv(_row(orjson.loads(line), columns) for line in lines)


def _row(line: dict[str, Any], columns: Sequence[str]) -> Iterator[object]:
    yield _cell(line["index"])
    yield _cell(line.get("id"))
    fields = _fields(line["result"])
    for name in columns:
        yield _cell(fields.get(name))


def _fields(result: object) -> dict[str, object]:
    return result if isinstance(result, dict) else {"result": result}


def _cell(value: object) -> str | int | float:
    """Text is guarded against being run as a formula by a spreadsheet (OWASP, CSV injection); numbers are not."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(table: Iterable[Iterable[object]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(table)
    return buffer.getvalue().encode()
