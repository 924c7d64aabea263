"""What `scripts/chaos cancel` calls a failure."""

from __future__ import annotations

from dataclasses import replace

from scripts.trials.cancel import Cancel, judge

GOOD = Cancel("early", ("canceled",), (200, 200), 3.0, 500)
LATE = Cancel("finishing", ("completed",), (409, 409), 0.0, 1000)


def missed(*cancels: Cancel) -> list[str]:
    """The beginnings of what does not hold."""
    return [each.what.partition(":")[0] for each in judge(cancels) if not each.is_met]


def test_what_held_is_met() -> None:
    """A job may complete before the cancel comes."""
    assert missed(GOOD, LATE) == []


def test_whatever_does_not_hold_is_missed() -> None:
    """Two ends, a status that came back, another answer to the second cancel; a slow one; a wrong output."""
    for wrong in (
        replace(GOOD, statuses=("canceled", "completed")),
        replace(GOOD, statuses=("processing", "canceled")),
        replace(GOOD, answers=(200, 409)),
        replace(LATE, answers=(200, 200)),
    ):
        assert missed(GOOD, wrong) == ["one terminal status each"]
    assert missed(GOOD, replace(GOOD, quiet_after_s=10.1)) == ["quiet within 10 s"]
    assert missed(replace(GOOD, wrong="a gap")) == ["whole shards from the first row on, and said so"]
