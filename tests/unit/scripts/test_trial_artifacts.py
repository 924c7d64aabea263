"""What the trial of broken artifacts calls a failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.trials.artifacts import Outcome, Usage, judge, judge_left
from tests.support.broken_artifacts import BROKEN

RIGHT = [Outcome(artifact, "failed", artifact.code, "why", 0.5) for artifact in BROKEN]
USAGE = Usage([0.01, 0.02], [], extra_bytes=1 << 20)


def missed(outcomes: list[Outcome], usage: Usage) -> list[str]:
    """The findings that are not met."""
    return [finding.what for finding in judge(outcomes, usage) if not finding.is_met]


def test_all_as_it_must_be_is_met() -> None:
    """Nothing is missed, nothing is left."""
    assert missed(RIGHT, USAGE) == []
    assert judge_left([]).is_met


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RIGHT[0], code="internal_error"),
        replace(RIGHT[0], status="ready", code=""),
        replace(RIGHT[0], status="provisioning", code=""),
    ],
)
def test_another_end_is_missed_and_named(wrong: Outcome) -> None:
    """A wrong code, a broken model that is served, one that nobody ends."""
    (what,) = missed([wrong, *RIGHT[1:]], USAGE)
    assert RIGHT[0].artifact.name in what


def test_a_slow_refusal_is_missed() -> None:
    """Later than 20 s."""
    (what,) = missed([*RIGHT, replace(RIGHT[1], took_s=20.1)], USAGE)
    assert RIGHT[1].artifact.name in what


@pytest.mark.parametrize(
    "usage",
    [Usage([0.01], ["503 overloaded"]), Usage([], []), Usage([0.01], [], extra_bytes=1 << 30)],
    ids=["failed", "unused", "memory"],
)
def test_what_others_noticed_is_missed(usage: Usage) -> None:
    """A failed prediction, none at all, a GiB of memory."""
    assert len(missed(RIGHT, usage)) == 1


def test_a_process_that_is_left_is_missed() -> None:
    """And named."""
    finding = judge_left(["7 is a zombie"])
    assert not finding.is_met
    assert "7 is a zombie" in finding.what


def test_the_artifacts_are_as_many_as_promised_and_told_apart() -> None:
    """25 at least, of no two the same name."""
    assert len({artifact.name for artifact in BROKEN}) == len(BROKEN) >= 25
