"""Files of rows for a model that divides, some of them made to break whoever reads or predicts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.model_packages import write_package
from tests.support.onnx_graphs import quotients

MODEL = "quotients"
_DEPTH = 20_000
_LONG_BYTES = 50 << 20
_DIGITS = 5_000
_DIVIDEND = -(1 << 63)
_NOTE = b"n" * 200
"""Rows of a usual length: as many shards as usual."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that has no answer."""

    what: str
    value: bytes
    """Of the field `x`, as JSON writes it or as a cell."""
    code: str = "invalid_row"


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of a file: index and result, and index, line and code."""

    results: Sequence[tuple[int, int]]
    errors: Sequence[tuple[int, int, str]]


_KILLS = Bad("ends the process", b"-1", "row_crashed")
_OF_BOTH = (
    _KILLS,
    Bad("50 MB", b"9" * _LONG_BYTES),
    Bad("bad UTF-8", b'"\xff\xfe"'),
    Bad("NUL", b'"1\x00"'),
    Bad("NaN", b"NaN"),
    Bad("5,000 digits", b"9" * _DIGITS),
)
JSONL = (
    *_OF_BOTH,
    Bad("20,000 levels", b"[" * _DEPTH + b"]" * _DEPTH),
    Bad("20,000 levels, unclosed", b"[" * _DEPTH),
    Bad("a quote that never closes", b'"1'),
    _KILLS,
)
CSV = (
    *(Bad(each.what, each.value.strip(b'"'), each.code) for each in _OF_BOTH),
    Bad("20,000 levels", b"[" * _DEPTH + b"]" * _DEPTH),
    _KILLS,
)


def publishable(folder: Path) -> Path:
    """The model's package. ONNX Runtime dies of the row -1 by SIGFPE."""
    write_package(folder / MODEL, quotients(), f"id: {MODEL}\nexample: 1\n")
    return folder / MODEL


def write_jsonl(path: Path, rows: int) -> Expected:
    """So many rows, the bad ones among them at equal distances."""
    values = _spread(rows, JSONL)
    with path.open("wb") as file:
        for number, value in enumerate(values):
            content = value.value if isinstance(value, Bad) else b"%d" % value
            file.write(b'{"id": "r%d", "note": "%s", "x": %s}\n' % (number, _NOTE, content))
    return _expected(values, first_line=1)


def write_csv(path: Path, rows: int) -> Expected:
    """As `write_jsonl`; and the last row has a quote that never closes, which takes what follows with it."""
    values = [*_spread(rows - 1, CSV), Bad("a quote that never closes", b'"1')]
    with path.open("wb") as file:
        file.write(b"id,note,x\n")
        for number, value in enumerate(values):
            content = value.value if isinstance(value, Bad) else b"%d" % value
            file.write(b"r%d,%s,%s\n" % (number, _NOTE, content))
        file.write(b"r,n,1\n" * 10)
    return _expected(values, first_line=2)


def _spread(rows: int, bad: Sequence[Bad]) -> list[int | Bad]:
    """Divisors from 1 on, with the bad rows in between."""
    waiting: Iterator[Bad] = iter(bad)
    step = rows // (len(bad) + 1)
    values: list[int | Bad] = list(range(1, rows + 1))
    for at, each in enumerate(waiting, start=1):
        values[at * step] = each
    return values


def _expected(values: Sequence[int | Bad], *, first_line: int) -> Expected:
    results, errors = [], []
    for index, value in enumerate(values):
        if isinstance(value, Bad):
            errors.append((index, first_line + index, value.code))
        else:
            results.append((index, -(-_DIVIDEND // value)))  # towards zero, as C does
    return Expected(results, errors)
