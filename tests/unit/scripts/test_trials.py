"""`scripts/chaos deploy`: its client, and what it judges by, on records made by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.benchmarks.comparison.workloads import WORKLOADS
from scripts.trials.faults.aftermath import Aftermath
from scripts.trials.faults.churn import Deploy
from scripts.trials.faults.kills import Kill, Victim
from scripts.trials.faults.report import Trial, judge, judge_reach, judge_times, table
from scripts.trials.faults.steady import Call, steady_load
from tests.support.canned_server import Request, serving
from tests.support.platform import until

DIGITS = replace(WORKLOADS["digits"](Path()), requests=WORKLOADS["digits"](Path()).requests[:1])


def right_answer() -> bytes:
    """To the one request of the workload, by ONNX Runtime."""
    session = DIGITS.open_session()
    given = {session.get_inputs()[0].name: DIGITS.array(DIGITS.requests[0])}
    labels, probabilities = session.run(["label", "probabilities"], given)
    result = {"label": int(labels[0]), "probabilities": [float(each) for each in probabilities[0]]}
    return json.dumps({"results": [result], "usage": {"deployment": "dep_1"}}).encode()


def answer(status: int, body: bytes) -> bytes:
    """As it goes over the wire."""
    return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def calls_of(script: Sequence[bytes | None]) -> list[Call]:
    """What a client has of a server that answers so, one request after another; None ends the connection."""

    async def say(request: Request) -> bytes | None:
        return script[min(request.number, len(script) - 1)]

    with serving(say) as server, steady_load(server.target(*DIGITS.bodies), DIGITS, 1.0) as calls:
        until(lambda: len(calls) > 0, timeout_s=60, what="a call that ended")
    return calls


REFUSED = answer(503, b'{"error": {"code": "unavailable"}}')


def test_a_failed_call_is_made_once_more() -> None:
    """Both tries are on record: what the retry saved is not failed, and is not hidden either."""
    first, *_ = calls_of([REFUSED, answer(200, right_answer())])
    assert (first.failures, first.is_failed) == (("503 unavailable",), False)
    assert (first.deployment, first.wrong) == ("dep_1", "")
    assert first.ended_at - first.due_at >= 0.1
    first, *_ = calls_of([None, REFUSED, answer(200, right_answer())])
    assert (first.failures, first.is_failed) == (("connection lost", "503 unavailable"), True)
    assert first.deployment == ""


def test_a_wrong_answer_is_not_asked_for_again() -> None:
    """Another label than ONNX Runtime's."""
    wrong = json.loads(right_answer())
    wrong["results"][0]["label"] += 1
    first, *_ = calls_of([answer(200, json.dumps(wrong).encode())])
    assert first.failures == ()
    assert "labels" in first.wrong


def test_requests_do_not_wait_for_answers() -> None:
    """The first is answered only when four more have come."""

    async def say(request: Request) -> bytes:
        while request.number == 0 and len(server.requests) < 5:  # noqa: ASYNC110 - it is other connections'
            await asyncio.sleep(0.01)
        return answer(200, right_answer())

    with serving(say) as server, steady_load(server.target(*DIGITS.bodies), DIGITS, 20.0) as calls:
        until(lambda: len(calls) >= 5, timeout_s=60, what="answers")
    assert all(call.failures == () for call in calls)


VICTIM = Victim("a replica", "title", lambda _: True, within_s=10.0)
GOOD = Call(1.0, 1.1, (), "dep_1")
FAILED = Call(1.0, 1.3, ("503 unavailable", "connection lost"))
READY = Deploy({"idempotency_key": "churn-1"}, "dep_2", ready_after_s=5.0)
GONE = Deploy({"idempotency_key": "churn-0"}, "dep_1", ready_after_s=4.0, is_deleted=True)
AFTER = Aftermath(frozenset({"dep_2"}), ["dep_2"], [], [], [2, 2], [], 2)
TRIAL = Trial([Kill(VICTIM, 1.05, "starting", 4.0)], [GOOD] * 1000, [GONE, READY], AFTER)


