"""The lifecycle tables: complete, closed, and no way out of an end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pytest

from fyretoolkit.core import lifecycles
from fyretoolkit.core.lifecycles import (
    DEPLOYMENT,
    JOB,
    DeploymentStatus,
    JobStatus,
    is_terminal,
    predecessors,
)

TABLES = [lifecycles.MODEL, lifecycles.DEPLOYMENT, lifecycles.JOB, lifecycles.DELIVERY]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: type(next(iter(table))).__name__)
def test_every_status_has_its_row(table: Mapping[StrEnum, frozenset[StrEnum]]) -> None:
    """A status that a transition leads to is declared, and each declared one has a row."""
    statuses = set(type(next(iter(table))))
    assert set(table) == statuses
    assert {target for targets in table.values() for target in targets} <= statuses


def test_a_job_ends_once() -> None:
    """Nothing leads out of completed, failed and canceled."""
    ends = {status for status in JobStatus if is_terminal(JOB, status)}
    assert ends == {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED}


def test_a_deleted_deployment_stays_deleted() -> None:
    """No transition brings a draining or deleted deployment back into service."""
    reachable, frontier = set(), {DeploymentStatus.DRAINING}
    while frontier:
        reachable |= frontier
        frontier = {target for status in frontier for target in DEPLOYMENT[status]} - reachable
    assert reachable == {DeploymentStatus.DRAINING, DeploymentStatus.DELETED}


def test_predecessors_are_read_from_the_table() -> None:
    """Canceling is legal for a job that is queued or processing, and from nowhere else."""
    assert predecessors(JOB, JobStatus.CANCELED) == (JobStatus.QUEUED, JobStatus.PROCESSING)
    assert predecessors(DEPLOYMENT, DeploymentStatus.PROVISIONING) == ()
