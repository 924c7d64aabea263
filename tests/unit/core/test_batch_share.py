"""The share of batch jobs: what nobody reserved, in equal parts, never nothing and never more than configured."""

from __future__ import annotations

import pytest

from fyretoolkit.core.batch_share import workers_of_a_job


@pytest.mark.parametrize(
    ("free", "running", "expected"),
    [
        ([1.6], 1, 3),
        ([1.6], 2, 1),
        ([1.0], 1, 2),
        ([0.9], 1, 1),
        ([0.0], 1, 1),
        ([], 3, 1),
        ([0.4, 0.4, 0.4], 1, 1),
        ([8.0], 1, 4),
        ([8.0], 4, 4),
        ([8.0, 8.0], 12, 2),
        ([8.0], 0, 4),
    ],
)
def test_workers_of_a_job(free: list[float], running: int, expected: int) -> None:
    """Half a CPU each, four at most: a worker needs its half on one node."""
    assert workers_of_a_job(free, running_jobs=running, cpus_of_a_worker=0.5, most=4) == expected


def test_rounding_costs_no_worker() -> None:
    """Ray's arithmetic: 2 less ten tenths is 0.9999999999999998."""
    assert workers_of_a_job([0.9999999999999998], running_jobs=1, cpus_of_a_worker=0.5, most=4) == 2
