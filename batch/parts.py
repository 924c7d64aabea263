"""Parts: the results and the errors of one shard, as two JSONL files that appear whole or not at all.

A part is written aside, synced and renamed. Its name carries the run's epoch and a random suffix: neither two runs nor
two workers of one run, which may take the same shard, write the same file, and what was committed is never touched
again. The same rows give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from batch.failpoints import reach
from batch.fields import RowId

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_PIECE_BYTES = 256 << 10
"""Of one write: Linux keeps larger ones in pages of up to 2 MiB, and each such page of a virtual machine that gave its
free memory back to its host is a fault there (decisions/0016).
"""
_SEAM, _PARTED = b'},{"index":', b'}\n{"index":'


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file of the job folder, and what it must hold."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard became; the record that a commit stores."""

    results: PartFile
    errors: PartFile

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, dict[str, object]]) -> Part:
        """The part that `to_json` gave."""
        return cls(PartFile(**stored["results"]), PartFile(**stored["errors"]))  # type: ignore[arg-type]


@dataclass(slots=True)  # to freeze it costs three times as much, of each of millions
class Answer:
    """The model's answer to the row `index`, whose own id, if it has one, is `id`."""

    index: int
    id: RowId | None
    result: object


@dataclass(slots=True)
class PartLines:
    """The lines of a part while its shard is predicted; rows may be added in any order of good and bad."""

    results: list[tuple[int, bytes]] = field(default_factory=list)
    """Lines in a row, by the index of the first of them."""
    errors: list[tuple[int, bytes]] = field(default_factory=list)
    succeeded: int = 0

    @property
    def failed(self) -> int:
        """How many error lines there are."""
        return len(self.errors)

    @property
    def size_bytes(self) -> int:
        """Of all lines."""
        return sum(len(text) for _, text in (*self.results, *self.errors))

    def add_results(self, answers: Sequence[Answer]) -> None:
        """Answers in the order of their rows. A value JSON has no word for (NaN) becomes null."""
        self.add_columns(
            [answer.index for answer in answers],
            [answer.id for answer in answers],
            [answer.result for answer in answers],
        )

    def add_columns(
        self, indexes: Sequence[int], ids: Sequence[RowId | None], results: Sequence[object]
    ) -> None:
        """The same, by columns.

        All are written by one call and then parted, at a third of the time of a call each. In a text a quote is
        escaped, so what is parted at is the seam of two answers, unless a model answers with a list of objects that
        begin with `index`; then the count tells.
        """
        if not indexes:
            return
        rows = [
            {"index": index, "id": identifier, "result": result}
            if identifier is not None
            else {"index": index, "result": result}
            for index, identifier, result in zip(indexes, ids, results, strict=True)
        ]
        lines = orjson.dumps(rows, option=_OPTIONS)[1:-1].replace(_SEAM, _PARTED) + b"\n"
        if lines.count(b"\n") != len(rows):
            lines = b"".join(orjson.dumps(row, option=_OPTIONS) + b"\n" for row in rows)
        self.results.append((indexes[0], lines))
        self.succeeded += len(rows)

    def add_result(self, index: int, identifier: RowId | None, result: object) -> None:
        """The answer to one row."""
        self.add_results([Answer(index, identifier, result)])

    def add_error(
        self, index: int, line_number: int, identifier: RowId | None, code: str, message: str
    ) -> None:
        """Why the row `index` has no answer."""
        line: dict[str, object] = {"index": index, "line": line_number}
        if identifier is not None:
            line["id"] = identifier
        line["error"] = {"code": code, "message": message}
        self.errors.append((index, orjson.dumps(line, option=_OPTIONS) + b"\n"))


def write_part(folder: Path, shard: int, epoch: int, lines: PartLines) -> Part:
    """Publish the files of a part in `folder`, durably."""
    stem = f"part-{shard:06d}-{epoch}-{secrets.token_hex(4)}"
    part = Part(
        _publish(folder, f"{stem}.jsonl", lines.results),
        _publish(folder, f"{stem}.errors.jsonl", lines.errors),
    )
    sync_folder(folder)
    return part


def _publish(folder: Path, name: str, lines: Iterable[tuple[int, bytes]]) -> PartFile:
    content = b"".join(line for _, line in sorted(lines, key=lambda entry: entry[0]))
    aside = folder / f".{name}"
    with aside.open("wb") as file:
        view = memoryview(content)
        for at in range(0, len(content), _PIECE_BYTES):
            file.write(view[at : at + _PIECE_BYTES])
        file.flush()
        if content:  # an empty file is there with its name, for which `write_part` syncs the folder
            os.fsync(file.fileno())
    reach("part.aside", name)
    aside.replace(folder / name)
    return PartFile(name, len(content), hashlib.sha256(content).hexdigest())


def sync_folder(folder: Path) -> None:
    """Make renames in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
