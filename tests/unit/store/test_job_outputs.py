"""Which output of a job stays, where two attach one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore
from tests.unit.store.test_jobs import TTL_S, committed_job

Run = Callable[[Callable[[Store], Coroutine[Any, Any, Any]]], Any]

LOCAL: dict[str, object] = {"partial": True, "failed_rows": {"count": 1}}
DELIVERED: dict[str, object] = {"partial": True, "delivered": True}


@pytest.mark.parametrize(
    ("outputs", "kept"),
    [
        ((LOCAL, DELIVERED), DELIVERED),
        ((DELIVERED, LOCAL), DELIVERED),
        ((DELIVERED, {**LOCAL, "delivered": True}), DELIVERED),
        (({"partial": True}, LOCAL), {"partial": True}),
    ],
)
def test_an_output_that_was_delivered_takes_the_place_of_one_that_was_not(
    with_store: Run, outputs: tuple[dict[str, object], ...], kept: dict[str, object]
) -> None:
    """Else nobody learns that the results are at the destination. Among equals the first one stays."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        job = await committed_job(jobs)
        await jobs.finish(job, JobStatus.CANCELED)
        for output in outputs:
            await jobs.set_output(job.org, job.id, output)
        after = await jobs.get(job.org, job.id)
        assert after is not None
        assert after.output == kept

    with_store(scenario)
