"""`scripts/bench` overload, fairness, mixed, scaling and soak: judged rightly; no timing is asserted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks import fairness, mixed, overload
from scripts.benchmarks.behaviour.mixture import bad_requests, difference, digits, sentiment
from scripts.benchmarks.behaviour.mixture import mixed as mix
from scripts.benchmarks.behaviour.patience import Plan, Record, call_patiently, statuses_of
from scripts.benchmarks.behaviour.processes import Series, growth, is_flat, judge_flatness
from scripts.benchmarks.behaviour.stage import Finding, conclude
from scripts.benchmarks.load import Report, Sample, Target
from scripts.benchmarks.scaling import History, judge_waking


def report(
    statuses: Sequence[int], latencies_s: Sequence[float], *, began: float = 0.0, seconds: float = 10.0,
    samples: Sequence[Sample] = (),
) -> Report:  # fmt: skip
    """One request at each tenth of a second, answered so."""
    count = len(statuses)
    latency_s = np.array(latencies_s, np.float64)
    refused = sum(status == 503 for status in statuses)
    return Report(
        seconds=seconds,
        began=began,
        errors=0,
        unanswered=0,
        generator_cpu_s=0.0,
        status=np.array(statuses, np.uint16),
        latency_s=latency_s,
        at_s=np.arange(count) / 10 + latency_s,
        body_index=np.zeros(count, np.uint32),
        tries=np.ones(count, np.uint32),
        retry_after_s=np.ones(refused),
        samples=samples,
    )


def missed(findings: Sequence[Finding]) -> list[str]:
    """The beginnings of what was missed."""
    return [finding.what.split(" ")[0] for finding in findings if not finding.is_met]


def test_one_missed_finding_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """And is printed as such."""
    assert conclude([Finding("a", True)]) == 0
    assert conclude([Finding("a", True), Finding("b", False)]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["met: a", "MISSED: b"]


def test_flat_is_from_the_second_tenth_to_the_last() -> None:
    """What was before the second tenth does not count; 5% more is flat and what is above it is not."""
    samples = [10] * 10 + [100] * 80 + [105] * 10
    assert growth(samples) == (100.0, 105.0)
    assert is_flat(samples)
    assert not is_flat([10] * 10 + [100] * 80 + [106] * 10)
    assert is_flat([100] * 90 + [10] * 10)
    assert is_flat([4] * 90 + [5] * 10, slack=1.0)
    assert not is_flat([4] * 90 + [6] * 10, slack=1.0)


def test_the_process_that_grows_is_named() -> None:
    """Memory and files each; one that ended is a finding too."""
    still = Series(1, "still", [100] * 20, [50] * 20, [7] * 20)
    grows = Series(2, "grows", [100] * 18 + [120] * 2, [50] * 18 + [70] * 2, [7] * 20)
    reads_again = Series(4, "reads its program again", [100] * 18 + [120] * 2, [50] * 20, [7] * 20)
    assert all(finding.is_met for finding in judge_flatness([still, reads_again]))
    found = judge_flatness([still, grows])
    assert [finding.is_met for finding in found] == [False, True, True]
    assert "(grows)" in found[0].what
    ended = Series(3, "ended", [100] * 20, [50] * 20, [7] * 20, has_ended=True)
    assert missed(judge_flatness([still, ended])) == ["no"]


def flood(after: Sequence[float]) -> overload.Flood:
    """A flood of one second at three times a peak of ten; probes of 0.1 s before it and those of `after` after it."""
    statuses = [200] * 10 + [503] * 20
    latencies_s = [0.5] * 10 + [0.01] * 20
    return overload.Flood(
        peak=10.0,
        quiet=report([200] * 10, [0.1] * 10),
        flood=report(statuses, latencies_s, began=100.0, seconds=3.0),
        probes=report([200] * (30 + len(after)), [1.0] * 30 + list(after), began=100.0),
    )


def test_back_to_normal_is_the_first_of_three_good_probes() -> None:
    """Counted from the end of the flood; one good probe among bad ones is not it."""
    assert flood([0.1] * 5).back_after_s == 0.0
    assert flood([0.9, 0.1, 0.9, 0.1, 0.1, 0.1]).back_after_s == pytest.approx(0.3)
    assert flood([0.9] * 6).back_after_s == float("inf")


def test_an_overload_is_judged_by_goodput_refusals_and_what_comes_after() -> None:
    """Ten answers in three seconds are a third of a peak of ten."""
    assert missed(overload.judge(flood([0.1] * 5))) == ["goodput"]
    assert missed(overload.judge(flood([0.9] * 5))) == ["goodput", "back"]


def test_clients_that_gave_up_are_missed() -> None:
    """One that was never served, too."""
    assert not missed(overload.judge_patience([Record(tries=[1, 5])], 5))
    assert missed(overload.judge_patience([Record(tries=[1]), Record(tries=[2], given_up=1)], 5)) == ["2"]
    assert missed(overload.judge_patience([Record(tries=[1]), Record()], 5)) == ["2"]


def test_the_quiet_organization_may_wait_twice_as_long_and_one_batch() -> None:
    """Its p99; an error of its own or a flood that was none is missed."""
    usage = {"latency_ms": 80.0, "queue_ms": 30.0, "compute_ms": 50.0}
    kept = [Sample(0, 200, json.dumps({"usage": usage}).encode())] * 10
    alone = report([200] * 10, [0.1] * 10)
    flooding = report([200, 503], [0.1, 0.01])
    beside = report([200] * 10, [0.25] * 10, samples=kept)
    assert not missed(fairness.judge(alone, beside, flooding))
    assert fairness.parts_of(beside)["on the way"] == pytest.approx([0.17] * 10)
    late = report([200] * 10, [0.26] * 10, samples=kept)
    assert missed(fairness.judge(alone, late, flooding)) == ["p99"]
    refused = report([200] * 9 + [503], [0.1] * 10, samples=[*kept[1:], Sample(0, 503, b"{}")])
    assert missed(fairness.judge(alone, refused, flooding)) == ["no"]
    assert missed(fairness.judge(alone, beside, report([200], [0.1]))) == ["the"]


def test_differences_between_results_are_seen() -> None:
    """A label, a class, more than 1e-6 of a probability."""
    known = [{"label": "a", "probabilities": {"a": 0.75, "b": 0.25}}]
    assert difference(known, known) is None
    assert difference(known, [{"label": "a", "probabilities": {"a": 0.7500009, "b": 0.2499991}}]) is None
    assert difference(known, [{"label": "a", "probabilities": {"a": 0.750002, "b": 0.249998}}])
    assert difference(known, [{"label": "b", "probabilities": {"a": 0.75, "b": 0.25}}])
    assert difference(known, [{"label": "a", "probabilities": {"a": 0.75, "c": 0.25}}])
    assert difference(known, [])


def answers_alone(rows: Sequence[Sequence[Any]]) -> list[bytes]:
    """One per request, recognizable by its label."""
    return [
        json.dumps(
            {"results": [{"label": number, "probabilities": [1.0]}] * len(items), "usage": {"batch_size": 1}}
        ).encode()
        for number, items in enumerate(rows)
    ]


@pytest.mark.parametrize("workload", [digits(), sentiment()], ids=["digits", "sentiment-v1"])
def test_one_in_a_hundred_is_wrong_and_no_two_alike(workload: Any) -> None:
    """After 99 right ones each; each right request is among them."""
    entries = mix(workload, answers_alone(workload.requests))
    bad = [entry for entry in entries if entry.is_bad]
    assert len(bad) * 100 == len(entries)
    assert len({entry.body for entry in bad}) == len(bad) > len(bad_requests(workload)) > 10
    assert {entry.body for entry in entries if not entry.is_bad} == set(workload.bodies)


def test_wrong_answers_under_load_are_found() -> None:
    """A neighbour's answer, a refusal of a right request, another error than the request's own, a kind not sent."""
    workload = digits()
    alone = answers_alone(workload.requests)
    entries = mix(workload, alone)
    (wrong, *_) = (index for index, entry in enumerate(entries) if entry.is_bad)
    errors = [
        json.dumps({"error": {"code": bad.code, "message": bad.says}}).encode()
        for bad in bad_requests(workload)
    ]

    def judged(*samples: Sample) -> list[bool]:
        found = mixed.judge("digits", [mixed.Round(entries, report([200], [0.1], samples=samples))])
        return [finding.is_met for finding in found]

    right, refused = Sample(0, 200, alone[0]), Sample(wrong, 422, errors[0])
    assert judged(right, refused) == [True, False, True]  # the other kinds are missing
    assert not judged(Sample(0, 200, alone[1]), refused)[0]
    assert not judged(Sample(0, 503, errors[0]), refused)[0]
    kinds = [index for index, entry in enumerate(entries) if entry.is_bad]
    every = [
        Sample(index, bad.status, content)
        for index, bad, content in zip(kinds, bad_requests(workload), errors, strict=False)
    ]
    ok = {"results": [json.loads(alone[0])["results"][0], {}, json.loads(alone[1])["results"][0]]}
    ok["results"][1] = {"error": {"code": "invalid_input", "message": "inputs[1] expected 64 values, got 63"}}
    half = Sample(kinds[-1], 200, json.dumps({**ok, "usage": {"batch_size": 2}}).encode())
    assert judged(right, *every, half) == [True, True, True]
    swapped = Sample(kinds[0], 422, errors[1])
    assert judged(right, *every, half, swapped) == [True, False, True]


def test_one_start_for_many_callers_is_what_counts() -> None:
    """Two replicas, or an unanswered caller, are missed."""
    history = History(pids={1}, states={"ready"})
    history.note(0.0, 0, 0)
    history.note(0.3, 0, 0)
    history.note(0.6, 0, 1)
    history.note(2.1, 1, 1)
    assert (str(history), history.most_ready) == ("0/0 at 0 s, 0/1 at 1 s, 1/1 at 2 s", 1)
    served = [Record(tries=[1]) for _ in range(3)]
    assert not missed(judge_waking(served, history))
    assert missed(judge_waking([*served, Record(given_up=1)], history)) == ["all"]
    history.pids.add(2)
    assert missed(judge_waking(served, history)) == ["one"]


class Refusing:
    """A server that refuses each caller's connection `refusals` times before it answers."""

    def __init__(self, refusals: int, *, status: int = 503) -> None:
        self.refusals = refusals
        self.status = status

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has what it wanted
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(self.refusals + 1):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            status = b"200" if number == self.refusals else str(self.status).encode()
            lines = [b"HTTP/1.1 " + status + b" x", b"content-length: %d" % len(body), b"retry-after: 0"]
            writer.write(b"\r\n".join([*lines, b"", b""]) + body)


