"""What batch jobs are measured on: rows of this repository's own golden files, repeated, each with an id of its own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.comparison.workloads import WORKLOADS

_GOLDEN = PROJECT_ROOT / "tests" / "golden"


@dataclass(frozen=True, slots=True)
class Task:
    """A model, the field that it takes of a row, and the rows."""

    model: str
    field: str
    labels: Sequence[object]
    rows: Callable[[], Iterator[dict[str, object]]]

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return WORKLOADS[self.model](Path()).graph

    def write(self, path: Path, count: int) -> Path:
        """So many rows as JSONL, at `path`."""
        with path.open("w", encoding="utf-8") as file:
            for number, row in enumerate(islice(self.rows(), count)):
                file.write(json.dumps({"id": number, **row}) + "\n")
        return path


def _pictures() -> Iterator[dict[str, object]]:
    lines = (_GOLDEN / "digits_golden.jsonl").read_text("utf-8").splitlines()
    pixels = [json.loads(line)["pixels"] for line in lines]
    while True:
        yield from ({"pixels": each} for each in pixels)


def _glosses() -> Iterator[dict[str, object]]:
    with gzip.open(_GOLDEN / "wordnet_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    while True:
        yield from ({"word": row["word"], "text": row["text"]} for row in rows)


DIGITS = Task("digits", "pixels", range(10), _pictures)
GLOSSES = Task("sentiment-v1", "text", ["negative", "positive"], _glosses)


def repeated(source: Path, target: Path, size_bytes: int) -> Path:
    """The rows of `source` over and over, until there are about so many bytes."""
    with target.open("wb") as out:
        while out.tell() < size_bytes:
            with source.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
    return target


def write_csv(path: Path, size_bytes: int, *, quoting: int) -> Path:
    """Glosses as CSV, until there are about so many bytes; `quoting` is one of the `csv` module's."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting)  # type: ignore[arg-type]
    for number, row in enumerate(islice(_glosses(), 2900)):
        text = str(row["text"])
        writer.writerow(
            [number, text.replace(",", ";").replace('"', "'") if quoting == csv.QUOTE_MINIMAL else text]
        )
    with path.open("wb") as out:
        out.write(b"id,text\n")
        while out.tell() < size_bytes:
            out.write(buffer.getvalue().encode())
    return path
