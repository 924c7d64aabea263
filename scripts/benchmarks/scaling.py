"""Replicas by load: as many as are allowed while there is too much to do, few afterwards, and one from none.

The transformer-sized model with one to three replicas gets requests by a timetable, four times what ONNX Runtime alone
runs on one thread (no replica does more). Then a deployment that may have no replica is left alone until it has none,
and called by many at once: one replica starts, and all are answered. On a machine with fewer cores than replicas the
number of replicas grows and what they answer does not.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

from scripts.benchmarks.behaviour.mixture import digits, with_rows
from scripts.benchmarks.behaviour.patience import Plan, Record, call_patiently, statuses_of
from scripts.benchmarks.behaviour.stage import (
    Finding,
    conclude,
    deploy,
    introduce,
    running_platform,
    target_of,
    warm,
)
from scripts.benchmarks.comparison.measurements import measure_alone
from scripts.benchmarks.comparison.workloads import WORKLOADS, Workload
from scripts.benchmarks.load import Report, open_loop
from tests.support.platform import RunningPlatform, until

HELP = (
    "replicas grow with the load and shrink after it; one start for 200 callers of a deployment without any"
)

MIN_REPLICAS, MAX_REPLICAS = 1, 3
_TIMES = 4
_DELAYS = {
    "autoscaling": {"upscale_delay_s": 2, "downscale_delay_s": 5, "downscale_to_zero_delay_s": 12},
    "standby": {"size": 0},
}
"""Short ones, to go up and down within a minute. The last one is longer than Serve remembers the warm-up's call. No
replica stands by: this is about those that load starts, which are told apart by their deployment's name."""
_SHRUNK_WITHIN_S = 90.0
_POLL_S = 0.3
_TIMEOUT_MS = 30_000


