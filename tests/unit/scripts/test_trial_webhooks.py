"""What the trial of webhooks calls a failure."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fyretoolkit.control.webhooks import signed_headers
from fyretoolkit.core.webhooks import new_secret
from scripts.trials.senders.bare import bare_stage
from scripts.trials.webhooks import Told, Trial, conduct_bare, judge
from tests.support.receivers import Received

SECRET = new_secret()
NOW = time.time()


def test_senders_and_a_store_alone() -> None:
    """The short form of `--bare`: a sender is killed between the jobs, and everybody is told."""
    with bare_stage({"pauses_s": [0.1, 0.1, 0.1]}) as stage:
        trial = conduct_bare(stage, ["ok", "flaky", "gone", "ok", "huge", "redirect"], kills=1, pause_s=0.05)
    assert missed(trial) in ([], [5])  # how soon they are told says something of the machine


def told(number: int, kind: str, status: str, reason: str | None = None) -> Told:
    """A job that ended two tenths of a second ago."""
    job = {"id": f"job_{number}", "status": "completed", "finished": NOW - 0.2}
    return Told(kind, job, {"id": f"msg_{number}", "status": status, "reason": reason})


def received(number: int, kind: str, *, at: float = NOW, secret: str = SECRET) -> Received:
    """What was sent of that job."""
    body = f'{{"data": {{"id": "job_{number}", "status": "completed"}}}}'
    return Received(
        kind, at, "/", signed_headers(f"msg_{number}", body, [secret], now=time.time()), body.encode()
    )


@pytest.fixture
def good() -> Trial:
    """All as it must be; signed now: a signature of five minutes ago is none."""
    return Trial(
        [
            told(1, "ok", "delivered"),
            told(2, "flaky", "delivered"),
            told(3, "gone", "exhausted", "gone"),
            told(4, "hang", "exhausted", "schedule_ended"),
        ],
        [
            received(1, "ok"),
            received(2, "flaky"),
            received(2, "flaky"),
            received(3, "gone"),
            received(4, "hang"),
        ],
        SECRET,
        ["a sender"],
    )


def missed(trial: Trial, kills: int = 1) -> list[int]:
    """Which findings are not met."""
    return [number for number, each in enumerate(judge(trial, kills=kills)) if not each.is_met]


def test_what_held_is_met(good: Trial) -> None:
    """A repetition is no failure."""
    assert missed(good) == []
    assert missed(replace(good, received=[*good.received, received(1, "ok", at=NOW + 50)])) == []


def test_whatever_does_not_hold_is_missed(good: Trial) -> None:
    """Each by its own line."""
    first, *others = good.received
    forged = received(1, "ok", secret=new_secret())
    assert missed(replace(good, received=[forged, *good.received])) == [0]
    assert missed(replace(good, received=[received(9, "ok"), *good.received])) == [0]
    assert missed(replace(good, received=others)) == [1, 5]
    assert missed(replace(good, told=[told(1, "ok", "exhausted"), *good.told[1:]])) == [1]
    assert missed(replace(good, told=[*good.told[:3], told(4, "hang", "delivered")])) == [2]
    failed = replace(good.told[3], job={**good.told[3].job, "status": "failed"})
    assert missed(replace(good, told=[*good.told[:3], failed])) == [0, 3]
    assert missed(good, kills=2) == [4]
    assert missed(replace(good, received=[replace(first, at=NOW + 1.9), *others])) == [5]
