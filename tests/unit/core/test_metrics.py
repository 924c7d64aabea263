"""Windows and tallies, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.core.metrics import REJECTED, Period, Tally, Window


@pytest.mark.parametrize(
    ("period", "now_s", "start", "first", "buckets"),
    [
        (Period.FIVE_MINUTES, 1_000_000_303.9, 1_000_000_003, 1_000_000_005, 60),
        (Period.FIVE_MINUTES, 1_000_000_300.0, 1_000_000_000, 1_000_000_000, 61),
        (Period.HOUR, 1_000_003_659.0, 1_000_000_059, 1_000_000_080, 60),
        (Period.DAY, 1_000_000_000.0, 999_913_600, 999_914_400, 96),
        (Period.WEEK, 1_000_000_000.0, 999_395_200, 999_396_000, 84),
    ],
)
def test_a_window_is_the_period_in_the_buckets_that_begin_within_it(
    period: Period, now_s: float, start: int, first: int, buckets: int
) -> None:
    window = Window.of(period, now_s)
    assert (window.start, window.end) == (start, int(now_s))
    assert (window.starts[0], len(window.starts)) == (first, buckets)


@given(st.sampled_from(Period), st.floats(min_value=1e9, max_value=4e9))
def test_a_window_holds_the_whole_period_but_for_a_part_of_its_first_bucket(
    period: Period, now_s: float
) -> None:
    window = Window.of(period, now_s)
    assert window.end - window.start == period.length_s
    assert window.start <= window.starts[0] < window.start + period.bucket_s
    assert window.starts[-1] <= now_s < window.starts[-1] + period.bucket_s
    assert all(start % period.bucket_s == 0 for start in window.starts)


@given(st.sampled_from(Period), st.integers(min_value=10**9, max_value=4 * 10**9), st.integers(0, 10**6))
def test_a_bucket_is_kept_while_any_window_may_hold_it(period: Period, start: int, later_s: int) -> None:
    start -= start % period.bucket_s
    is_expired = later_s >= period.kept_s
    assert not (is_expired and start in Window.of(period, start + later_s).starts)


def test_rejections_are_no_failures() -> None:
    tally = Tally(canceled=1)
    tally.add_answer(total_ms=5, queue_ms=3, compute_ms=2, inputs=4, batch_rows=8)
    for code in ("invalid_input", "invalid_input", "deadline_exceeded", "overloaded", "rate_limit_exceeded"):
        tally.add_error(code)
    assert (tally.succeeded, tally.failed, tally.rejected, tally.canceled) == (1, 3, 2, 1)
    assert tally.requests == 7


def test_rejections_are_codes_of_the_catalogue() -> None:
    assert set(CATALOGUE) >= REJECTED


def test_the_union_holds_all_traffic() -> None:
    left, right = Tally(canceled=1, inputs=2, batch_rows=3), Tally(canceled=10, inputs=20, batch_rows=30)
    left.add_error("invalid_input")
    right.add_error("invalid_input")
    right.add_error("overloaded")
    for tally, name in ((left, "total"), (right, "queue"), (right, "compute")):
        getattr(tally, name).add(1.0)
    union = Tally.union([left, right])
    assert (union.canceled, union.inputs, union.batch_rows) == (11, 22, 33)
    assert union.errors == {"invalid_input": 2, "overloaded": 1}
    assert (union.total.count, union.queue.count, union.compute.count) == (1, 1, 1)
    assert (left.canceled, left.errors) == (1, {"invalid_input": 1})
