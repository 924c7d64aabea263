"""The generator's connections: raw sockets over epoll, requests built beforehand, a record of each answer.

Of an answer it reads the status, the length, and the headers Connection and Retry-After.
"""

from __future__ import annotations

import base64
import select
import socket
import time
from array import array
from dataclasses import dataclass
from typing import Protocol

_RECEIVE_BYTES = 1 << 18
REFUSALS = (429, 503)

clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Job:
    """What to do; `requests` are whole HTTP requests in base64. With `rate_per_s` 0 the loop is closed."""

    host: str
    port: int
    requests: list[str]
    seconds: float
    connections: int
    keep_every: int
    drain_s: float
    warm_up_s: float = 0.0
    rate_per_s: float = 0.0
    obeys_retry_after: bool = False


class BadAnswerError(ValueError):
    """What came is not HTTP/1.1 as this generator reads it."""


class Connection:
    """A socket and the request that waits for its answer there."""

    __slots__ = ("body_index", "intended", "is_busy", "is_open", "received", "socket", "tries", "unsent")

    def __init__(self) -> None:
        self.socket: socket.socket
        self.is_open = False
        self.is_busy = False
        self.body_index = 0
        self.intended = 0.0
        self.tries = 0
        self.received = b""
        self.unsent = b""


class Pacing(Protocol):
    """When requests leave."""

    def advance(self, now: float) -> float | None:
        """Send what is due; seconds until the next is due, None when only an answer can make one due."""

    def freed(self, connection: Connection, now: float, retry_after_s: float | None) -> None:
        """Its answer is here; `retry_after_s` is that of a refusal, NaN when it names none."""

    def lost(self, connection: Connection, now: float) -> None:
        """It ended and its request is lost."""

    def waiting_count(self) -> int:
        """Requests that were due and have not been sent."""


