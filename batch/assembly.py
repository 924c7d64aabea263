"""Parts to one output file and one errors file, in the input's order, published by rename.

Each part's digest is checked while it is copied, so a part that a disk lost or changed can never become a silent gap.
CSV output is made from the same parts: its columns are the union of the results' fields, found in a first pass.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from batch.parts import Part, PartFile, sync_folder
from fyretoolkit.core.errors import PlatformError

_BLOCK_BYTES = 1 << 20
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
) -> Output:
    """Concatenate the parts in `folder` into files of `target`, in the order given.

    Their names carry the run's epoch: a run that slept through its end cannot write over what a newer one published.

    Raises:
        PlatformError: `run_failed`, a part is missing or is not what was committed.
    """
    results = [part.results for part in parts]
    blocks = _csv_blocks(folder, results) if output_format == "csv" else _copied_blocks(folder, results)
    name = f"output-{epoch}.{output_format}"
    output = Output(
        _publish(target / name, blocks),
        _publish(target / f"errors-{epoch}.jsonl", _copied_blocks(folder, [part.errors for part in parts])),
        is_partial,
    )
    sync_folder(target)
    return output


def _publish(path: Path, blocks: Iterable[bytes]) -> PartFile:
    digest, size = hashlib.sha256(), 0
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # another thread may assemble the same job
    try:
        with aside.open("wb") as file:
            for block in blocks:
                digest.update(block)
                size += file.write(block)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return PartFile(path.name, size, digest.hexdigest())


def _copied_blocks(folder: Path, files: Iterable[PartFile]) -> Iterator[bytes]:
    for file in files:
        digest = hashlib.sha256()
        try:
            with (folder / file.name).open("rb") as source:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    yield block
        except FileNotFoundError as error:
            raise _damaged(file, "is missing") from error
        if digest.hexdigest() != file.sha256:
            raise _damaged(file, "is not what was committed")


def _damaged(file: PartFile, how: str) -> PlatformError:
    return PlatformError("run_failed", f"The results are damaged: {file.name} {how}. Create the job again.")


def _csv_blocks(folder: Path, files: Sequence[PartFile]) -> Iterator[bytes]:
    fields = list(dict.fromkeys(name for line in _lines(folder, files) for name in _fields(line["result"])))
    yield _csv_rows([["index", "id", *fields]])
    for file in files:
        yield _csv_rows(
            [
                _cell(line["index"]),
                _cell(line.get("id")),
                *(_cell(_fields(line["result"]).get(name)) for name in fields),
            ]
            for line in _lines(folder, [file])
        )


def _lines(folder: Path, files: Iterable[PartFile]) -> Iterator[dict[str, object]]:
    for file in files:
        content = b"".join(_copied_blocks(folder, [file]))
        for line in content.splitlines():
            yield orjson.loads(line)


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


def _csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()
