"""One CSV record's bytes to its cells, strictly by RFC 4180.

Python's `csv` was rejected: it reads text, so a bad byte anywhere stops a whole file, it accepts NUL, and it lets a
quote in the middle of a cell pass, which then reads differently from what the author meant. Source: RFC 4180, 2.
"""

from __future__ import annotations

import re

_CELL = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",]*+))(,|\Z)')


class CellError(ValueError):
    """The record is not RFC 4180; the text says why, without a full stop."""


def parse_cells(record: bytes) -> list[str]:
    """The cells of a record, which comes without its line end.

    Raises:
        CellError: bad UTF-8, NUL, a CR outside quotes, a stray or unclosed quote.
    """
    try:
        text = record.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CellError(f"it is not UTF-8 at byte {error.start}") from error
    if "\0" in text:
        raise CellError("it holds a NUL character")
    if '"' in text:
        return _quoted_cells(text)
    if "\r" in text:
        raise CellError("it holds a carriage return outside quotes")
    return text.split(",")


def _quoted_cells(text: str) -> list[str]:
    cells: list[str] = []
    position, size = 0, len(text)
    while True:
        match = _CELL.match(text, position)
        if match is None:
            raise CellError(_mistake(text, position))
        quoted, plain, separator = match.groups()
        if quoted is None:
            if "\r" in plain:
                raise CellError("it holds a carriage return outside quotes")
            cells.append(plain)
        else:
            cells.append(quoted.replace('""', '"') if '""' in quoted else quoted)
        position = match.end()
        if not separator:
            return cells
        if position == size:
            cells.append("")
            return cells


def _mistake(text: str, position: int) -> str:
    if text[position] != '"':
        return f"a quote stands inside an unquoted cell at character {text.index(chr(34), position) + 1}"
    closed = re.compile(r'"[^"]*+(?:""[^"]*+)*+"').match(text, position)
    if closed is None:
        return f"the quote at character {position + 1} is never closed"
    return f"text follows the closing quote at character {closed.end()}"
