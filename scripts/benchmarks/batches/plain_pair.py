"""Two plain processes at once, each over half of a file: what a job's steady rate is compared with."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.batches.inputs import Task

_COUNT = 2


def run_plain(task: Task, source: Path, folder: Path) -> float:
    """The sum of their rows a second, each from the moment both were ready to its own end; lines go to `folder`."""
    with ExitStack() as stack:
        running = [stack.enter_context(_start(task, source, folder, number)) for number in range(_COUNT)]
        for process in running:
            _read(process, "ready")
        for process in running:
            print(file=process.stdin, flush=True)
        ends = [json.loads(_read(process, "{")) for process in running]
    return sum(float(end["rows"]) / (end["ended_at"] - end["began_at"]) for end in ends)


def lines_of(folder: Path) -> list[Path]:
    """The files that they wrote, in the order of the rows."""
    return [folder / f"plain-{number}.jsonl" for number in range(_COUNT)]


def _start(task: Task, source: Path, folder: Path, number: int) -> subprocess.Popen[str]:
    words = [
        task.graph,
        source,
        lines_of(folder)[number],
        task.field,
        json.dumps(list(task.labels)),
        number,
        _COUNT,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.batches.plain", *map(str, words)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _read(process: subprocess.Popen[str], beginning: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith(beginning):
        raise RuntimeError(f"a plain process ended with {process.wait()}")
    return line
