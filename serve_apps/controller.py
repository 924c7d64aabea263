"""The controller actor: detached, named, restarted by Ray; everything it knows is in Redis."""

from __future__ import annotations

import asyncio
import logging
import os

import ray

from fyretoolkit.control.loop import ControlLoop
from fyretoolkit.settings import settings
from serve_apps.endings import end_at_sigterm

NAME = "fyre-controller"
NAMESPACE = "fyre"


class ControllerActor:
    """Runs the control loop for as long as its process lives."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray awaits an async constructor
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        end_at_sigterm()
        self._control = ControlLoop(settings())
        self._loop = asyncio.get_running_loop().create_task(self._control.run())
        self._loop.add_done_callback(_leave)

    async def status(self) -> dict[str, object]:
        """`{pid, state}`; state is `ok`, or `stalled` while a call of Serve or Ray hangs."""
        return {"pid": os.getpid(), "state": "stalled" if self._control.is_stalled() else "ok"}


def _leave(loop: asyncio.Task[object]) -> None:
    """A control loop that ended is a defect: leave, and let Ray start the actor anew."""
    error = loop.exception() if not loop.cancelled() else None
    logging.getLogger(__name__).critical("the control loop ended", exc_info=error)
    os._exit(1)


def ensure_controller() -> ray.actor.ActorHandle:
    """The one controller of this cluster, started if there is none."""
    return (
        ray.remote(ControllerActor)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
        )
        .remote()
    )
