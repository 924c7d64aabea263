"""Full load for minutes: memory and open files of every process of the platform stay as they are, and nothing fails.

Flat means: the mean of the last tenth of the samples is at most 5% above that of the second tenth. The first tenth is
left out, in which caches fill and allocators get their arenas.

The minutes count from when all that is bounded has its size: the same load runs before them until the finest metrics'
buckets expire as fast as new ones come (5 min 5 s; half a MiB in Redis, 6% of what it holds). What grew meanwhile is
printed, and not judged.
"""

from __future__ import annotations

import argparse
import time

from fyretoolkit.core.metrics import Period
from scripts.benchmarks.behaviour.mixture import digits, sentiment, with_rows
from scripts.benchmarks.behaviour.processes import Watch, describe, growth_ratio, judge_flatness
from scripts.benchmarks.behaviour.stage import (
    Finding,
    conclude,
    introduce,
    running_platform,
    target_of,
    warm,
)
from scripts.benchmarks.load import Report, start_closed_loop

HELP = "ten minutes at full load: memory and open files of every process stay flat"

_SENTENCES = 16
_REQUESTS = 64
_QUICK_MINUTES = 0.5
_FILL_S = Period.FIVE_MINUTES.kept_s + 25.0
_QUICK_FILL_S = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench soak`."""
    parser.add_argument("--minutes", type=float, default=10.0, help="of load (10)")
    parser.add_argument("--connections", type=int, default=64, help="for digits (64)")
    parser.add_argument("--sentiment-connections", type=int, default=4, help="for sentiment-v1 (4)")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_MINUTES:g} minutes")


def run(options: argparse.Namespace) -> int:
    """Load, watch, print; 1 if something grew or failed."""
    if options.quick:
        options.minutes = _QUICK_MINUTES
    introduce()
    seconds, fill_s = options.minutes * 60, _QUICK_FILL_S if options.quick else _FILL_S
    workloads = [
        (with_rows(digits(), 1, _REQUESTS), options.connections),
        (with_rows(sentiment(requests=400), _SENTENCES, _REQUESTS), options.sentiment_connections),
    ]
    with running_platform(has_demo_models=True) as platform:
        targets = [
            (target_of(platform, workload.name, workload.bodies), connections)
            for workload, connections in workloads
        ]
        for target, _ in targets:
            warm(target)
        loads = [
            start_closed_loop(target, connections=connections, seconds=seconds, warm_up_s=fill_s)
            for target, connections in targets
        ]
        with Watch(platform) as filling:
            time.sleep(fill_s)
        with Watch(platform) as watch:
            reports = [load.report() for load in loads]
    most = max(filling.series, key=growth_ratio)
    print(f"  in {fill_s:.0f} s of the same load before, most: {describe(most)}")
    for series in watch.series:
        print(f"  {describe(series)}")
    answered = [
        _answered(workload.name, report) for (workload, _), report in zip(workloads, reports, strict=True)
    ]
    return conclude([*answered, *judge_flatness(watch.series)])


def _answered(name: str, report: Report) -> Finding:
    return Finding(
        f"{name}: {len(report.status)} answers, {report.rps:.0f} a second, p50 {report.percentile(50) * 1000:.1f} ms, "
        f"p99 {report.percentile(99) * 1000:.1f} ms, all 200: {report.statuses}, "
        f"{report.errors + report.unanswered} lost",
        report.is_clean,
    )
