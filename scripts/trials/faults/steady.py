"""A steady load of predictions whose right answers are known, from a client that tries once more.

Requests leave by a timetable that does not wait for answers, so that an outage cannot slow the load that would show it.
One that is answered otherwise than with 200 is sent once more 100 ms later, as a caller's library does; what came of
either try is kept, so that what the retry hid is seen too. Every answer is compared with ONNX Runtime's own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Event

from scripts.benchmarks.behaviour.patience import Answer, Connection
from scripts.benchmarks.comparison.workloads import Reference, Workload, WrongAnswerError
from scripts.benchmarks.load import Target

_RETRIES = 1
_RETRY_AFTER_S = 0.1
_MOST_IDLE = 16
"""Connections kept for the next request, the one that was used longest ago first: none grows too old to be used."""


@dataclass(frozen=True, slots=True)
class Call:
    """What became of one prediction. Times are of the monotonic clock."""

    due_at: float
    ended_at: float
    failures: tuple[str, ...]
    """What came instead of an answer, of each try."""
    deployment: str = ""
    """That answered; empty if none did."""
    wrong: str = ""
    """What is wrong with the answer; empty if nothing is."""

    @property
    def is_failed(self) -> bool:
        """No try was answered."""
        return len(self.failures) > _RETRIES


@contextmanager
def steady_load(target: Target, workload: Workload, rate_per_s: float) -> Iterator[list[Call]]:
    """The calls so far, while the block runs; all of them have ended when it is left.

    The target's bodies must be the workload's.
    """
    calls: list[Call] = []
    is_over = Event()
    with ThreadPoolExecutor(1) as threads:
        sender = _Sender(target, Reference(workload), calls)
        sending = threads.submit(lambda: asyncio.run(sender.send(rate_per_s, is_over)))
        try:
            yield calls
        finally:
            is_over.set()
            sending.result()


class _Sender:
    def __init__(self, target: Target, reference: Reference, calls: list[Call]) -> None:
        self._target = target
        self._reference = reference
        self._calls = calls
        self._idle: deque[Connection] = deque()

    async def send(self, rate_per_s: float, is_over: Event) -> None:
        """Until it is over."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in count():
                due_at = began + number / rate_per_s
                await asyncio.sleep(due_at - time.monotonic())
                if is_over.is_set():
                    break
                group.create_task(self._call(number % len(self._target.bodies), due_at))
        for connection in self._idle:
            connection.close()

    async def _call(self, number: int, due_at: float) -> None:
        failures: list[str] = []
        answer = await self._try(number)
        while answer.status != 200:
            failures.append(_described(answer))
            if len(failures) > _RETRIES:
                self._calls.append(Call(due_at, time.monotonic(), tuple(failures)))
                return
            await asyncio.sleep(_RETRY_AFTER_S)
            answer = await self._try(number)
        wrong = ""
        try:
            self._reference.check(number, answer.body)
        except WrongAnswerError as error:
            wrong = str(error)
        deployment = json.loads(answer.body)["usage"]["deployment"]
        self._calls.append(Call(due_at, time.monotonic(), tuple(failures), deployment, wrong))

    async def _try(self, number: int) -> Answer:
        connection = self._idle.popleft() if self._idle else Connection(self._target)
        try:
            return await connection.send(self._target.bodies[number])
        finally:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.close()


def _described(answer: Answer) -> str:
    """An answer that is none, in two words."""
    if not answer.status:
        return "connection lost"
    try:
        return f"{answer.status} {json.loads(answer.body)['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status} without an error of ours"