@dataclass(slots=True)
class History:
    """A deployment as it was seen every third of a second."""

    replicas: list[tuple[float, int, int]] = field(default_factory=list)
    """(seconds since the beginning, ready, desired), at each change."""
    pids: set[int] = field(default_factory=set)
    """Of all replicas that were there at any time."""
    states: set[str] = field(default_factory=set)

    @property
    def most_ready(self) -> int:
        """Replicas at a time."""
        return max((ready for _, ready, _ in self.replicas), default=0)

    def note(self, at_s: float, ready: int, desired: int) -> None:
        """Unless nothing has changed."""
        if not self.replicas or self.replicas[-1][1:] != (ready, desired):
            self.replicas.append((at_s, ready, desired))

    def __str__(self) -> str:
        return ", ".join(f"{ready}/{desired} at {at_s:.0f} s" for at_s, ready, desired in self.replicas)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench scaling`."""
    parser.add_argument("--seconds", type=float, default=45.0, help="of load at four times the capacity (45)")
    parser.add_argument("--callers", type=int, default=200, help="of the deployment without replicas (200)")
    parser.add_argument("--quick", action="store_true", help="30 s of load")


def run(options: argparse.Namespace) -> int:
    """Measure, print; 1 if replicas did not follow."""
    if options.quick:
        options.seconds = 30.0
    introduce()
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        workload = WORKLOADS["transformer"](Path(folder))
        capacity = measure_alone(workload, 1.0).rps
        print(f"one replica does at most {capacity:.1f} requests a second", flush=True)
        with running_platform(_DELAYS) as platform:
            findings = [
                *up_and_down(platform, workload, capacity * _TIMES, options.seconds),
                *from_zero(platform, options.callers),
            ]
    return conclude(findings)


def up_and_down(platform: RunningPlatform, workload: Workload, rate: float, seconds: float) -> list[Finding]:
    """Load, and calm after it."""
    scale = {"min_replicas": MIN_REPLICAS, "max_replicas": MAX_REPLICAS}
    name = deploy(platform, workload, autoscaling=scale)["id"]
    target = target_of(platform, workload.name, workload.bodies)
    warm(target)
    with watched(platform, name) as history:
        report = open_loop(target, rate_per_s=rate, seconds=seconds)
        began = time.monotonic()
        is_back = _comes_to(
            platform, name, {"desired": MIN_REPLICAS, "ready": MIN_REPLICAS}, _SHRUNK_WITHIN_S
        )
        took_s = time.monotonic() - began
    with platform.client() as client:
        client.delete(f"/deployments/{name}").raise_for_status()
    until(lambda: not platform.titled(name), timeout_s=60, what="the end of its replicas")
    return [
        Finding(
            f"{MAX_REPLICAS} replicas at {_TIMES} × the capacity of one (ready/desired: {history})",
            history.most_ready == MAX_REPLICAS,
        ),
        Finding(f"back to {MIN_REPLICAS} after {took_s:.0f} s of calm (≤ {_SHRUNK_WITHIN_S:.0f} s)", is_back),
        _only_answers_and_refusals(report),
    ]


def _only_answers_and_refusals(report: Report) -> Finding:
    others = {status for status in report.statuses if status not in (200, 503)}
    lost = report.errors + report.unanswered
    return Finding(
        f"meanwhile nothing but 200 and 503: {report.statuses}, {lost} lost; "
        f"by second {report.answered_per_s.tolist()}",
        not others and not lost,
    )


def _comes_to(platform: RunningPlatform, name: str, replicas: dict[str, int], timeout_s: float) -> bool:
    """Whether a deployment shows so many replicas within the time, and has as many processes."""
    deadline = time.monotonic() + timeout_s
    with platform.client() as client:
        while time.monotonic() < deadline:
            shown = client.get(f"/deployments/{name}").json()["replicas"]
            if shown == replicas and len(platform.titled(name)) == replicas["ready"]:
                return True
            time.sleep(_POLL_S)
    return False


def from_zero(platform: RunningPlatform, callers: int) -> list[Finding]:
    """Many callers at once of a deployment that has no replica."""
    workload = replace(with_rows(digits(), 1, 32), name="sleepy")
    scale = {"min_replicas": 0, "max_replicas": 2}
    name = deploy(platform, workload, autoscaling=scale)["id"]
    if not _comes_to(platform, name, {"desired": 0, "ready": 0}, _SHRUNK_WITHIN_S):
        return [Finding("a deployment that nobody calls comes to have no replica", False)]
    bodies = [
        body[:-1] + f', "options": {{"timeout_ms": {_TIMEOUT_MS}}}}}'.encode() for body in workload.bodies
    ]
    with watched(platform, name) as history:
        records = asyncio.run(
            call_patiently(target_of(platform, workload.name, bodies), Plan(callers, max_tries=1))
        )
        _comes_to(platform, name, {"desired": 1, "ready": 1}, 20.0)
    return judge_waking(records, history)


def judge_waking(records: Sequence[Record], history: History) -> list[Finding]:
    """One start, everyone answered in time."""
    latest_s = max((answer.latency_s for record in records for answer in record.answers), default=0.0)
    served = sum(bool(record.tries) for record in records)
    return [
        Finding(
            f"one replica started for {len(records)} simultaneous calls: {len(history.pids)} "
            f"(ready/desired: {history})",
            len(history.pids) == 1,
        ),
        Finding(
            f"all answered within their deadline of {_TIMEOUT_MS / 1000:.0f} s: {statuses_of(records)}, "
            f"the last after {latest_s:.1f} s",
            served == len(records) and latest_s <= _TIMEOUT_MS / 1000,
        ),
        Finding(f"ready all the while: {sorted(history.states)}", history.states == {"ready"}),
    ]


@contextmanager
def watched(platform: RunningPlatform, name: str) -> Iterator[History]:
    """What is seen of a deployment within the block."""
    history, is_over = History(), Event()
    thread = Thread(target=_look, args=(platform, name, history, is_over), daemon=True)
    thread.start()
    try:
        yield history
    finally:
        is_over.set()
        thread.join()


def _look(platform: RunningPlatform, name: str, history: History, is_over: Event) -> None:
    began = time.monotonic()
    with platform.client() as client:
        while not is_over.wait(_POLL_S):
            history.pids |= {each.pid for each in platform.titled(name)}
            shown = client.get(f"/deployments/{name}").json()
            replicas = shown["replicas"]
            history.note(time.monotonic() - began, replicas["ready"], replicas["desired"])
            history.states.add(shown["status"])
