"""The job's log: one JSON line an event, in the job's folder, written by every process of every run.

It is for people and for the tests that ask what ran twice; nothing decides by it. Each line is one `write` to a file
opened for appending, which the kernel keeps whole.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson


class JobLog:
    """Appends events of one run."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self._path = folder / "log.jsonl"
        self._epoch = epoch

    def append(self, event: str, **more: object) -> None:
        """Write one event and what else is known of it, `shard` above all."""
        line: dict[str, object] = {
            "at": round(time.time(), 3),
            "epoch": self._epoch,
            "pid": os.getpid(),
            "event": event,
        }
        with self._path.open("ab", buffering=0) as file:
            file.write(orjson.dumps(line | more, option=orjson.OPT_APPEND_NEWLINE))


def read_events(folder: Path) -> list[dict[str, object]]:
    """Every event of the job, oldest first; a line that a power cut left half is skipped."""
    events: list[dict[str, object]] = []
    path = folder / "log.jsonl"
    if not path.exists():
        return events
    for line in path.read_bytes().split(b"\n"):
        if line.endswith(b"}"):
            events.append(orjson.loads(line))
    return events
