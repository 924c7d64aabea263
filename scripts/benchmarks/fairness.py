"""Two organizations on one deployment: one floods it, the other's latency stays what it was.

Both call the public model sentiment-v1 with many sentences a request, so that the model is what is short. First the
quiet organization alone, by a timetable at a tenth of what the deployment can do; then the same beside another that
sends ten times its fair share (half of the capacity) and may be refused as often as it likes.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from scripts.benchmarks.behaviour.mixture import sentiment, with_rows
from scripts.benchmarks.behaviour.processes import cpu_s
from scripts.benchmarks.behaviour.stage import (
    INGRESS,
    REPLICA,
    Finding,
    conclude,
    introduce,
    new_key,
    running_platform,
    target_of,
    warm,
)
from scripts.benchmarks.comparison.workloads import Workload
from scripts.benchmarks.load import Report, Target, closed_loop, open_loop, start_open_loop
from tests.support.platform import RunningPlatform

HELP = "an organization's latency while another floods the model that both use"

_QUIET_SHARE = 0.1
"""Of the capacity: less than its fair share, which is half."""
_FLOOD = 10
_LEAD_S = 1.0
"""The flood begins before what is measured beside it, and ends after it."""
_REQUESTS = 48


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench fairness`."""
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the two measurements (30)")
    parser.add_argument("--sentences", type=int, default=64, help="in a request (64)")
    parser.add_argument("--quick", action="store_true", help="8 s each")


def run(options: argparse.Namespace) -> int:
    """Measure, print; 1 if the quiet organization noticed the flood."""
    if options.quick:
        options.seconds = 8.0
    introduce()
    workload = with_rows(sentiment(requests=400), options.sentences, _REQUESTS)
    with running_platform(has_demo_models=True) as platform:
        quiet, flood = (_target(platform, workload, name) for name in ("quiet", "flooding"))
        for target in (quiet, flood):
            warm(target)
        capacity = closed_loop(flood, connections=16, seconds=min(8.0, options.seconds)).rps
        rate = capacity * _QUIET_SHARE
        print(f"capacity: {capacity:.1f} requests of {options.sentences} rows a second", flush=True)
        alone = open_loop(quiet, rate_per_s=rate, seconds=options.seconds)
        beside, flooding = _together(platform, quiet, flood, rate, capacity * _FLOOD / 2, options.seconds)
    return conclude(judge(alone, beside, flooding))


def _target(platform: RunningPlatform, workload: Workload, organization: str) -> Target:
    key = new_key(platform, organization)
    return target_of(platform, workload.name, workload.bodies, key=key)


def _together(
    platform: RunningPlatform, quiet: Target, flood: Target, rate: float, flood_rate: float, seconds: float
) -> tuple[Report, Report]:
    flooding = start_open_loop(flood, rate_per_s=flood_rate, seconds=seconds + 2 * _LEAD_S)
    try:
        warm(quiet)  # also gives the flood time to begin
        before, began = {part: cpu_s(platform, part) for part in (INGRESS, REPLICA)}, time.monotonic()
        beside = open_loop(quiet, rate_per_s=rate, seconds=seconds, keep_every=1)
        took_s = time.monotonic() - began
        shares = {part: (cpu_s(platform, part) - before[part]) / took_s for part in before}
    except BaseException:
        flooding.stop()
        raise
    # An ingress that needs a whole core for reading what it refuses is what is short then, not the model.
    print(f"of a core: {', '.join(f'{part} {share:.0%}' for part, share in shares.items())}", flush=True)
    return beside, flooding.report()


def parts_of(report: Report) -> dict[str, np.ndarray]:
    """Where the time of the answers went, in seconds; every answer was kept."""
    usages = [
        (latency_s, json.loads(sample.content)["usage"])
        for sample, latency_s in zip(report.samples, report.latency_s, strict=True)
        if sample.status == 200
    ]
    queue, compute, own = (
        np.array([usage[name] / 1000 for _, usage in usages])
        for name in ("queue_ms", "compute_ms", "latency_ms")
    )
    whole = np.array([latency_s for latency_s, _ in usages])
    return {"queue": queue, "compute": compute, "on the way": whole - own}


def judge(alone: Report, beside: Report, flooding: Report) -> list[Finding]:
    """What the two organizations had of it."""
    parts = parts_of(beside)
    for name, seconds in parts.items():
        p50, p99 = np.percentile(seconds, (50, 99)) * 1000 if len(seconds) else (0.0, 0.0)
        print(f"beside the flood, {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
    batch_s = float(np.median(parts["compute"])) if len(parts["compute"]) else float("nan")
    quiet_s, found_s = alone.percentile(99), beside.percentile(99)
    kinds = {status for status in flooding.statuses if status not in (200, 503)}
    return [
        Finding(
            f"p99 beside the flood {found_s * 1000:.1f} ms ≤ 2 × {quiet_s * 1000:.1f} ms alone "
            f"+ {batch_s * 1000:.1f} ms of one batch (p50 {alone.percentile(50) * 1000:.1f} → "
            f"{beside.percentile(50) * 1000:.1f} ms)",
            found_s <= 2 * quiet_s + batch_s,
        ),
        Finding(
            f"no errors for the quiet organization: {beside.statuses}, {beside.errors + beside.unanswered} lost",
            beside.is_clean and alone.is_clean,
        ),
        Finding(
            f"the flood was a flood: {flooding.statuses}, {flooding.errors + flooding.unanswered} lost, "
            f"{flooding.rps:.1f} answered a second",
            flooding.statuses.get(503, 0) > 0 and not kinds,
        ),
    ]
