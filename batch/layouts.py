"""What an input is: CSV with a header or JSONL, decided by its name's extension, then content type, then content.

Only the beginning of the file is read. What fails here fails the whole job (`invalid_format`): an encoding that is not
UTF-8, a header that names no columns. Everything behind the header can fail one row at a time alone.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import orjson

from batch.boundaries import InputFormat, Scanner
from batch.cells import CellError, parse_cells
from batch.shards import Layout
from fyretoolkit.core.errors import PlatformError

_SAMPLE_BYTES = 64 << 10
_OTHER_SEPARATOR = re.compile(r"[;\t]")
_BLANK = b"\r\n\t "
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"%PDF": "a PDF",
}
_EXTENSIONS = {
    ".csv": InputFormat.CSV,
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".jsonlines": InputFormat.JSONL,
}
_CONTENT_TYPES = {
    "text/csv": InputFormat.CSV,
    "application/csv": InputFormat.CSV,
    "application/jsonl": InputFormat.JSONL,
    "application/x-jsonlines": InputFormat.JSONL,
    "application/jsonlines": InputFormat.JSONL,
    "application/x-ndjson": InputFormat.JSONL,
    "application/ndjson": InputFormat.JSONL,
}
_COMPRESSED = (".gz", ".zst", ".zstd")


def read_layout(
    path: Path, *, name: str, content_type: str | None, max_header_bytes: int, max_columns: int
) -> Layout:
    """The format of the file at `path`, called `name` where it came from, and where its records begin.

    Raises:
        PlatformError: `invalid_format`, the message says why.
    """
    with path.open("rb") as file:
        beginning = file.read(max(_SAMPLE_BYTES, max_header_bytes + 2))
    refuse_foreign(beginning)
    bom = len(_BOM) if beginning.startswith(_BOM) else 0
    beginning = beginning[bom:]
    decided = declared_format(name, content_type) or sniff_format(beginning)
    if decided is InputFormat.JSONL:
        return Layout(InputFormat.JSONL, bom, _first_object(beginning, max_header_bytes))
    return _csv_layout(beginning, bom, max_header_bytes, max_columns)


def declared_format(name: str, content_type: str | None) -> InputFormat | None:
    """What a file name's extension says, else the content type; None if neither. A `.gz`, `.zst` is looked through."""
    path = PurePosixPath(name.lower())
    if path.suffix in _COMPRESSED:
        path = path.with_suffix("")
    by_type = _CONTENT_TYPES.get((content_type or "").partition(";")[0].strip().lower())
    return _EXTENSIONS.get(path.suffix) or by_type


def sniff_format(beginning: bytes) -> InputFormat:
    """JSONL if the first line that is not empty is a JSON value, or begins like an object or array; else CSV.

    Text in quotes may be a row of JSONL and the quoted header of one column as well: what follows tells, if it is no
    JSON. Whoever quotes every cell has to say which it is, by name or content type.
    """
    line, _, rest = beginning.lstrip(_BLANK).partition(b"\n")
    if line[:1] in (b"{", b"["):
        return InputFormat.JSONL
    if not _is_json(line):
        return InputFormat.CSV
    following = rest.lstrip(_BLANK).partition(b"\n")[0]
    is_header = line[:1] == b'"' and bool(following) and not _is_json(following)
    return InputFormat.CSV if is_header else InputFormat.JSONL


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def refuse_foreign(beginning: bytes) -> None:
    """Name what is plainly something else."""
    for magic, name in _FOREIGN.items():
        if beginning.startswith(magic):
            raise PlatformError(
                "invalid_format", f"The input is {name}. Send CSV with a header or JSONL, encoded as UTF-8."
            )


def parse_header(content: bytes, max_columns: int) -> tuple[str, ...]:
    """The column names of a CSV header.

    Raises:
        PlatformError: `invalid_format`: not UTF-8, no name, a name twice, too many.
    """
    try:
        names = tuple(name.strip() for name in parse_cells(content))
    except CellError as error:
        raise PlatformError("invalid_format", f"The CSV header is not valid: {error}.") from error
    if len(names) > max_columns:
        raise PlatformError(
            "invalid_format", f"The CSV header names {len(names)} columns; {max_columns} are allowed."
        )
    for position, name in enumerate(names, start=1):
        if not name:
            raise PlatformError("invalid_format", f"The CSV header does not name column {position}.")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise PlatformError(
            "invalid_format", f"The CSV header names the column {min(twice)[:100]!r} twice. Rename one."
        )
    return names


def _first_object(beginning: bytes, max_bytes: int) -> bytes:
    """The first line of JSONL if it is an object: its fields stand for a header. Else nothing."""
    line = beginning.lstrip(b"\r\n\t ").partition(b"\n")[0].strip()
    if len(line) > max_bytes:
        return b""
    try:
        return line if isinstance(orjson.loads(line), dict) else b""
    except orjson.JSONDecodeError:
        return b""


def _csv_layout(beginning: bytes, bom: int, max_header_bytes: int, max_columns: int) -> Layout:
    start, end, line = _first_record(beginning)
    header = beginning[start:end].rstrip(b"\r\n")
    if len(header) > max_header_bytes:
        raise PlatformError(
            "invalid_format", f"The CSV header is longer than {max_header_bytes} bytes. Is the file CSV?"
        )
    if not header:
        raise PlatformError(
            "invalid_format", "The input is empty; a CSV file begins with a line of column names."
        )
    names = parse_header(header, max_columns)
    if len(names) == 1 and not header.startswith(b'"') and (other := _OTHER_SEPARATOR.search(names[0])):
        raise PlatformError(
            "invalid_format",
            f"The CSV header is one column, {names[0][:80]!r}. Separate columns by commas, not {other[0]!r}; "
            "put the name in double quotes if it is one.",
        )
    return Layout(InputFormat.CSV, bom + end, header, line)


def _first_record(beginning: bytes) -> tuple[int, int, int]:
    """Start, end and the line after the first record that is not an empty line."""
    lines = Scanner(InputFormat.CSV).feed(beginning)
    start = 0
    ends = zip(lines.offsets.tolist(), lines.ends_record.tolist(), strict=True)
    for ordinal, (offset, ends_record) in enumerate(ends, start=1):
        if not ends_record:
            continue
        if beginning[start:offset].rstrip(b"\r"):
            return start, offset + 1, ordinal + 1
        start = offset + 1
    return start, len(beginning), len(lines.offsets) + 1
