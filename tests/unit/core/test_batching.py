"""The choice of a batch size from what was measured, by hand-computed tables."""

from __future__ import annotations

import json

import pytest

from fyretoolkit.core.batching import Batching, BatchingReason, choose_size, rates_of, sizes_up_to


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (48, [1, 2, 4, 8, 16, 32, 48])],
)
def test_sizes_double_up_to_the_most(most: int, sizes: list[int]) -> None:
    """And the most itself is tried."""
    assert sizes_up_to(most) == sizes


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        # With 1 ms a call: 1000/1.02 = 980, 2000/1.02 = 1961, 3922, … rows/s: a tiny model, the most.
        ({1: 0.02, 2: 0.02, 4: 0.02, 8: 0.02}, 8),
        # 9.9, 10.0, 10.0 rows/s: a large one gains nothing from company.
        ({1: 100.0, 2: 200.0, 4: 400.0}, 1),
        # 90.9, 166.7, 285.7, 296.3 rows/s: 4 is within 5% of 8's.
        ({1: 10.0, 2: 11.0, 4: 13.0, 8: 26.0}, 4),
        # 90.9, 64.5 rows/s: a model that company makes slower.
        ({1: 10.0, 2: 30.0}, 1),
        # 500, 666.7, 800 rows/s: the call's own cost is shared, though the model itself gains nothing.
        ({1: 1.0, 2: 2.0, 4: 4.0}, 4),
        ({1: 3000.0}, 1),
    ],
)
def test_the_smallest_size_within_five_percent_of_the_best(
    milliseconds: dict[int, float], chosen: int
) -> None:
    """By rows a second with 1 ms for each call."""
    assert choose_size({size: each / 1000 for size, each in milliseconds.items()}) == chosen


def test_rates_have_four_figures() -> None:
    """Without the call's overhead: they are the model's own."""
    assert rates_of({1: 0.003, 2: 0.003}) == {1: 333.3, 2: 666.7}


def test_the_record_survives_json() -> None:
    """As Redis and a handle carry it."""
    batching = Batching(4, BatchingReason.MEASURED, {1: 10.5, 4: 33.0}, 1e-7)
    stored = json.loads(json.dumps(batching.to_json()))
    assert stored == {
        "max_batch_size": 4, "reason": "measured", "rows_per_s": {"1": 10.5, "4": 33.0}, "max_difference": 1e-7,
    }  # fmt: skip
    assert Batching.from_json(stored) == batching
