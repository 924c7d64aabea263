"""The load generator's process: reads a job from stdin, makes the load, writes the answers' figures to stdout.

It ends with the process that started it, however that ends: a load that nobody measures disturbs what is measured next.
"""

from __future__ import annotations

import gc
import heapq
import io
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from fyretoolkit.launch.processes import end_with_parent
from scripts.benchmarks.load_wire import Connection, Job, Pacing, Wire, clock

_RECONNECT_S = 0.05
_LONGEST_POLL_S = 0.1
_SEED = 20260701


class ClosedLoop:
    """Each connection sends its next request when the answer to the last is here."""

    def __init__(self, wire: Wire, job: Job) -> None:
        self._wire = wire
        self._obeys = job.obeys_retry_after
        # (when, order, connection, whether it is the same request again)
        self._later: list[tuple[float, int, Connection, bool]] = []
        self._order = 0
        for _ in range(job.connections):
            self._at(clock(), Connection(), is_again=False)

    def _at(self, when: float, connection: Connection, *, is_again: bool) -> None:
        self._order += 1
        heapq.heappush(self._later, (when, self._order, connection, is_again))

    def advance(self, now: float) -> float | None:
        """Send what waited for its time."""
        while self._later and self._later[0][0] <= now < self._wire.ends_at:
            _, _, connection, is_again = heapq.heappop(self._later)
            self._send(connection, now, is_again=is_again)
        return self._later[0][0] - now if self._later and now < self._wire.ends_at else None

    def _send(self, connection: Connection, now: float, *, is_again: bool) -> None:
        wire = self._wire
        if not (wire.send(connection, now) if is_again else wire.send_next(connection, now)):
            self.lost(connection, now)

    def freed(self, connection: Connection, now: float, retry_after_s: float | None) -> None:
        """Send the next, or wait as a refusal asks."""
        if now >= self._wire.ends_at:
            return
        if retry_after_s is not None and self._obeys:
            self._at(now + (retry_after_s if retry_after_s >= 0 else 1.0), connection, is_again=True)
        else:
            self._send(connection, now, is_again=False)

    def lost(self, connection: Connection, now: float) -> None:
        """Connect again soon."""
        self._at(now + _RECONNECT_S, connection, is_again=False)

    def waiting_count(self) -> int:
        """None: nothing is due before it is sent."""
        return 0


class OpenLoop:
    """Requests leave at times drawn beforehand (Poisson), on a free connection or a new one."""

    def __init__(self, wire: Wire, job: Job) -> None:
        self._wire = wire
        gaps = np.random.default_rng(_SEED).exponential(
            1 / job.rate_per_s, int(job.rate_per_s * job.seconds * 1.5) + 100
        )
        times = wire.begins_at + np.cumsum(gaps)
        self._times: Sequence[float] = times[times < wire.ends_at].tolist()
        self._next = 0
        self._free = [Connection() for _ in range(job.connections)]
        self._late: deque[float] = deque()

    def advance(self, now: float) -> float | None:
        """Send what is due; what finds no connection waits for one."""
        while self._next < len(self._times) and self._times[self._next] <= now:
            intended = self._times[self._next]
            self._next += 1
            if not self._free:
                self._late.append(intended)
            elif self._wire.send_next(self._free[-1], intended):
                self._free.pop()
        return self._times[self._next] - now if self._next < len(self._times) else None

    def freed(self, connection: Connection, now: float, retry_after_s: float | None) -> None:  # noqa: ARG002
        """Take the request that waits longest; without one, the connection is free."""
        while self._late:
            if self._wire.send_next(connection, self._late.popleft()):
                return
        self._free.append(connection)

    def lost(self, connection: Connection, now: float) -> None:
        """As freed: the next request connects again."""
        self.freed(connection, now, None)

    def waiting_count(self) -> int:
        """Those that found no connection."""
        return len(self._late)


def make_load(job: Job) -> bytes:
    """Do the job; the report as an .npz file."""
    begins_at = clock() + job.warm_up_s
    wire = Wire(job, begins_at)
    pacing: Pacing = OpenLoop(wire, job) if job.rate_per_s else ClosedLoop(wire, job)
    began = time.time() + job.warm_up_s
    cpu_s = time.process_time()
    while (now := clock()) < wire.ends_at:
        wait_s = pacing.advance(now)
        wire.poll(min(_LONGEST_POLL_S, wire.ends_at - now, *([] if wait_s is None else [wait_s])), pacing)
    cpu_s = time.process_time() - cpu_s
    pacing.advance(clock())
    while wire.busy_count and clock() < wire.ends_at + job.drain_s:
        wire.poll(_LONGEST_POLL_S, pacing)
    facts = {
        "seconds": job.seconds,
        "began": began,
        "errors": wire.errors,
        "unanswered": wire.busy_count + pacing.waiting_count(),
        "generator_cpu_s": cpu_s,
        "samples": wire.samples,
    }
    wire.close_all()
    return _packed(wire, json.dumps(facts).encode())


def _packed(wire: Wire, facts: bytes) -> bytes:
    output = io.BytesIO()
    np.savez(
        output,
        facts=np.frombuffer(facts, np.uint8),
        status=np.array(wire.status, np.uint16),
        latency_s=np.array(wire.latency_s, np.float64),
        at_s=np.array(wire.at_s, np.float64),
        body_index=np.array(wire.body_index, np.uint32),
        tries=np.array(wire.tries, np.uint32),
        retry_after_s=np.array(wire.retry_after_s, np.float64),
    )
    return output.getvalue()


def main(parent: int) -> None:
    """One job from stdin, its report to stdout; nothing, if the process `parent` has ended by now."""
    end_with_parent()
    if os.getppid() != parent:  # it ended before it could be watched
        return
    job = Job(**json.loads(sys.stdin.buffer.readline()))
    gc.disable()  # a pause would be counted as the server's; a run makes few cycles
    sys.stdout.buffer.write(make_load(job))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
