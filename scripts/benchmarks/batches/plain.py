"""One plain process over a share of a JSONL file: read, orjson, ONNX Runtime on one thread, orjson, write.

What an engineer writes who has a file and a model and no platform: no checks, no commits, no resume. Its lines hold
what a job's lines hold, so that the two can be compared and cost the same to write. It imports nothing of ours.

    python -m scripts.benchmarks.batches.plain MODEL INPUT OUTPUT FIELD LABELS NUMBER COUNT

takes share NUMBER of COUNT and the class names as JSON, says `ready`, begins at a line of its standard input, and ends
with a line of JSON: its rows, and the moments at which it began and ended.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime
import orjson

_ROWS = 256


def main(model: str, source: str, target: str, field: str, labels: Sequence[object], share: range) -> None:
    """Work on the bytes in `share`; see the module."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    print("ready", flush=True)
    sys.stdin.readline()
    began_at, rows = time.time(), 0
    with Path(source).open("rb") as lines, Path(target).open("wb") as out:
        for batch in _batches(lines, share):
            out.writelines(_answer(session, batch, field, labels, rows))
            rows += len(batch)
    print(
        json.dumps({"rows": rows, "began_at": began_at, "ended_at": time.time()}),
        flush=True,
    )


def _batches(lines: BinaryIO, share: range) -> Any:
    """The rows of the lines that begin in the share."""
    position = share.start
    if position:
        lines.seek(position - 1)
        position += len(lines.readline()) - 1
    batch: list[Any] = []
    for line in lines:
        if position >= share.stop:
            break
        position += len(line)
        batch.append(orjson.loads(line))
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _answer(
    session: onnxruntime.InferenceSession,
    batch: list[Any],
    field: str,
    labels: Sequence[object],
    first: int,
) -> list[bytes]:
    node = session.get_inputs()[0]
    values = [row[field] for row in batch]
    if node.type == "tensor(string)":
        array = np.array(values, dtype=object).reshape(-1, 1)
    else:
        array = np.array(values, dtype=np.float32)
    found, probabilities = session.run(["label", "probabilities"], {node.name: array})
    names = [str(label) for label in labels]
    answers = zip(
        batch, found.tolist(), probabilities.max(axis=1).tolist(), probabilities.tolist(), strict=True
    )
    return [
        orjson.dumps(
            {
                "index": index,
                "id": row["id"],
                "result": {
                    "label": labels[label] if isinstance(label, int) else label,
                    "score": score,
                    "probabilities": dict(zip(names, each, strict=True)),
                },
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for index, (row, label, score, each) in enumerate(answers, start=first)
    ]


if __name__ == "__main__":
    _model, _source, _target, _field, _labels, _number, _count = sys.argv[1:]
    _size = Path(_source).stat().st_size
    _share = range(_size * int(_number) // int(_count), _size * (int(_number) + 1) // int(_count))
    main(_model, _source, _target, _field, json.loads(_labels), _share)
