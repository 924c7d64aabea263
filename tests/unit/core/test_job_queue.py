"""Whose job is next, and where each job stands: the two say the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.job_queue import Line, plan_starts, position
from fyretoolkit.settings import BatchSettings

lines_strategy = st.lists(
    st.builds(
        Line,
        org=st.sampled_from("abcdef"),
        waiting=st.integers(0, 6),
        running=st.integers(0, 4),
        started_ms=st.integers(0, 5),
    ),
    unique_by=lambda line: line.org,
    max_size=6,
)


def starts(*lines: Line, max_running: int = 2, max_per_organization: int = 100) -> list[str]:
    """Whose jobs are started now."""
    return plan_starts(lines, max_running=max_running, max_per_organization=max_per_organization)


def test_another_organizations_first_job_goes_before_the_third_of_five_hundred() -> None:
    """One slot is free; who has none running gets it, however late it came."""
    many, one = Line("a", 500, 1, 9), Line("b", 1, 0, 10)
    assert starts(many, one) == ["b"]
    assert position([many, one], one, 0) == 1
    assert position([many, one], many, 0) == 2


def test_organizations_take_turns_at_a_single_slot() -> None:
    """With none running, who started last waits for the others."""
    first, second = Line("a", 500, 0, 20), Line("b", 3, 0, 10)
    assert starts(first, second, max_running=1) == ["b"]
    assert starts(first, replace(second, waiting=2, started_ms=21), max_running=1) == ["a"]


def test_one_alone_may_take_all_there_is() -> None:
    """Up to its own cap."""
    alone = Line("a", 5, 1, 0)
    assert starts(alone, max_running=4) == ["a"] * 3
    assert starts(alone, max_running=4, max_per_organization=2) == ["a"]
    assert starts(alone, max_running=1) == []


def test_as_delivered_the_long_jobs_of_one_leave_a_slot_to_others() -> None:
    """Five wait and two begin; whoever comes then does not wait for their ends."""
    batch = BatchSettings()
    caps = {
        "max_running": batch.max_running_jobs,
        "max_per_organization": batch.max_running_jobs_per_organization,
    }
    assert starts(Line("a", 5, 0, 0), **caps) == ["a", "a"]
    assert starts(Line("a", 3, 2, 1), Line("b", 2, 0, 0), **caps) == ["b"]


def test_whose_cap_is_reached_holds_nobody_up() -> None:
    """The other has more waiting and runs more, and starts all the same."""
    capped, other = Line("a", 5, 1, 0), Line("b", 5, 1, 9)
    assert starts(capped, replace(other, running=0), max_running=4, max_per_organization=1) == ["b"]


def test_more_running_than_may_start_nothing() -> None:
    """The cap was lowered."""
    assert starts(Line("a", 5, 7, 0)) == []


@given(lines=lines_strategy)
def test_positions_are_the_order_in_which_jobs_begin(lines: list[Line]) -> None:
    """With room for all, each is started at its position."""
    begun = starts(*lines, max_running=1000)
    told = {
        position(lines, line, before): (line.org, before) for line in lines for before in range(line.waiting)
    }
    seen = dict.fromkeys("abcdef", 0)
    expected = {}
    for place, org in enumerate(begun, start=1):
        expected[place] = (org, seen[org])
        seen[org] += 1
    assert told == expected