class Wire:
    """The connections, and a record of each answer."""

    def __init__(self, job: Job, begins_at: float) -> None:
        self._requests = [base64.b64decode(request) for request in job.requests]
        self._address = socket.getaddrinfo(job.host, job.port, type=socket.SOCK_STREAM)[0]
        self._keep_every = job.keep_every
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._next_body = 0
        self.begins_at = begins_at
        self.ends_at = begins_at + job.seconds
        # Of a closed loop only what is answered within its time counts: later answers met an emptier server.
        self._counts_until = float("inf") if job.rate_per_s else self.ends_at
        self.busy_count = 0
        self.errors = 0
        self.status, self.body_index, self.tries = array("H"), array("I"), array("I")
        self.latency_s, self.at_s, self.retry_after_s = array("d"), array("d"), array("d")
        self.samples: list[tuple[int, int, str]] = []

    def send_next(self, connection: Connection, intended: float) -> bool:
        """Send the next body; False when the connection failed at once."""
        connection.body_index = self._next_body
        self._next_body = (self._next_body + 1) % len(self._requests)
        connection.tries = 0
        return self.send(connection, intended)

    def send(self, connection: Connection, intended: float) -> bool:
        """Send the connection's body, over a new socket where it has none; False when that failed at once."""
        connection.intended = intended
        connection.tries += 1
        connection.is_busy = True
        self.busy_count += 1
        request = self._requests[connection.body_index]
        try:
            if not connection.is_open:
                self._connect(connection)
            sent = connection.socket.send(request)
        except BlockingIOError:  # also while connecting
            sent = 0
        except OSError:
            self.fail(connection)
            return False
        if sent < len(request):
            connection.unsent = request[sent:]
            self._epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)
        return True

    def _connect(self, connection: Connection) -> None:
        family, kind, protocol, _, address = self._address
        connection.socket = socket.socket(family, kind, protocol)
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.is_open = True
        self._open[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)
        connection.socket.connect_ex(address)  # a failure shows when sending or polling

    def fail(self, connection: Connection) -> None:
        """Count its request as lost and close it."""
        self.errors += int(self.begins_at <= clock() <= self._counts_until)
        self.busy_count -= 1
        connection.is_busy = False
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close its socket; the next request opens another."""
        if connection.is_open:
            connection.is_open = False
            connection.received = connection.unsent = b""
            del self._open[connection.socket.fileno()]
            connection.socket.close()

    def close_all(self) -> None:
        """Close every socket."""
        for connection in list(self._open.values()):
            self.close(connection)
        self._epoll.close()

    def poll(self, wait_s: float, pacing: Pacing) -> None:
        """Wait at most so long and deal with what happened."""
        events = self._epoll.poll(0)
        if not events and wait_s > 0:
            # epoll counts in milliseconds, select in microseconds.
            select.select([self._epoll], [], [], wait_s)
            events = self._epoll.poll(0)
        for descriptor, mask in events:
            connection = self._open.get(descriptor)
            if connection is None:
                continue
            try:
                if mask & select.EPOLLOUT:
                    self._send_rest(connection)
                if mask & ~select.EPOLLOUT:
                    self._receive(connection, pacing)
            except BlockingIOError:
                continue
            except (OSError, ValueError):
                self._lose(connection, pacing)

    def _lose(self, connection: Connection, pacing: Pacing) -> None:
        if connection.is_busy:
            self.fail(connection)
            pacing.lost(connection, clock())
        else:
            self.close(connection)

    def _send_rest(self, connection: Connection) -> None:
        sent = connection.socket.send(connection.unsent)
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            self._epoll.modify(connection.socket, select.EPOLLIN)

    def _receive(self, connection: Connection, pacing: Pacing) -> None:
        content = connection.socket.recv(_RECEIVE_BYTES)
        now = clock()
        answer = connection.received + content if connection.received else content
        if not connection.is_busy:
            self.close(connection)
            return
        head = answer[: answer.find(b"\r\n\r\n") + 2].lower()
        if not is_whole(answer, head, is_ended=not content):
            connection.received = answer
            return
        connection.received = b""
        retry_after_s = self._record(connection, answer, head, now)
        connection.is_busy = False
        self.busy_count -= 1
        if connection.unsent or not content or header(head, b"connection") == b"close":
            self.close(connection)
        pacing.freed(connection, now, retry_after_s)

    def _record(self, connection: Connection, answer: bytes, head: bytes, now: float) -> float | None:
        """Note an answer; the Retry-After (s) of a refusal."""
        status = int(answer[9:12])
        retry_after_s = seconds_of(header(head, b"retry-after")) if status in REFUSALS else None
        if not self.begins_at <= now <= self._counts_until:
            return retry_after_s
        if self._keep_every and len(self.status) % self._keep_every == 0:
            body = base64.b64encode(body_of(answer, head)).decode()
            self.samples.append((connection.body_index, status, body))
        self.status.append(status)
        self.latency_s.append(now - connection.intended)
        self.at_s.append(now - self.begins_at)
        self.body_index.append(connection.body_index)
        self.tries.append(connection.tries)
        if retry_after_s is not None:
            self.retry_after_s.append(retry_after_s)
        return retry_after_s


def is_whole(answer: bytes, head: bytes, *, is_ended: bool) -> bool:
    """Whether a whole answer was received; `head` is its head in lower case, `is_ended`: no more will come.

    Raises:
        BadAnswerError: it is no HTTP answer, or the connection ended within it.
    """
    body = answer.find(b"\r\n\r\n") + 4
    if body == 3:
        is_complete = False
    elif length := header(head, b"content-length"):
        is_complete = len(answer) >= body + int(length)
    elif answer[9:12] in (b"204", b"304"):
        is_complete = True
    elif header(head, b"transfer-encoding"):
        is_complete = chunks(answer[body:]) is not None
    else:
        return is_ended
    if is_ended and not is_complete:
        raise BadAnswerError("the connection ended within an answer")
    return is_complete


def chunks(body: bytes) -> list[bytes] | None:
    """The contents of a chunked body; None as long as its end is missing."""
    parts, start = [], 0
    while (line_end := body.find(b"\r\n", start)) >= 0:
        size = int(body[start:line_end].partition(b";")[0], 16)
        start = line_end + 2
        parts.append(body[start : start + size])
        start += size + 2
        if size == 0:
            return parts if start <= len(body) else None
    return None


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header in a head in lower case, empty without it."""
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return head[start : head.find(b"\r\n", start)].strip()


def seconds_of(value: bytes) -> float:
    """A Retry-After in seconds; NaN when it is missing or a date."""
    return float(value) if value.isdigit() else float("nan")


def body_of(answer: bytes, head: bytes) -> bytes:
    """The content of a whole answer, chunks joined."""
    body = answer[answer.find(b"\r\n\r\n") + 4 :]
    is_chunked = header(head, b"transfer-encoding") and not header(head, b"content-length")
    return b"".join(chunks(body) or []) if is_chunked else body