@asynccontextmanager
async def served(answer: Refusing) -> AsyncIterator[Target]:
    """Where it listens."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1], "/predict/x", {}, [b"{}"])


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone: the clients are its streams."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_patient_client_tries_again_until_it_is_served() -> None:
    """Twice refused is served at the third try, over the connection that it has."""
    async with served(Refusing(2)) as target:
        records = await call_patiently(target, Plan(3))
    assert [record.tries for record in records] == [[3], [3], [3]]
    assert statuses_of(records) == {200: 3, 503: 6}


@pytest.mark.anyio
async def test_a_patient_client_gives_up_after_its_last_try_and_at_other_errors() -> None:
    """Five refusals in a row; a 500 at once."""
    async with served(Refusing(9)) as target:
        (record,) = await call_patiently(target, Plan(1, max_tries=5))
    assert (record.given_up, len(record.answers), record.tries) == (1, 5, [])
    async with served(Refusing(1, status=500)) as target:
        (record,) = await call_patiently(target, Plan(1))
    assert (record.given_up, len(record.answers)) == (1, 1)


@pytest.mark.anyio
async def test_nobody_there_is_an_answer_of_status_0() -> None:
    """And no exception that ends the other clients."""
    async with served(Refusing(0)) as target:
        pass
    (record,) = await call_patiently(target, Plan(1))
    assert (record.given_up, [answer.status for answer in record.answers]) == (1, [0])
