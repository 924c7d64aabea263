"""Runners as Ray sees them: detached actors, one process each, which end themselves when nothing is left to run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine

import ray
from ray.actor import ActorHandle

from batch.background import python_in_background, step_forward, step_out
from batch.hands import FEW_ARENAS
from batch.runner import BatchRunner
from batch.standby import Means, is_fit_for_more, live
from fyretoolkit.core.runners import GivenRun
from fyretoolkit.settings import settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.runners import RunnerStore

NAMESPACE = "fyre"
_RUNNING, _STANDING = "ray::RunnerActor", "ray::StandbyRunner"
"""What `ps` calls a process that has a run, and one that has none; as Ray does, after the class."""
_CREATING = ".__init__"
_LOOK_AGAIN_S = 0.01


def runner_name(job_id: str, epoch: int) -> str:
    """The name of the actor that was started for this run."""
    return f"batch-{job_id}-{epoch}"


class RunnerActor:
    """Starts with a run. Its process is the job's own, since Ray Data's context is global to a process.

    The run begins with the actor and not by a call: a call waits in its caller, and is lost if that is killed before
    the actor is up.
    """

    async def __init__(self, name: str, org: str, job_id: str, epoch: int) -> None:  # type: ignore[misc]  # Ray awaits it
        self._life = _begin(_live(name, GivenRun(org, job_id, epoch)))


class StandbyRunner:
    """Starts without a run, with all imports done, and is given one later."""

    async def __init__(self, name: str) -> None:  # type: ignore[misc]  # Ray awaits it
        step_forward()
        self._life = _begin(_live(name, None))


async def _live(name: str, first: GivenRun | None) -> None:
    await _created()
    config = settings()
    if config.batch.worker_niceness > 0:
        step_out()
    store = Store(config.redis_url.get_secret_value())

    async def execute(run: GivenRun) -> bool:
        await BatchRunner(config, run.org, run.job, epoch=run.epoch).run()
        return await is_fit_for_more(store, config.batch.job_ttl_s, run)

    def show(has_run: bool) -> None:
        ray._raylet.setproctitle(_RUNNING if has_run else _STANDING)

    means = Means(RunnerStore(store), execute, show)
    await live(means, name, first)


async def _created() -> None:
    """Once Ray has ended the actor's creation: it names the process then, and would take away the name of a run."""
    while ray._raylet.getproctitle().endswith(_CREATING):  # noqa: ASYNC110 - Ray tells nobody
        await asyncio.sleep(_LOOK_AGAIN_S)


def _begin(life: Coroutine[object, object, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(life)
    task.add_done_callback(_leave)
    return task


def _leave(life: asyncio.Task[None]) -> None:
    """It is over, and with it this process and what it left behind. The next run is the controller's."""
    error = life.exception() if not life.cancelled() else None
    if error is not None:
        logging.getLogger(__name__).error("the run failed", exc_info=error)
    os._exit(0 if error is None else 1)


def create_runner(org: str, job_id: str, epoch: int) -> ActorHandle:
    """Start the run that was claimed under `epoch`; the same call again finds the same actor."""
    name = runner_name(job_id, epoch)
    return _options(RunnerActor, name).remote(name, org, job_id, epoch)


def create_standby(name: str) -> ActorHandle:
    """Start a runner that stands by, behind real time: nobody waits for its seconds of imports."""
    runtime_env: dict[str, object] = {"env_vars": FEW_ARENAS}
    if settings().batch.worker_niceness > 0:
        runtime_env["py_executable"] = python_in_background()
    return _options(StandbyRunner, name, runtime_env=runtime_env).remote(name)


def _options(actor: type, name: str, **options: object) -> ActorHandle:
    return ray.remote(actor).options(
        **options,
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        max_restarts=0,
        get_if_exists=True,
    )