def missed(trial: Trial) -> list[str]:
    """The beginnings of what does not hold."""
    return [each.what.partition(":")[0] for each in judge(trial) if not each.is_met]


def test_what_held_is_met() -> None:
    """One failed prediction in a thousand may be."""
    assert missed(TRIAL) == []
    assert missed(replace(TRIAL, calls=[*TRIAL.calls[1:], FAILED])) == []


def test_whatever_does_not_hold_is_missed() -> None:
    """Each by the line that is about it."""
    calls, deploys = TRIAL.calls, TRIAL.deploys
    assert missed(replace(TRIAL, calls=[*calls[2:], FAILED, FAILED])) == ["failed after one retry"]
    assert missed(replace(TRIAL, calls=[*calls, replace(GOOD, wrong="labels")])) == ["wrong answers"]
    ready = "deploys that became ready and answered rightly"
    assert missed(replace(TRIAL, deploys=[GONE, replace(READY, ready_after_s=None)])) == [ready]
    assert missed(replace(TRIAL, deploys=[GONE, replace(READY, error="labels")])) == [ready]
    assert missed(replace(TRIAL, deploys=[])) == [ready, "deletions that ended"]
    for after in (
        replace(AFTER, listed=[]),
        replace(AFTER, listed=["dep_2", "dep_3"]),
        replace(AFTER, listed=["dep_2", "dep_2"]),
        replace(AFTER, unlike=["churn-0"]),
    ):
        assert missed(replace(TRIAL, aftermath=after)) == ["accepted and there"]
    for after in (replace(AFTER, applications=[2, 3, 2]), replace(AFTER, unserved=["dep_2"])):
        assert missed(replace(TRIAL, aftermath=after)) == ["applications of Serve for models"]
    assert missed(replace(TRIAL, aftermath=replace(AFTER, returned=["dep_1"]))) == ["deletions that ended"]
    assert missed(replace(TRIAL, deploys=[replace(GONE, is_deleted=False), *deploys[1:]])) == [
        "deletions that ended"
    ]


def test_how_long_a_kind_was_away_is_its_longest() -> None:
    """Never back is missed too."""
    kill = TRIAL.kills[0]
    assert all(each.is_met for each in judge_times(TRIAL))
    for back_after_s in (10.5, float("inf")):
        late = replace(TRIAL, kills=[kill, replace(kill, back_after_s=back_after_s), kill])
        assert [each.is_met for each in judge_times(late)] == [False]


def test_a_trial_must_have_seen_enough() -> None:
    """So many predictions, and each kind killed while a deployment was on its way: not between, not while one goes."""
    assert [each.is_met for each in judge_reach(TRIAL, min_calls=1000)] == [True, True]
    kills = [replace(TRIAL.kills[0], stage=stage) for stage in ("", "deleting")]
    assert [each.is_met for each in judge_reach(replace(TRIAL, kills=kills), min_calls=1001)] == [False] * 2


def test_predictions_are_counted_with_the_kill_before_their_end() -> None:
    """Those that ended before the first kill are with none."""
    other = Victim("another", "title", lambda _: True, within_s=10.0)
    kills = [TRIAL.kills[0], Kill(other, 2.0, "", 1.0)]
    calls = [Call(0.5, 0.6, ()), GOOD, replace(FAILED, ended_at=1.9), replace(GOOD, ended_at=2.5)]
    lines = table(replace(TRIAL, kills=kills, calls=calls)).splitlines()
    assert lines[2:] == [
        "| a replica | 1 (1) | 2 | 1 (1 × 503 unavailable, 1 × connection lost) | 1 | 4.0 s, 4.0 s |",
        "| another | 1 (0) | 1 | 0 | 0 | 1.0 s, 1.0 s |",
    ]
