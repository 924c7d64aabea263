"""The load generator: what it sends, what it counts, and from when it counts latency."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter

import numpy as np
import pytest

from scripts.benchmarks.load import LoadError, Report, Target, closed_loop, open_loop, start_closed_loop
from tests.support.canned_server import OK, Request, serving


async def at_once(request: Request) -> bytes:
    """An answer with the body's own length and the request's content."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(request.body), request.body)


def test_a_closed_loop_sends_the_bodies_in_turn_over_as_many_connections_as_asked():
    """No more is on its way at a time; the headers are the caller's, and the connections are kept."""
    with serving(at_once) as server:
        target = server.target(b'"a"', b'"bb"', headers={"Authorization": "Basic eA=="})
        report = closed_loop(target, connections=3, seconds=1, warm_up_s=0)
        assert report.is_clean
        assert server.connection_count == 3
        # What was on its way at the end is answered, and not counted.
        assert 0 <= len(server.requests) - len(report.status) <= 3
        sent = Counter(request.body for request in server.requests)
        assert set(sent) == {b'"a"', b'"bb"'}
        assert abs(sent[b'"a"'] - sent[b'"bb"']) <= 1
        head = server.requests[0].head.lower().split("\r\n")
        assert head[0] == "post /predict/digits http/1.1"
        assert {
            f"host: 127.0.0.1:{server.port}",
            "authorization: basic ea==",
            "content-type: application/json",
        } < {*head}
    assert report.statuses == {200: len(report.status)}
    assert set(report.body_index) == {0, 1}
    assert report.rps == len(report.status)
    assert (report.latency_s > 0).all()
    assert (report.at_s <= 1).all()


def test_the_warm_up_is_not_counted():
    """The server refuses its first 20 requests; as long as those belong to the warm-up, they show nowhere."""

    async def refuse_first(request: Request) -> bytes:
        return OK if request.number >= 20 else OK.replace(b"200 OK", b"503 No")

    with serving(refuse_first) as server:
        report = closed_loop(server.target(b"1"), connections=1, seconds=1, warm_up_s=1)
        assert len(server.requests) > len(report.status) + 20
    assert report.is_clean
    assert (report.at_s >= 0).all()


def test_samples_are_the_first_answer_and_every_kth():
    """With the body of the target that they answer."""
    with serving(at_once) as server:
        target = server.target(b'"a"', b'"bb"', b'"ccc"')
        report = closed_loop(target, connections=1, seconds=1, warm_up_s=0, keep_every=2)
    assert len(report.samples) == (len(report.status) + 1) // 2
    assert [sample.body_index for sample in report.samples[:3]] == [0, 2, 1]
    assert [sample.content for sample in report.samples[:3]] == [b'"a"', b'"ccc"', b'"bb"']


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"


