"""Answers under mixed load: two models at once, requests of one to sixteen rows, one in a hundred of them wrong.

First every right request is sent alone, one at a time on a quiet platform, and its answer compared with what ONNX
Runtime says to each row alone. Then all connections send at once, so that requests are joined, and every single answer
is judged: a right request must be answered as when it was alone (labels equal, |Δp| ≤ 1e-6), a wrong one with the error
that names what is wrong with it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.benchmarks.behaviour.mixture import Entry, digits, mixed, sentiment
from scripts.benchmarks.behaviour.stage import (
    Finding,
    conclude,
    introduce,
    running_platform,
    target_of,
)
from scripts.benchmarks.comparison.measurements import ask
from scripts.benchmarks.comparison.workloads import Reference, Workload
from scripts.benchmarks.load import Report, Running, start_closed_loop
from tests.support.platform import RunningPlatform

HELP = "answers under mixed load, one request in a hundred wrong: each as if it were alone"

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Round:
    """A load that was made: what was sent, in this order and over again, and what came back."""

    entries: Sequence[Entry]
    report: Report


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench mixed`."""
    parser.add_argument("--connections", type=int, default=64, help="of both models together (64)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of load (30)")
    parser.add_argument("--quick", action="store_true", help="8 s of load")


def run(options: argparse.Namespace) -> int:
    """Load, judge every answer, print; 1 if one is wrong."""
    if options.quick:
        options.seconds = 8.0
    introduce()
    with running_platform(has_demo_models=True) as platform:
        prepared = [(workload, prepare(platform, workload)) for workload in (digits(), sentiment())]
        loads = [
            start(platform, workload, entries, options.connections // len(prepared), options.seconds)
            for workload, entries in prepared
        ]
        reports = [load.report() for load in loads]
    findings = [
        finding
        for (workload, entries), report in zip(prepared, reports, strict=True)
        for finding in judge(workload.name, [Round(entries, report)])
    ]
    return conclude(findings)


def prepare(platform: RunningPlatform, workload: Workload) -> list[Entry]:
    """The mixture for a workload: each right request is answered alone first.

    Raises:
        WrongAnswerError: even alone, an answer is not ONNX Runtime's.
    """
    target = target_of(platform, workload.name, workload.bodies)
    reference = Reference(workload)
    alone = []
    for number in range(len(workload.bodies)):
        _, content = ask(target, number)
        reference.check(number, content)
        alone.append(content)
    return mixed(workload, alone)


def start(
    platform: RunningPlatform, workload: Workload, entries: Sequence[Entry], connections: int, seconds: float
) -> Running:
    """Begin a load of the mixture that keeps every answer."""
    target = target_of(platform, workload.name, [entry.body for entry in entries])
    return start_closed_loop(target, connections=connections, seconds=seconds, warm_up_s=0.0, keep_every=1)


def missing_kinds(rounds: Sequence[Round]) -> set[bytes]:
    """Wrong requests that have not been answered yet."""
    answered = {each.entries[sample.body_index].body for each in rounds for sample in each.report.samples}
    return {entry.body for entry in rounds[0].entries if entry.is_bad} - answered


def judge(name: str, rounds: Sequence[Round]) -> list[Finding]:
    """Findings about all answers of one model."""
    problems: dict[bool, list[str]] = {True: [], False: []}
    counts: Counter[bool] = Counter()
    joined = 0
    for entry, sample in (
        (each.entries[sample.body_index], sample) for each in rounds for sample in each.report.samples
    ):
        answer = json.loads(sample.content)
        counts[entry.is_bad] += 1
        if sample.status == 200:
            joined = max(joined, answer["usage"]["batch_size"])
        if problem := entry.check(sample.status, answer):
            problems[entry.is_bad].append(problem)
    for problem in [*problems[False][:_SHOWN], *problems[True][:_SHOWN]]:
        print(f"{name}: {problem}", flush=True)
    missing = missing_kinds(rounds)
    lost = sum(each.report.errors + each.report.unanswered for each in rounds)
    return [
        Finding(
            f"{name}: {counts[False]} right requests, each answered as alone: "
            f"{len(problems[False])} were not (up to {joined} rows an inference)",
            not problems[False] and counts[False] > 0,
        ),
        Finding(
            f"{name}: {counts[True]} wrong requests, each with its own error: {len(problems[True])} were not; "
            f"{len(missing)} kinds were not sent",
            not problems[True] and not missing,
        ),
        Finding(f"{name}: {lost} requests without an answer", not lost),
    ]
