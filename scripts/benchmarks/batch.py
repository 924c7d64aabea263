"""A batch job's speed and memory, beside plain processes and Ray Data on the same rows.

Two plain processes at once, each reading, predicting and writing half of a file, then a job over all of it, round after
round (A B, A B), so that a slow minute of the machine falls on both: digits through a small network, where everything
around the model costs most, and WordNet's glosses through the sentiment model, where the model does. Their lines are
compared. Ray Data's textbook pipeline does the digits once, on a Ray of its own. Then jobs over 100 MB and 2 GB
tell whether memory is flat and how soon the first part of a large input is committed; and files are cut by one thread.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import httpx
import orjson

from batch.boundaries import InputFormat
from batch.shards import Layout, cut
from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.batches.figures import (
    CUTTING,
    FIRST,
    MEMORY,
    OURS,
    PLAIN,
    RAY_DATA,
    STEADY,
    WHOLE,
    Figures,
    Measurement,
    judge,
    table,
    write,
)
from scripts.benchmarks.batches.inputs import DIGITS, GLOSSES, Task, repeated, write_csv
from scripts.benchmarks.batches.jobs import drop_output, run_job
from scripts.benchmarks.batches.plain_pair import lines_of, run_plain
from scripts.benchmarks.behaviour.stage import conclude, introduce, running_platform
from scripts.benchmarks.comparison.machine import busy_note, busy_share, describe_machine
from scripts.benchmarks.comparison.workloads import TOLERANCE, WrongAnswerError
from scripts.benchmarks.predict import RESULTS
from tests.support.platform import RunningPlatform

HELP = "a batch job's rate beside plain processes and Ray Data; its first commit, its memory, cutting"

_PARTS = ("digits", "glosses", "ray-data", "memory", "cutting")
_ROWS = {"digits": 300_000, "glosses": 117_659}
_SMALL_BYTES, _LARGE_BYTES = 100 << 20, 2 << 30
_CUT_BYTES = 256 << 20
_SETTLE_S = 3.0
"""What a platform does for a moment after its start, or after a job, is not a job's."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench batch`."""
    parser.add_argument("--rounds", type=int, default=5, help="of a pair of plain processes and a job (5)")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--out", type=Path, help="a folder for batch.md and .json")
    parser.add_argument(
        "--quick", action="store_true", help="one round, a tenth of every size; writes only with --out"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, print and write; 1 if a target is missed."""
    share = 10 if options.quick else 1
    rounds = 1 if options.quick else options.rounds
    introduce()
    circumstances = [*describe_machine(), *filter(None, [busy_note(busy_share())])]
    with tempfile.TemporaryDirectory(prefix="fb-") as name:
        folder = Path(name)
        measured = list(_cutting(folder, _CUT_BYTES // share)) if "cutting" in options.parts else []
        if set(options.parts) - {"cutting"}:
            measured += _on_a_platform(options.parts, folder, rounds, share)
    figures = Figures(measured)
    findings = judge(figures)
    print("\n" + table(figures) + "\n", flush=True)
    out = options.out or (None if options.quick else RESULTS)
    if out is not None:
        write(out, figures, findings, [*circumstances, *_procedure(rounds)])
    return conclude(findings)


def _cutting(folder: Path, size_bytes: int) -> Iterator[Measurement]:
    rows = DIGITS.write(folder / "rows.jsonl", 3000)
    files = (
        ("JSONL", InputFormat.JSONL, repeated(rows, folder / "cut.jsonl", size_bytes)),
        ("CSV", InputFormat.CSV, write_csv(folder / "cut.csv", size_bytes, quoting=csv.QUOTE_MINIMAL)),
        ("CSV, quoted", InputFormat.CSV, write_csv(folder / "quoted.csv", size_bytes, quoting=csv.QUOTE_ALL)),
    )
    for what, input_format, path in files:
        for number in range(3):
            began_at = time.perf_counter()
            cut(path, Layout(input_format, 0), target_bytes=4 << 20, max_record_bytes=1 << 20, threads=1)
            rate = path.stat().st_size / 1e6 / (time.perf_counter() - began_at)
            yield _said(Measurement(number, CUTTING, what, OURS, rate))
        path.unlink()


def _on_a_platform(parts: Sequence[str], folder: Path, rounds: int, share: int) -> list[Measurement]:
    measured: list[Measurement] = []
    with running_platform(has_demo_models=True) as platform, platform.client() as client:
        _warm(platform, client, folder)
        for name, task in (("digits", DIGITS), ("glosses", GLOSSES)):
            if name in parts or (name == "digits" and "ray-data" in parts):
                source = task.write(folder / f"{name}.jsonl", _ROWS[name] // share)
                what = f"{name}, {_ROWS[name] // share:,} rows"
                for number in range(rounds):
                    measured += _pair(platform, client, task, source, (number, what))
                if name == "digits" and "ray-data" in parts:
                    measured.append(_said(Measurement(0, WHOLE, what, RAY_DATA, _ray_data(source))))
        if "memory" in parts:
            measured += _sizes(platform, client, folder, share)
    return measured


def _warm(platform: RunningPlatform, client: httpx.Client, folder: Path) -> None:
    """One small job of each model: their artifacts are read, and what starts with the first job has started."""
    for task in (DIGITS, GLOSSES):
        run_job(platform, client, task.model, task.write(folder / f"warm-{task.model}.jsonl", 1000))
    time.sleep(_SETTLE_S)


def _pair(
    platform: RunningPlatform, client: httpx.Client, task: Task, source: Path, place: tuple[int, str]
) -> Iterator[Measurement]:
    number, what = place
    yield _said(Measurement(number, STEADY, what, PLAIN, run_plain(task, source, source.parent)))
    time.sleep(_SETTLE_S)
    job = run_job(platform, client, task.model, source)
    yield _said(Measurement(number, STEADY, what, OURS, job.steady_rate))
    yield _said(Measurement(number, WHOLE, what, OURS, job.seconds))
    yield _said(Measurement(number, FIRST, what, OURS, job.first_commit_s))
    compare(job.output, lines_of(source.parent))
    drop_output(job)
    time.sleep(_SETTLE_S)


def compare(ours: Path, theirs: Sequence[Path]) -> None:
    """Each row's answer is the same, whoever gave it.

    Raises:
        WrongAnswerError: ids or labels differ, probabilities by more than the tolerance, or there are more of one.
    """
    with ours.open("rb") as mine:
        plain = (line for path in theirs for line in path.open("rb"))
        for one, other in zip_longest(mine, plain):
            if one is None or other is None:
                raise WrongAnswerError(f"a job says {one!r}, plain processes {other!r}")
            here, there = orjson.loads(one), orjson.loads(other)
            gap = abs(here["result"].pop("score") - there["result"].pop("score"))
            labels = [(each["id"], each["result"]["label"]) for each in (here, there)]
            if labels[0] != labels[1] or gap > TOLERANCE:
                raise WrongAnswerError(f"a job says {one!r}, plain processes {other!r}")


def _ray_data(source: Path) -> float:
    words = [
        DIGITS.graph,
        source,
        source.parent / "ray-data",
        DIGITS.field,
        orjson.dumps(list(DIGITS.labels)).decode(),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.batches.ray_data", *map(str, words)],
        cwd=PROJECT_ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))
    return float(orjson.loads(line)["seconds"])


def _sizes(
    platform: RunningPlatform, client: httpx.Client, folder: Path, share: int
) -> Iterator[Measurement]:
    rows = DIGITS.write(folder / "some.jsonl", 30_000)
    for size in (_SMALL_BYTES // share, _LARGE_BYTES // share):
        source = repeated(rows, folder / "sized.jsonl", size)
        what = f"digits, {size / (1 << 20):,.0f} MiB"
        job = run_job(platform, client, DIGITS.model, source, samples_memory=True)
        yield _said(Measurement(0, MEMORY, what, OURS, job.peak_bytes / (1 << 20)))
        yield _said(Measurement(0, FIRST, what, OURS, job.first_commit_s))
        yield _said(Measurement(0, WHOLE, what, OURS, job.seconds))
        print(
            f"  {job.processes} processes, {len(job.commits)} shards, {job.steady_rate:,.0f} rows/s",
            flush=True,
        )
        drop_output(job)
        time.sleep(_SETTLE_S)


def _said(found: Measurement) -> Measurement:
    print(f"{found.kind}, {found.what}, {found.way}: {found.value:,.2f}", flush=True)
    return found


def _procedure(rounds: int) -> Sequence[str]:
    return (
        "A platform with every default, idle but for what is measured; small jobs of both models before",
        f"{rounds} rounds of two plain processes, then a job. Steady rate: the sum of the workers' own rates, each "
        "from the moment at which the last of them committed its first shard to its own last commit; of plain "
        "processes the same, from the moment both had loaded their model. Their lines are compared with the job's",
        "First commit and end to end: from POST; end to end until GET says `completed`, asked every 250 ms. Ray Data: "
        "from read_json to the return of write_json, on a Ray of its own, two actors; a column an answer's field",
        "Memory: the most PSS of the job's processes together, sampled every 250 ms",
        f"`scripts/bench batch`, {datetime.now(UTC):%Y-%m-%d}",
    )
