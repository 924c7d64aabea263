"""More than a deployment can do: it goes on doing what it can, refuses the rest early, and is itself again at once.

The transformer-sized model, one replica. First its peak (a closed loop that keeps it busy) and the latency of a caller
now and then on a quiet platform. Then requests by a timetable at three times the peak, with that caller beside them
all the while and for some seconds more. At last clients that wait for each answer and do as refusals say.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.benchmarks.behaviour.patience import Plan, Record, call_patiently, statuses_of
from scripts.benchmarks.behaviour.processes import Watch, judge_flatness
from scripts.benchmarks.behaviour.stage import (
    INGRESS,
    REPLICA,
    Finding,
    conclude,
    deploy,
    introduce,
    running_platform,
    target_of,
    warm,
)
from scripts.benchmarks.comparison.workloads import WORKLOADS
from scripts.benchmarks.load import Report, Target, closed_loop, open_loop, start_open_loop

HELP = "a flood at three times what a deployment can do, and 300 clients that obey Retry-After"

_PEAK_CONNECTIONS = 16
_TIMES = 3
_PROBE_PER_S = 5.0
_AFTERWARDS_S = 8.0
_BACK_WITHIN_S = 2.0
_REFUSED_WITHIN_S = 0.050
_GOODPUT = 0.9
_NORMAL_IN_A_ROW = 3
"""Probes, before it counts as back to normal: one may be lucky."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What was measured around the flood."""

    peak: float  # answers of 2xx a second
    quiet: Report  # probes before it
    flood: Report
    probes: Report  # during it and afterwards

    @property
    def normal_s(self) -> float:
        """The longest latency of a probe that counts as normal: what is usual on the quiet platform, with room."""
        return max(2 * self.quiet.percentile(50), self.quiet.percentile(99))

    @property
    def back_after_s(self) -> float:
        """When probes were normal again, from the end of the flood; infinite if they never were."""
        ended_at = self.flood.began + self.flood.seconds - self.probes.began
        due_at = self.probes.at_s - self.probes.latency_s
        order = np.argsort(due_at)
        is_normal = (self.probes.status == 200) & (self.probes.latency_s <= self.normal_s)
        due_at, is_normal = due_at[order], is_normal[order]
        after = due_at >= ended_at
        due_at, is_normal = due_at[after] - ended_at, is_normal[after]
        for start in range(len(due_at) - _NORMAL_IN_A_ROW + 1):
            if is_normal[start : start + _NORMAL_IN_A_ROW].all():
                return float(due_at[start])
        return float("inf")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench overload`."""
    parser.add_argument("--seconds", type=float, default=30.0, help="of the flood (30)")
    parser.add_argument("--clients", type=int, default=300, help="that obey Retry-After (300)")
    parser.add_argument("--patient-seconds", type=float, default=30.0, help="for which they go on (30)")
    parser.add_argument("--quick", action="store_true", help="10 s of flood, one request a client")


def run(options: argparse.Namespace) -> int:
    """Measure, print; 1 if it suffered."""
    if options.quick:
        options.seconds, options.patient_seconds = 10.0, 0.0
    introduce()
    with tempfile.TemporaryDirectory(prefix="fb-") as folder, running_platform() as platform:
        workload = WORKLOADS["transformer"](Path(folder))
        deploy(platform, workload, replicas=1)
        target = target_of(platform, workload.name, workload.bodies)
        warm(target)
        before_s = max(6.0, options.seconds / 3)
        quiet = open_loop(target, rate_per_s=_PROBE_PER_S, seconds=before_s)
        peak = closed_loop(target, connections=_PEAK_CONNECTIONS, seconds=before_s).rps
        print(f"peak: {peak:.1f} requests a second", flush=True)
        with Watch(platform, titled=(INGRESS, REPLICA), every_s=0.25) as watch:
            flood, probes = _flooded(target, peak * _TIMES, options.seconds)
        plan = Plan(options.clients, seconds=options.patient_seconds)
        records = asyncio.run(call_patiently(target, plan))
    findings = judge(Flood(peak, quiet, flood, probes))
    return conclude([*findings, *judge_flatness(watch.series), *judge_patience(records, plan.max_tries)])


def _flooded(target: Target, rate: float, seconds: float) -> tuple[Report, Report]:
    probing = start_open_loop(target, rate_per_s=_PROBE_PER_S, seconds=seconds + _AFTERWARDS_S)
    try:
        flood = open_loop(target, rate_per_s=rate, seconds=seconds)
    except BaseException:
        probing.stop()
        raise
    return flood, probing.report()


def judge(found: Flood) -> list[Finding]:
    """What the flood did to those who were answered and to those who were not."""
    flood = found.flood
    goodput, refused_s = flood.rps / found.peak, flood.percentile(99, 503)
    others = {status: count for status, count in flood.statuses.items() if status not in (200, 503)}
    lost = flood.errors + flood.unanswered
    return [
        Finding(
            f"goodput at {_TIMES} × the peak: {flood.rps:.1f} a second, {goodput:.0%} of {found.peak:.1f} (≥ 90%); "
            f"by second {flood.answered_per_s.tolist()}",
            goodput >= _GOODPUT,
        ),
        Finding(
            f"refusals: p99 {refused_s * 1000:.1f} ms (≤ 50 ms), p50 {flood.percentile(50, 503) * 1000:.1f} ms, "
            f"{flood.statuses.get(503, 0)} of {len(flood.status)}; p99 of what was answered "
            f"{flood.percentile(99):.2f} s",
            refused_s <= _REFUSED_WITHIN_S,
        ),
        Finding(
            f"each refusal with a Retry-After: {_named(flood)}",
            bool((flood.retry_after_s >= 1).all()),
        ),
        Finding(f"nothing but 200 and 503: {others or 'none'}, {lost} lost", not others and not lost),
        Finding(
            f"back to normal {found.back_after_s:.1f} s after the flood (≤ 2 s): a probe within "
            f"{found.normal_s * 1000:.0f} ms; p50 {found.quiet.percentile(50) * 1000:.1f} ms before it",
            found.back_after_s <= _BACK_WITHIN_S,
        ),
    ]


def _named(flood: Report) -> str:
    named = flood.retry_after_s
    return f"{np.nanmin(named):.0f} to {np.nanmax(named):.0f} s" if len(named) else "there were none"


def judge_patience(records: Sequence[Record], max_tries: int) -> list[Finding]:
    """Whether who obeys is served."""
    tries = np.array([count for record in records for count in record.tries] or [0])
    given_up = sum(record.given_up for record in records)
    served = sum(bool(record.tries) for record in records)
    shares = ", ".join(f"{int((tries == count).sum())} at try {count}" for count in np.unique(tries))
    return [
        Finding(
            f"{len(records)} clients that obey Retry-After: {served} served, each request within {max_tries} tries "
            f"({shares}); {given_up} gave up; statuses {statuses_of(records)}",
            served == len(records) and not given_up,
        )
    ]
