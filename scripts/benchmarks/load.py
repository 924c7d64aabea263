"""Load over HTTP/1.1 from one process of its own, and what came back.

The generator (`load_process.py`) is a separate process that keeps its connections open and spends about 15 µs of CPU a
request, so that on a small machine the server is measured and not the client; httpx and aiohttp take 20 times that. wrk
is as fast, but it knows no open loop, no several bodies and no look at the answers, and has to be installed.

`closed_loop` keeps every connection busy: the next request leaves when the answer is here. It finds a system's
throughput; its latencies are those of a queue as long as there are connections. `open_loop` sends by a timetable that
does not wait for answers and counts latency from the intended time, so that a stall shows in all requests that it
delayed. Source: G. Tene, "How NOT to Measure Latency" (coordinated omission).
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.load_wire import REFUSALS, Job

_ROOT = Path(__file__).resolve().parents[2]
_DRAIN_S = 15.0
_START_UP_S = 30.0

Seconds = NDArray[np.float64]


class LoadError(Exception):
    """The generator itself failed; nothing was measured."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `bodies` are posted in turn, as JSON unless `headers` say otherwise; none: GET."""

    host: str
    port: int
    path: str
    headers: Mapping[str, str]
    bodies: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that was kept: to which of the target's bodies, and what it said."""

    body_index: int
    status: int
    content: bytes


@dataclass(frozen=True)
class Report:
    """What came back. The arrays have one element an answer, in the order in which answers came.

    A closed loop holds what was answered between the end of the warm-up and the end of the load; an open loop holds the
    answer to everything that was sent, also when it came after the end (`at_s` > `seconds`).
    """

    seconds: float
    began: float  # Unix time of the beginning, warm-up excluded
    errors: int  # connections that failed, or ended within an answer
    unanswered: int  # requests without an answer 15 s after the end
    generator_cpu_s: float  # CPU time of the generator; near the seconds measured, it was the limit
    status: NDArray[np.uint16]
    latency_s: Seconds
    at_s: Seconds  # when it was answered, from the beginning
    body_index: NDArray[np.uint32]
    tries: NDArray[
        np.uint32
    ]  # the how manieth sending of this request it answers; over 1 with obeys_retry_after
    retry_after_s: Seconds  # of each refusal in order; NaN without that header
    samples: Sequence[Sample]

    @cached_property
    def statuses(self) -> dict[int, int]:
        """How many answers had which status."""
        return {int(status): int((self.status == status).sum()) for status in np.unique(self.status)}

    @cached_property
    def latencies(self) -> dict[int, Seconds]:
        """Seconds, by status."""
        return {status: self.latency_s[self.status == status] for status in self.statuses}

    @property
    def is_clean(self) -> bool:
        """Every request was answered with 2xx."""
        return not self.errors and not self.unanswered and bool(self._is_2xx.all()) and len(self.status) > 0

    @property
    def rps(self) -> float:
        """Answers of 2xx a second, within the time of the load."""
        return float((self._is_2xx & (self.at_s <= self.seconds)).sum()) / self.seconds

    @property
    def answered_per_s(self) -> NDArray[np.int64]:
        """Answers of 2xx in each second from the beginning."""
        return self._by_second(self._is_2xx)

    @property
    def refused_per_s(self) -> NDArray[np.int64]:
        """Refusals (429, 503) in each second from the beginning."""
        return self._by_second(np.isin(self.status, REFUSALS))

    def percentile(self, q: float, status: int = 200) -> float:
        """Latency (s) below which `q` percent of the answers with this status lie; NaN when there is none."""
        latencies = self.latencies.get(status)
        return float("nan") if latencies is None else float(np.percentile(latencies, q))

    @property
    def _is_2xx(self) -> NDArray[np.bool_]:
        return np.equal(self.status // 100, 2)

    def _by_second(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.at_s[chosen].astype(np.int64), minlength=int(np.ceil(self.seconds)))


class Running:
    """A load that goes on beside the caller, so that several can run at once. It ends with the thread that began it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.load_process", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        self._process.stdin.flush()

    def report(self) -> Report:
        """Wait for the end.

        Raises:
            LoadError: the generator failed; it said why on stderr.
        """
        limit_s = _START_UP_S + self._job.warm_up_s + self._job.seconds + self._job.drain_s
        try:
            output, _ = self._process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise LoadError(f"the generator did not end within {limit_s:g} s") from None
        if self._process.returncode:
            raise LoadError(f"the generator ended with {self._process.returncode}")
        return _read(output)

    def stop(self) -> None:
        """End it without a report."""
        self._process.kill()
        self._process.communicate()


def closed_loop(target: Target, *, connections: int, seconds: float, **options: Any) -> Report:
    """Load from `connections` clients that wait for each answer; `options` as for `start_closed_loop`."""
    return start_closed_loop(target, connections=connections, seconds=seconds, **options).report()


def open_loop(target: Target, *, rate_per_s: float, seconds: float, **options: Any) -> Report:
    """Load at a rate that does not wait for answers; `options` as for `start_open_loop`."""
    return start_open_loop(target, rate_per_s=rate_per_s, seconds=seconds, **options).report()


def start_closed_loop(
    target: Target,
    *,
    connections: int,
    seconds: float,
    warm_up_s: float = 1.0,
    keep_every: int = 0,
    obeys_retry_after: bool = False,
) -> Running:
    """Begin a closed loop.

    `keep_every`: keep the first answer and every so many-eth after it as a sample; 0 keeps none. `obeys_retry_after`: a
    refused request is sent again when its Retry-After has passed, and `Report.tries` counts.
    """
    job = Job(
        **_common(target, seconds, keep_every),
        connections=connections,
        warm_up_s=warm_up_s,
        obeys_retry_after=obeys_retry_after,
    )
    return Running(job)


def start_open_loop(
    target: Target,
    *,
    rate_per_s: float,
    seconds: float,
    max_connections: int = 1024,
    keep_every: int = 0,
) -> Running:
    """Begin an open loop: Poisson arrivals, the same in every run, on as many connections as unanswered requests need.

    With `max_connections` all waiting, requests leave as connections come free; the wait counts as latency.
    """
    job = Job(**_common(target, seconds, keep_every), connections=max_connections, rate_per_s=rate_per_s)
    return Running(job)


def _common(target: Target, seconds: float, keep_every: int) -> dict[str, Any]:
    return {
        "host": target.host,
        "port": target.port,
        "requests": [base64.b64encode(request).decode() for request in _requests(target)],
        "seconds": seconds,
        "keep_every": keep_every,
        "drain_s": _DRAIN_S,
    }


def _requests(target: Target) -> list[bytes]:
    """The whole bytes of each request."""
    named = {name.lower(): value for name, value in target.headers.items()}
    headers = {"host": f"{target.host}:{target.port}", **named}
    if not target.bodies:
        return [_request("GET", target.path, headers, b"")]
    headers = {"content-type": "application/json", **headers}
    return [
        _request("POST", target.path, {**headers, "content-length": str(len(body))}, body)
        for body in target.bodies
    ]


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _read(output: bytes) -> Report:
    with np.load(io.BytesIO(output), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    facts = json.loads(arrays.pop("facts").tobytes())
    samples = [
        Sample(body_index, status, base64.b64decode(text))
        for body_index, status, text in facts.pop("samples")
    ]
    return Report(**facts, **arrays, samples=samples)
