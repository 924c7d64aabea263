"""The runner as Ray sees it: a detached actor for each run, which ends itself when its run is over."""

from __future__ import annotations

import asyncio
import logging
import os

import ray
from ray.actor import ActorHandle

from batch.runner import BatchRunner
from fyretoolkit.settings import settings

NAMESPACE = "fyre"


def runner_name(job_id: str, epoch: int) -> str:
    """The actor's name: it tells the controller which run of which job is alive."""
    return f"batch-{job_id}-{epoch}"


class RunnerActor:
    """Holds one run. Its process is the job's own, since Ray Data's context is global to a process.

    The run begins with the actor and not by a call: a call waits in its caller, and is lost if that is killed before
    the actor is up.
    """

    async def __init__(self, org: str, job_id: str, epoch: int) -> None:  # type: ignore[misc]  # Ray awaits it
        runner = BatchRunner(settings(), org, job_id, epoch=epoch)
        self._run = asyncio.get_running_loop().create_task(runner.run())
        self._run.add_done_callback(_leave)


def _leave(run: asyncio.Task[None]) -> None:
    """The run is over, and with it this process and what it left behind. The next run is the controller's."""
    error = run.exception() if not run.cancelled() else None
    if error is not None:
        logging.getLogger(__name__).error("the run failed", exc_info=error)
    os._exit(0 if error is None else 1)


def create_runner(org: str, job_id: str, epoch: int) -> ActorHandle:
    """Start the run that was claimed under `epoch`; the same call again finds the same actor."""
    return (
        ray.remote(RunnerActor)
        .options(
            name=runner_name(job_id, epoch),
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            max_restarts=0,
            get_if_exists=True,
        )
        .remote(org, job_id, epoch)
    )
