"""How many workers of batch jobs may be at work: what real time leaves of the machines, never none.

Workers reserve no CPU at Ray, so a replica is placed as if there were no batch job at all; that it was placed is what
takes their room from them. Reserving and giving back was rejected: real time would wait for an actor to end, and a job
for two processes to start, each time that the load changes.
"""

from __future__ import annotations

from collections.abc import Iterable

_EPSILON = 1e-6


def workers_of_a_job(
    free_cpus: Iterable[float], *, running_jobs: int, cpus_of_a_worker: float, most: int
) -> int:
    """How many workers of each running job may be at work, from 1 to `most`.

    `free_cpus` is what each node has that nobody reserved; the running jobs have equal shares of it.
    """
    room = sum(int(free / cpus_of_a_worker + _EPSILON) for free in free_cpus)
    return max(1, min(most, room // max(1, running_jobs)))
