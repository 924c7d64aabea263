"""The runner as Ray sees it: a detached actor for each run, which ends itself when its run is over."""

from __future__ import annotations

import ray
from ray.actor import ActorHandle, exit_actor

from batch.runner import BatchRunner
from fyretoolkit.settings import settings

NAMESPACE = "fyre"


def runner_name(job_id: str, epoch: int) -> str:
    """The actor's name: it tells the controller which run of which job is alive."""
    return f"batch-{job_id}-{epoch}"


class RunnerActor:
    """Holds one run. Its process is the job's own, since Ray Data's context is global to a process."""

    def __init__(self, org: str, job_id: str, epoch: int) -> None:
        self._runner = BatchRunner(settings(), org, job_id, epoch=epoch)
        self._has_started = False

    async def run(self) -> None:
        """Run to the end, then leave; once. An error is in the job's log; the next run is the controller's."""
        if self._has_started:
            return
        self._has_started = True
        try:
            await self._runner.run()
        finally:
            exit_actor()


def create_runner(org: str, job_id: str, epoch: int) -> ActorHandle:
    """Start the run that was claimed under `epoch`; the same call again finds the same actor."""
    runner = (
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
    runner.run.remote()
    return runner
