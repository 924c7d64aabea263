"""Clients that do as a refusal says: wait for its Retry-After, then try again.

The load generator counts tries as well, but it does not know its clients apart: here each has a record of its own.
Plain asyncio streams, because 300 clients of a library would take a core of the machine that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.benchmarks.load import Target
from scripts.benchmarks.load_wire import REFUSALS, header, seconds_of

_PATIENCE_S = 60.0
"""Of an answer, at most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to one sending; status 0 where nothing did."""

    status: int
    latency_s: float
    retry_after_s: float
    """Of a refusal; NaN without that header."""
    body: bytes


@dataclass(slots=True)
class Record:
    """What one client went through."""

    answers: list[Answer] = field(default_factory=list)
    """All of them, refusals too."""
    tries: list[int] = field(default_factory=list)
    """Of each request that was answered with 200, how often it was sent."""
    given_up: int = 0
    """Requests that were sent `max_tries` times in vain, or answered neither with 200 nor with a refusal."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How clients behave."""

    clients: int
    max_tries: int = 5
    seconds: float = 0.0
    """For how long each begins another request when it has its answer; 0: one request each."""


async def call_patiently(target: Target, plan: Plan) -> list[Record]:
    """All clients at once, each with one connection; returns when the last has its answer or has given up."""
    ends_at = time.monotonic() + plan.seconds
    clients = [_client(target, number, plan, ends_at) for number in range(plan.clients)]
    return list(await asyncio.gather(*clients))


def statuses_of(records: Sequence[Record]) -> dict[int, int]:
    """How many answers had which status."""
    counted = Counter(answer.status for record in records for answer in record.answers)
    return dict(sorted(counted.items()))


async def _client(target: Target, number: int, plan: Plan, ends_at: float) -> Record:
    record = Record()
    connection = Connection(target)
    try:
        while True:
            body = target.bodies[(number + len(record.tries)) % len(target.bodies)]
            await _request(connection, body, plan.max_tries, record)
            if record.given_up or time.monotonic() >= ends_at:
                return record
    finally:
        connection.close()


async def _request(connection: Connection, body: bytes, max_tries: int, record: Record) -> None:
    for number in range(1, max_tries + 1):
        answer = await connection.send(body)
        record.answers.append(answer)
        if answer.status == 200:
            record.tries.append(number)
            return
        if answer.status not in REFUSALS or not answer.retry_after_s >= 0:
            break
        if number < max_tries:
            await asyncio.sleep(answer.retry_after_s)
    record.given_up += 1


class Connection:
    """One connection that is kept, and opened anew where the server closed it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes) -> Answer:
        """The answer to a body."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head, content = await self._exchange(body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return Answer(0, time.perf_counter() - began, float("nan"), b"")
        if header(head, b"connection") == b"close":
            self.close()
        retry_after_s = seconds_of(header(head, b"retry-after"))
        return Answer(int(head[9:12]), time.perf_counter() - began, retry_after_s, content)

    async def _exchange(self, body: bytes) -> tuple[bytes, bytes]:
        target = self._target
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(target.host, target.port)
        reader, writer = self._streams
        named = {
            "host": f"{target.host}:{target.port}",
            "content-type": "application/json",
            **target.headers,
            "content-length": str(len(body)),
        }
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        return head, await reader.readexactly(int(header(head, b"content-length") or b"0"))

    def close(self) -> None:
        """The next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
