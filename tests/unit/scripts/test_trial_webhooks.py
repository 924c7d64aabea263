"""What the trial of webhooks calls a failure."""

from __future__ import annotations

import time
from dataclasses import replace

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
    return Received(kind, at, "/", signed_headers(f"msg_{number}", body, [secret], now=NOW), body.encode())


GOOD = Trial(
    [
        told(1, "ok", "delivered"),
        told(2, "flaky", "delivered"),
        told(3, "gone", "exhausted", "gone"),
        told(4, "hang", "exhausted", "schedule_ended"),
    ],
    [received(1, "ok"), received(2, "flaky"), received(2, "flaky"), received(3, "gone"), received(4, "hang")],
    SECRET,
    ["a sender"],
)


def missed(trial: Trial, kills: int = 1) -> list[int]:
    """Which findings are not met."""
    return [number for number, each in enumerate(judge(trial, kills=kills)) if not each.is_met]


def test_what_held_is_met() -> None:
    """A repetition is no failure."""
    assert missed(GOOD) == []
    assert missed(replace(GOOD, received=[*GOOD.received, received(1, "ok", at=NOW + 50)])) == []


def test_whatever_does_not_hold_is_missed() -> None:
    """Each by its own line."""
    first, *others = GOOD.received
    forged = received(1, "ok", secret=new_secret())
    assert missed(replace(GOOD, received=[forged, *GOOD.received])) == [0]
    assert missed(replace(GOOD, received=[received(9, "ok"), *GOOD.received])) == [0]
    assert missed(replace(GOOD, received=others)) == [1, 5]
    assert missed(replace(GOOD, told=[told(1, "ok", "exhausted"), *GOOD.told[1:]])) == [1]
    assert missed(replace(GOOD, told=[*GOOD.told[:3], told(4, "hang", "delivered")])) == [2]
    failed = replace(GOOD.told[3], job={**GOOD.told[3].job, "status": "failed"})
    assert missed(replace(GOOD, told=[*GOOD.told[:3], failed])) == [0, 3]
    assert missed(GOOD, kills=2) == [4]
    assert missed(replace(GOOD, received=[replace(first, at=NOW + 1.9), *others])) == [5]
