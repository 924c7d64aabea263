"""Says to the workers of batch jobs how many of them may be at work, by what Ray's nodes have left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import ray
from ray._private import state

from fyretoolkit.control.threads import SERVE, run_in
from fyretoolkit.core.batch_share import workers_of_a_job
from fyretoolkit.settings import BatchSettings
from fyretoolkit.store.batch_share import write_share
from fyretoolkit.store.connection import Store

_EVERY_S = 1.0


class BatchShare:
    """Looks at the nodes once a second while jobs run."""

    def __init__(
        self, settings: BatchSettings, store: Store, free_cpus: Callable[[], Sequence[float]]
    ) -> None:
        self._settings = settings
        self._store = store
        self._free_cpus = free_cpus
        self._due_at = 0.0

    async def tick(self, running_jobs: int) -> None:
        """Look, if it is time, and say it."""
        if not running_jobs or time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + _EVERY_S
        workers = workers_of_a_job(
            await run_in(SERVE, self._free_cpus),
            running_jobs=running_jobs,
            cpus_of_a_worker=self._settings.worker_num_cpus,
            most=self._settings.workers,
        )
        await write_share(self._store, workers)


def free_cpus() -> Sequence[float]:
    """What each node has that neither a replica nor anybody else reserved."""
    free = state.available_resources_per_node()
    return [free.get(node["NodeID"], {}).get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
