"""Real time beside a batch job: latency of sentiment on a quiet platform and while a job uses the machine, in turns.

Requests of one sentence come by a timetable, at a share of what the platform answers when that is all it does, found
first. Each time the job is created when its part begins, so that the start of its workers is within, and canceled at
the end: A B A B in one run, so that a machine that others disturb does so to both.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.behaviour.mixture import sentiment
from scripts.benchmarks.behaviour.stage import (
    Finding,
    conclude,
    introduce,
    running_platform,
    target_of,
    warm,
)
from scripts.benchmarks.load import Report, Target, closed_loop, open_loop
from tests.support.platform import RunningPlatform, submit, until

HELP = "latency of predictions while a batch job uses the machine; and the job gets on"

_MODEL = "sentiment-v1"
_BAR = 2.0
_COPIES = 200
"""Of 2,942 rows: minutes of work on any machine."""
_QUIET_WITHIN_S = 120.0
_MOST_STRETCHES = 20
"""Of load, if they are short and the machine so busy that a job has no row in one; the last is judged."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A stretch of load beside a job, and the rows that the job did meanwhile."""

    report: Report
    rows: int
    seconds: float

    @property
    def rows_per_s(self) -> float:
        """Of the job."""
        return self.rows / self.seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench beside`."""
    parser.add_argument("--seconds", type=float, default=25.0, help="of each part (25)")
    parser.add_argument("--rounds", type=_whole_number, default=4, help="of two parts each (4)")
    parser.add_argument("--share", type=float, default=0.25, help="of the closed loop's rate (0.25)")
    parser.add_argument("--quick", action="store_true", help="two rounds, 10 s a part")


def _whole_number(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("1 at least: without a round there is nothing to judge")
    return number


def run(options: argparse.Namespace) -> int:
    """Measure, print; 1 if real time suffered or the job did not get on."""
    if options.quick:
        options.seconds, options.rounds = 10.0, 2
    introduce()
    with (
        tempfile.TemporaryDirectory(prefix="fb-") as folder,
        running_platform(has_demo_models=True) as platform,
    ):
        rows = glosses(Path(folder), _COPIES)
        workload = sentiment(requests=400, rows=(1,))
        target = target_of(platform, workload.name, workload.bodies)
        warm(target)
        capacity = closed_loop(target, connections=16, seconds=min(8.0, options.seconds)).rps
        rate = capacity * options.share
        print(f"closed loop of 16: {capacity:.0f} requests a second; from now on {rate:.0f}", flush=True)
        alone, beside = measure(
            platform, target, rows, rate_per_s=rate, seconds=options.seconds, rounds=options.rounds
        )
        return conclude(judge(alone, beside))


def glosses(folder: Path, copies: int) -> Path:
    """A file of 2,942 rows, so many times over."""
    golden = PROJECT_ROOT / "tests" / "golden" / "wordnet_sample.jsonl.gz"
    path = folder / "glosses.jsonl"
    path.write_bytes(gzip.decompress(golden.read_bytes()) * copies)
    return path


def measure(
    platform: RunningPlatform,
    target: Target,
    rows: Path,
    *,
    rate_per_s: float,
    seconds: float,
    rounds: int,
) -> tuple[list[Report], list[Beside]]:
    """In turn: the load alone, the load beside a job."""
    alone: list[Report] = []
    beside: list[Beside] = []
    with platform.client() as client:
        for _ in range(rounds):
            alone.append(open_loop(target, rate_per_s=rate_per_s, seconds=seconds))
            _tell("alone", alone[-1])
            beside.append(_beside(platform, client, target, rows, rate_per_s, seconds))
            _tell(f"beside a job that did {beside[-1].rows_per_s:.0f} rows/s", beside[-1].report)
    return alone, beside


def _beside(
    platform: RunningPlatform, client: httpx.Client, target: Target, rows: Path, rate: float, seconds: float
) -> Beside:
    job = submit(client, _MODEL, rows.as_uri())
    began = time.monotonic()
    for _ in range(_MOST_STRETCHES):
        report = open_loop(target, rate_per_s=rate, seconds=seconds)
        if client.get(f"/jobs/{job}").raise_for_status().json()["progress"]["succeeded"]:
            break
    took_s = time.monotonic() - began
    done = client.post(f"/jobs/{job}/cancel").raise_for_status().json()["progress"]["succeeded"]
    until(
        lambda: not platform.titled("ray::RunnerActor"), timeout_s=_QUIET_WITHIN_S, what="the end of the run"
    )
    time.sleep(1.0)  # what was its takes a moment to go
    return Beside(report, done, took_s)


def _tell(what: str, report: Report) -> None:
    p50, p95, p99 = (report.percentile(q) * 1000 for q in (50, 95, 99))
    print(f"{what}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, {report.statuses}", flush=True)


def judge(alone: Sequence[Report], beside: Sequence[Beside]) -> list[Finding]:
    """All parts of a kind together."""
    quiet_ms, found_ms = (
        float(np.percentile(np.concatenate([each.latencies[200] for each in reports]), 95)) * 1000
        for reports in (alone, [each.report for each in beside])
    )
    rates = [each.rows_per_s for each in beside]
    return [
        Finding(
            f"p95 beside a job {found_ms:.1f} ms ≤ {_BAR:g} × {quiet_ms:.1f} ms alone "
            f"({found_ms / quiet_ms:.2f} ×)",
            found_ms <= _BAR * quiet_ms,
        ),
        Finding(
            f"the job gets on: {' and '.join(f'{rate:.0f}' for rate in rates)} rows a second", min(rates) > 0
        ),
        Finding(
            "every prediction is answered",
            all(each.is_clean for each in (*alone, *(each.report for each in beside))),
        ),
    ]