@pytest.mark.parametrize(
    "content", [OK, CHUNKED, UNTIL_CLOSE, OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")]
)
def test_answers_of_every_framing_are_read(content: bytes):
    """By length, in chunks, until the end of the connection; a connection that the server closes is opened again."""

    async def answer(_request: Request) -> bytes:
        return content

    with serving(answer) as server:
        report = closed_loop(server.target(b"1"), connections=2, seconds=1, warm_up_s=0, keep_every=1)
        closes = b"Connection: close" in content
        assert (server.connection_count > 2) == closes
    assert report.is_clean
    assert {sample.content for sample in report.samples} == {b"ok"}


def test_requests_and_answers_larger_than_a_socket_takes_at_once():
    """Sent in pieces and read in pieces."""
    body = bytes(range(256)) * (1 << 14)
    with serving(at_once) as server:
        report = closed_loop(server.target(body), connections=2, seconds=1, warm_up_s=0, keep_every=1)
    assert report.is_clean
    assert all(sample.content == body for sample in report.samples)


def test_connections_that_end_without_an_answer_are_errors():
    """Every second request is dropped; the others are answered all the same."""

    async def answer(request: Request) -> bytes | None:
        return OK if request.number % 2 else None

    with serving(answer) as server:
        report = closed_loop(server.target(b"1"), connections=1, seconds=2, warm_up_s=0)
    assert report.errors > 1
    assert report.statuses[200] > 1
    assert not report.is_clean


def test_nobody_listening_is_errors_alone():
    """The generator goes on trying and does not fail."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        target = Target("127.0.0.1", unheard.getsockname()[1], "/", {}, [b"1"])
        closed = closed_loop(target, connections=2, seconds=0.2, warm_up_s=0)
        opened = open_loop(target, rate_per_s=100, seconds=0.2)
    assert closed.statuses == opened.statuses == {}
    assert closed.errors >= 2
    assert opened.errors == len(timetable(100, 0.2))
    assert np.isnan(closed.percentile(50))


def test_a_generator_that_fails_says_so():
    """A name that does not resolve is no measurement of zero requests."""
    target = Target("name.invalid", 80, "/", {}, [b"1"])
    with pytest.raises(LoadError):
        closed_loop(target, connections=1, seconds=0.1)


def test_without_bodies_the_requests_are_gets():
    """And have neither a length nor a content type."""
    with serving(at_once) as server:
        assert closed_loop(server.target(), connections=1, seconds=1, warm_up_s=0).is_clean
        assert server.requests[0].head.startswith("GET /predict/digits HTTP/1.1\r\n")
        assert "content-" not in server.requests[0].head


def timetable(rate_per_s: float, seconds: float) -> np.ndarray:
    """When an open loop's requests should leave: those of a run against a server that answers at once."""
    with serving(at_once) as server:
        report = open_loop(server.target(b"1"), rate_per_s=rate_per_s, seconds=seconds)
    assert report.is_clean
    return np.sort(report.at_s - report.latency_s)


def test_an_open_loop_counts_latency_from_the_intended_times():
    """A server that stalls, met with one connection: every request still counts from its time in the timetable.

    A generator that started the clock when it got to sending would report later times, and smaller latencies.
    """
    intended = timetable(200, 0.5)

    async def stalls(request: Request) -> bytes:
        if request.number == 0:
            await asyncio.sleep(0.4)
        return OK

    with serving(stalls) as server:
        report = open_loop(server.target(b"1"), rate_per_s=200, seconds=0.5, max_connections=1)
        assert server.connection_count == 1
    assert report.is_clean
    np.testing.assert_allclose(np.sort(report.at_s - report.latency_s), intended, atol=1e-9)
    # Each that should have left within the stall waited for its end.
    within = np.sort(report.at_s - report.latency_s) < intended[0] + 0.4
    assert (np.sort(report.at_s)[within] >= intended[0] + 0.4).all()


def test_an_open_loop_does_not_wait_for_answers():
    """Nothing is answered before 20 requests are there, so a generator that waits for an answer gets none."""
    arrived = 0
    enough = asyncio.Event()

    async def in_company(_request: Request) -> bytes:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            enough.set()
        await enough.wait()
        return OK

    with serving(in_company) as server:
        report = open_loop(server.target(b"1"), rate_per_s=200, seconds=0.5)
        assert server.connection_count >= 20
    assert report.is_clean
    assert len(report.status) >= 20


def test_requests_that_are_never_answered_are_counted(monkeypatch: pytest.MonkeyPatch):
    """In both loops, those that found no connection too."""
    monkeypatch.setattr("scripts.benchmarks.load._DRAIN_S", 0.1)

    async def never(_request: Request) -> bytes:
        await asyncio.Event().wait()
        return OK

    with serving(never) as server:
        closed = closed_loop(server.target(b"1"), connections=3, seconds=0.1, warm_up_s=0)
        opened = open_loop(server.target(b"1"), rate_per_s=200, seconds=0.3, max_connections=2)
    assert closed.unanswered == 3
    assert opened.unanswered == len(timetable(200, 0.3))
    assert closed.rps == opened.rps == 0


def test_refusals_are_counted_with_their_retry_after():
    """NaN where the header is missing; they are neither answers nor errors."""

    async def refuse(request: Request) -> bytes:
        wait = b"Retry-After: 7\r\n" if request.number == 0 else b""
        return b"HTTP/1.1 503 Service Unavailable\r\n%bContent-Length: 0\r\n\r\n" % wait

    with serving(refuse) as server:
        report = closed_loop(server.target(b"1"), connections=1, seconds=1, warm_up_s=0)
    assert report.statuses == {503: len(report.status)}
    assert report.rps == report.errors == 0
    assert report.refused_per_s.sum() == len(report.status)
    assert report.retry_after_s[0] == 7
    assert len(report.retry_after_s) == len(report.status)
    assert np.isnan(report.retry_after_s[1:]).all()


def test_obeying_retry_after_sends_the_same_request_again():
    """Refused twice, each body is answered at its third sending. One connection: two could hold the same body."""
    seen: dict[bytes, int] = {}

    async def third_time(request: Request) -> bytes:
        seen[request.body] = seen.get(request.body, 0) + 1
        if seen[request.body] % 3:
            return b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
        return OK

    with serving(third_time) as server:
        target = server.target(b"1", b"2", b"3")
        report = closed_loop(target, connections=1, seconds=1, warm_up_s=0, obeys_retry_after=True)
    assert set(report.tries[report.status == 200]) == {3}
    assert set(report.tries[report.status == 429]) == {1, 2}


def test_several_loads_run_at_once():
    """Each request of the one is answered when the other has sent one too."""
    arrived = {b"1": asyncio.Event(), b"2": asyncio.Event()}

    async def both(request: Request) -> bytes:
        arrived[request.body].set()
        await asyncio.gather(*(event.wait() for event in arrived.values()))
        return OK

    with serving(both) as server:
        first, second = (
            start_closed_loop(server.target(body), connections=1, seconds=3, warm_up_s=0) for body in arrived
        )
        assert first.report().is_clean
        assert second.report().is_clean


def test_the_figures_of_a_report():
    """By hand: five answers within 2 s, of which one is refused, and one after the end."""
    report = Report(
        seconds=2.0,
        began=0.0,
        errors=0,
        unanswered=0,
        generator_cpu_s=0.1,
        status=np.array([200, 201, 503, 200, 200, 200], np.uint16),
        latency_s=np.array([0.1, 9.0, 0.001, 0.2, 0.3, 0.4]),
        at_s=np.array([0.1, 0.9, 0.95, 1.0, 1.9, 2.5]),
        body_index=np.zeros(6, np.uint32),
        tries=np.ones(6, np.uint32),
        retry_after_s=np.array([1.0]),
        samples=(),
    )
    assert report.statuses == {200: 4, 201: 1, 503: 1}
    assert report.rps == 2.0
    assert report.answered_per_s.tolist() == [2, 2, 1]
    assert report.refused_per_s.tolist() == [1, 0]
    assert report.percentile(50) == pytest.approx(0.25)
    assert report.percentile(100) == pytest.approx(0.4)
    assert report.percentile(50, status=503) == pytest.approx(0.001)
    assert not report.is_clean
    assert json.dumps(report.statuses)
