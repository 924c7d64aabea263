"""Predictions a second beside other servers of the same model, in one run on one machine.

Each round measures ONNX Runtime alone, then each system in turn, ONNX Runtime alone again after ours, and the rounds
follow each other (A B C A, A B C A), so that a slow minute of the machine falls on all. Only the system that is
measured runs: it is started for its turn and ended after it, because an idle Ray cluster takes a noticeable share of a
small machine. Every figure is the median of the rounds. FyreToolkit runs as `scripts/up` starts it: authentication,
limits, validation and metrics on, the model deployed with one replica; every peer gives the model one thread as well.
The load generator shares the machine.

Every answer that is looked at (the first twenty and a sample of the rest) must equal what ONNX Runtime says to that row
alone; a system that answers wrongly is not reported.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.comparison.floors import OURS, Table, Verdict, judge
from scripts.benchmarks.comparison.fyre import FyreSystem
from scripts.benchmarks.comparison.machine import busy_note, busy_share, describe_machine
from scripts.benchmarks.comparison.measurements import (
    ORT_ALONE,
    Figures,
    System,
    measure,
    measure_alone,
    medians,
)
from scripts.benchmarks.comparison.page import cpu_ms, markdown, ms, rate, terminal
from scripts.benchmarks.comparison.peers import PEERS, PeerSystem, UnavailableError
from scripts.benchmarks.comparison.plot import plot
from scripts.benchmarks.comparison.workloads import WORKLOADS, Workload, WrongAnswerError

HELP = "predictions a second beside Ray Serve's tutorial, FastAPI, mosec and ONNX Runtime alone"

RESULTS = PROJECT_ROOT / "scripts" / "benchmarks" / "results"
_SYSTEMS = ("ray-serve", "fastapi", "mosec", OURS)
_CONNECTIONS = (1, 16, 64, 256)
_PLOTTED = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench predict`."""
    parser.add_argument("--models", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=[*PEERS, OURS],
        default=list(_SYSTEMS),
        help="litserve and bentoml too",
    )
    parser.add_argument("--connections", nargs="+", type=int, default=list(_CONNECTIONS), metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of each measurement; slow models longer (5)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="each system is measured so many times (2)")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"a folder for predict.md, .svg and .json ({RESULTS.relative_to(PROJECT_ROOT)})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="digits at 64 connections, one round, a couple of minutes; writes only with --out",
    )


def run(options: argparse.Namespace) -> int:
    """Measure, print and write; 1 if a floor is missed."""
    if options.quick:
        options.models, options.connections, options.rounds = ["digits"], [_PLOTTED], 1
    circumstances = describe_machine()
    note = busy_note(busy_share())
    print("\n".join([*circumstances, *filter(None, [note])]), flush=True)
    systems: list[System] = [FyreSystem() if name == OURS else PeerSystem(name) for name in options.systems]
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        workloads = [WORKLOADS[name](Path(folder)) for name in options.models]
        rounds = [
            figures
            for number in range(options.rounds)
            for figures in measure_round(number, systems, workloads, options)
        ]
    table = Table(medians(rounds))
    verdicts = judge(table)
    print("\n" + terminal(table, [*(name for name in options.systems if name != OURS), ORT_ALONE]) + "\n")
    for verdict, line in verdicts:
        print(f"{verdict.value}: {line}")
    circumstances += [*_procedure(systems, options), *filter(None, [note])]
    out = options.out or (None if options.quick else RESULTS)
    if out is not None:
        titles = {system.name: system.title for system in systems}
        write(out, rounds, markdown(table, titles, verdicts, circumstances), _plotted(table, titles, options))
    return int(any(verdict is Verdict.MISSED for verdict, _ in verdicts))


def measure_round(
    number: int, systems: Sequence[System], workloads: Sequence[Workload], options: argparse.Namespace
) -> list[Figures]:
    """Every system once; one that cannot be measured is left out with a line that says why."""
    found = _measure_alone(number, workloads, options)
    for system in systems:
        try:
            system.open()
            for workload in workloads:
                found += _measure_one(number, system, workload, options)
        except UnavailableError as error:
            print(f"{system.name} is left out: {error}", flush=True)
        finally:
            system.close()
        if system.name == OURS:
            found += _measure_alone(number, workloads, options)
    return found


def _measure_alone(number: int, workloads: Sequence[Workload], options: argparse.Namespace) -> list[Figures]:
    found = []
    for workload in workloads:
        found.append(measure_alone(workload, options.seconds))
        _say(number, found[-1])
    return found


def _measure_one(
    number: int, system: System, workload: Workload, options: argparse.Namespace
) -> list[Figures]:
    try:
        target = system.start(workload)
        found = measure(system, target, workload, options.connections, options.seconds)
    except (UnavailableError, WrongAnswerError) as error:
        print(f"{system.name} is left out for {workload.name}: {error}", flush=True)
        return []
    finally:
        system.stop()
    for figures in found:
        _say(number, figures)
    return found


def _say(number: int, figures: Figures) -> None:
    print(
        f"round {number + 1}: {figures.workload} {figures.system} {figures.connections or 'open'}: "
        f"{rate(figures.rps)} req/s, {rate(figures.rows_per_s)} rows/s, "
        f"p50 {ms(figures.p50_s)} ms, p99 {ms(figures.p99_s)} ms, "
        f"CPU {cpu_ms(figures.cpu_s)} ms"
        + (f", {figures.failed} failed" if figures.failed else "")
        + (f", {figures.refused} refused" if figures.refused else ""),
        flush=True,
    )


def _procedure(systems: Sequence[System], options: argparse.Namespace) -> list[str]:
    others = ", ".join(system.version for system in systems if system.name != OURS)
    return [
        f"Compared: {others}" if others else "Nothing was compared",
        f"{options.rounds} round(s) of {options.seconds:g} s a measurement, medians of the rounds; only the system "
        "that is measured runs, on the machine that makes the load too",
        "Closed loop: so many clients that wait for each answer. Open loop: Poisson arrivals at 70% of the system's "
        "own best, latency from the time a request was due. Times are p50 / p99; CPU time is that of all processes of "
        "the system, for each request",
        f"`scripts/bench predict`, {datetime.now(UTC):%Y-%m-%d}",
    ]


def _plotted(table: Table, titles: dict[str, str], options: argparse.Namespace) -> str:
    connections = _PLOTTED if _PLOTTED in options.connections else max(options.connections)
    return plot(table, titles, connections, " · ".join(describe_machine()[:2]))


def write(folder: Path, rounds: Sequence[Figures], page: str, picture: str) -> None:
    """predict.md, predict.svg and, every round by itself, predict.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predict.md").write_text(page, "utf-8")
    (folder / "predict.svg").write_text(picture, "utf-8")
    figures = [{name: _json(value) for name, value in asdict(each).items()} for each in rounds]
    (folder / "predict.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(f"\nwritten: {folder}/predict.md, .svg, .json")


def _json(value: object) -> object:
    """NaN is null."""
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124
