"""Histograms against exact quantiles of the same values."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.histograms import Histogram

PERCENTS = (50, 90, 95, 99)
MILLISECONDS = st.floats(min_value=1e-3, max_value=1e6)


def _recorded(values: Sequence[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def _exact(values: Sequence[float], percent: int) -> float:
    """Nearest rank, by the definition: the smallest value that at least `percent` of a hundred do not exceed."""
    ordered = sorted(values)
    return next(
        value for index, value in enumerate(ordered, start=1) if index * 100 >= percent * len(ordered)
    )


@given(st.lists(MILLISECONDS, min_size=1, max_size=200))
def test_percentiles_are_within_one_percent_of_the_exact_ones(values: list[float]) -> None:
    histogram = _recorded(values)
    for percent, found in zip(PERCENTS, histogram.percentiles(*PERCENTS), strict=True):
        assert found is not None
        assert abs(found - _exact(values, percent)) <= 0.01 * _exact(values, percent)


@pytest.mark.parametrize("spread", [0.05, 0.5, 2.0])
def test_many_values_of_a_usual_shape_are_within_one_percent(spread: float) -> None:
    draw = random.Random(7)
    values = [draw.lognormvariate(math.log(12), spread) for _ in range(20_000)]
    for percent, found in zip(PERCENTS, _recorded(values).percentiles(*PERCENTS), strict=True):
        assert found == pytest.approx(_exact(values, percent), rel=0.01)


@given(st.lists(MILLISECONDS, max_size=60), st.lists(MILLISECONDS, max_size=60))
def test_merging_is_recording_all_values_in_one(left: list[float], right: list[float]) -> None:
    merged = _recorded(left)
    merged.merge(_recorded(right))
    one = _recorded(left + right)
    assert merged.counts == one.counts
    assert merged.max == one.max
    assert merged.sum == pytest.approx(one.sum)


@given(st.lists(MILLISECONDS, min_size=1, max_size=60), st.randoms())
def test_the_order_of_values_and_of_merges_does_not_matter(values: list[float], draw: random.Random) -> None:
    shuffled = list(values)
    draw.shuffle(shuffled)
    merged = Histogram()
    for value in shuffled:
        merged.merge(_recorded([value]))
    assert merged.counts == _recorded(values).counts
    assert merged.percentiles(*PERCENTS) == _recorded(values).percentiles(*PERCENTS)


@given(st.lists(MILLISECONDS, min_size=1, max_size=60))
def test_count_mean_and_max_are_exact(values: list[float]) -> None:
    histogram = _recorded(values)
    assert histogram.count == len(values)
    assert histogram.max == max(values)
    assert histogram.mean == pytest.approx(math.fsum(values) / len(values))
    assert (histogram.percentiles(100)[0] or 0) <= max(values)


def test_what_is_too_small_to_tell_from_zero_counts_as_zero() -> None:
    histogram = _recorded([0.0, -1e-9, 1e-7, 5.0])
    assert histogram.count == 4
    assert histogram.percentiles(50, 75) == [0.0, 0.0]
    assert histogram.percentiles(100) == [pytest.approx(5.0, rel=0.01)]


def test_no_values_have_no_percentiles() -> None:
    assert (Histogram().count, Histogram().mean) == (0, None)
    assert Histogram().percentiles(50, 99) == [None, None]


def test_the_size_is_bounded_by_the_range_and_not_by_the_number_of_values() -> None:
    draw = random.Random(7)
    histogram = _recorded([10 ** draw.uniform(-3, 6) for _ in range(20_000)])
    assert len(histogram.counts) <= 1100
