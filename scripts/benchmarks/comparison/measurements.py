"""What one system does under one load, and what ONNX Runtime alone does in a loop."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnxruntime
import psutil

from scripts.benchmarks.comparison.peers import UnavailableError
from scripts.benchmarks.comparison.workloads import Reference, Workload
from scripts.benchmarks.load import Report, Target, closed_loop, open_loop
from scripts.benchmarks.load_wire import REFUSALS

OPEN_LOOP = 0
"""In place of a number of connections: arrivals at a share of the system's own best throughput."""
OPEN_LOOP_SHARE = 0.7
ORT_ALONE = "onnxruntime"
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

_READY_S = 120.0
_POLL_S = 0.2
_WARM_UP_S = 1.5
_CHECK_FIRST = 20
_KEEP_EVERY = 97  # prime: samples are of all bodies


class System(Protocol):
    """A server of models that can be started and stopped."""

    name: str
    title: str

    @property
    def version(self) -> str:
        """Of its package."""

    @property
    def log(self) -> Path:
        """Where it prints."""

    def open(self) -> None:
        """Prepare for workloads."""

    def start(self, workload: Workload) -> Target:
        """Begin to serve a workload."""

    def has_ended(self) -> bool:
        """It is not running."""

    def processes(self) -> list[psutil.Process]:
        """All of its live processes."""

    def stop(self) -> None:
        """Serve it no longer."""

    def close(self) -> None:
        """No more workloads."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one system under one load; of several rounds, the medians."""

    workload: str
    system: str
    connections: int  # OPEN_LOOP: see there
    rps: float  # answers of 2xx a second
    rows_per_s: float
    p50_s: float = float("nan")
    p99_s: float = float("nan")
    failed: int = 0  # answers that were neither 2xx nor refusals, connections lost, requests unanswered
    refused: int = 0
    generator_share: float = 0.0  # of a CPU; near 1 the generator was measured
    cpu_s: float = float(
        "nan"
    )  # of all the system's processes, for each answer: what a busy machine changes least


def wait_until_ready(system: System, target: Target, reference: Reference) -> None:
    """Ask until it answers, then compare its answers with the right ones.

    Raises:
        UnavailableError: it ended, or does not answer within two minutes.
        WrongAnswerError: it answers wrongly.
    """
    deadline = time.monotonic() + _READY_S
    while ask(target, 0)[0] != 200:
        if system.has_ended() or time.monotonic() > deadline:
            raise UnavailableError(f"it does not answer; its log ends: {_end_of(system.log)}")
        time.sleep(_POLL_S)
    for number in range(min(_CHECK_FIRST, len(target.bodies))):
        status, content = ask(target, number)
        if status != 200:
            raise UnavailableError(f"request {number} is answered {status}: {content[:300]!r}")
        reference.check(number, content)


def ask(target: Target, number: int) -> tuple[int, bytes]:
    """One request over a connection of its own; status 0 without an answer."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=60)
    try:
        headers = {"content-type": "application/json", **target.headers}
        connection.request("POST", target.path, target.bodies[number], headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _end_of(log: Path) -> str:
    return " ".join(log.read_text("utf-8", "replace").split())[-500:] if log.exists() else "(none)"


def measure(
    system: System, target: Target, workload: Workload, connections: Sequence[int], seconds: float
) -> list[Figures]:
    """A closed loop at each number of connections, warm, then the open loop; answers are checked throughout.

    Clients obey Retry-After, as a client should: one that asks again at once measures how fast it is refused.

    Raises:
        WrongAnswerError: some answer was wrong.
    """
    reference = Reference(workload)
    wait_until_ready(system, target, reference)
    found = []
    seconds *= workload.stretch
    for count in connections:
        if count <= workload.max_connections:
            load: dict[str, Any] = {"connections": count, "obeys_retry_after": True, "warm_up_s": 0.0}
            closed_loop(target, seconds=_WARM_UP_S * workload.stretch, **load)
            cpu_s = _cpu_s(system)
            report = closed_loop(target, seconds=seconds, keep_every=_KEEP_EVERY, **load)
            found.append(_figures(system, workload, reference, count, report, _cpu_s(system) - cpu_s))
    best = max(figures.rps for figures in found)
    if best > 0:
        cpu_s = _cpu_s(system)
        report = open_loop(target, rate_per_s=best * OPEN_LOOP_SHARE, seconds=seconds, keep_every=_KEEP_EVERY)
        found.append(_figures(system, workload, reference, OPEN_LOOP, report, _cpu_s(system) - cpu_s))
    return found


def _cpu_s(system: System) -> float:
    """What its processes have used since they began."""
    used = 0.0
    for process in system.processes():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def _figures(
    system: System,
    workload: Workload,
    reference: Reference,
    connections: int,
    report: Report,
    cpu_s: float,
) -> Figures:
    for sample in report.samples:
        if sample.status == 200:
            reference.check(sample.body_index, sample.content)
    refused = sum(report.statuses.get(status, 0) for status in REFUSALS)
    answered = sum(count for status, count in report.statuses.items() if status // 100 == 2)
    return Figures(
        workload.name,
        system.name,
        connections,
        rps=report.rps,
        rows_per_s=report.rps * workload.rows,
        p50_s=report.percentile(50),
        p99_s=report.percentile(99),
        failed=len(report.status) - answered - refused + report.errors + report.unanswered,
        refused=refused,
        generator_share=report.generator_cpu_s / report.seconds,
        # What was on its way at the end was answered too, one a connection.
        cpu_s=cpu_s / (answered + connections),
    )


def measure_alone(workload: Workload, seconds: float) -> Figures:
    """ONNX Runtime in a loop on one thread, arrays ready beforehand: row by row or batched, whichever is better.

    A short trial of each size finds the better one, which is then measured for as long as a server is: the best of many
    short trials would be the machine's luckiest moment.
    """
    session = workload.open_session()
    items = [item for request in workload.requests for item in request]
    seconds *= workload.stretch
    sizes = [size for size in BATCH_SIZES if size <= len(items)]
    best = max(sizes, key=lambda size: _rows_per_s(session, workload, items, size, seconds / 2 / len(sizes)))
    rows_per_s = _rows_per_s(session, workload, items, best, seconds)
    return Figures(workload.name, ORT_ALONE, 1, rps=rows_per_s / workload.rows, rows_per_s=rows_per_s)


def _rows_per_s(
    session: onnxruntime.InferenceSession, workload: Workload, items: Sequence[Any], size: int, seconds: float
) -> float:
    name = session.get_inputs()[0].name
    starts = range(0, len(items) - size + 1, size)
    batches = [workload.array(items[start : start + size]) for start in starts]
    session.run(None, {name: batches[0]})
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        session.run(None, {name: batches[count % len(batches)]})
        count += 1
    return count * size / spent


def medians(rounds: Sequence[Figures]) -> list[Figures]:
    """One for each load of each system, in the order of the first round; failures and refusals are added up."""
    groups: dict[tuple[str, str, int], list[Figures]] = {}
    for figures in rounds:
        groups.setdefault((figures.workload, figures.system, figures.connections), []).append(figures)
    return [
        Figures(
            *key,
            rps=statistics.median(each.rps for each in group),
            rows_per_s=statistics.median(each.rows_per_s for each in group),
            p50_s=statistics.median(each.p50_s for each in group),
            p99_s=statistics.median(each.p99_s for each in group),
            failed=sum(each.failed for each in group),
            refused=sum(each.refused for each in group),
            generator_share=max(each.generator_share for each in group),
            cpu_s=statistics.median(each.cpu_s for each in group),
        )
        for key, group in groups.items()
    ]
