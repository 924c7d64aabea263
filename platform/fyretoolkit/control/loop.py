"""The controller's loop: look, plan, act; woken by every change, and by the clock when no message came.

Each resource has its own loop, so a slow Serve call delays no batch job. A loop that fails, because Redis or Serve is
away, waits and looks again: nothing is kept in memory that the next look would not find.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from fyretoolkit.control.deployments import DeploymentReconciler
from fyretoolkit.control.jobs import JobReconciler
from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store, translated
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.models import ModelStore

logger = logging.getLogger(__name__)

_IDLE_S = 1.0
_BUSY_S = 0.25
_RETRY_S = 1.0

Tick = Callable[[], Awaitable[bool]]


class ControlLoop:
    """Reconciles until it is canceled. Of several, only the newest one's changes are accepted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.redis_url.get_secret_value())
        self._deployments = DeploymentStore(self._store, settings.deployments.deleted_ttl_s)
        self._wake = {"deployment": asyncio.Event(), "job": asyncio.Event()}

    async def run(self) -> NoReturn:
        """Take over from every earlier controller, then reconcile."""
        epoch = await self._take_over()
        preparer = Preparer(self._settings, ModelStore(self._store))
        deployments = DeploymentReconciler(self._settings, self._deployments, preparer, epoch=epoch)
        jobs = JobReconciler(
            self._settings, self._store, JobStore(self._store, self._settings.batch.job_ttl_s)
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._repeat(deployments.tick, self._wake["deployment"]))
            group.create_task(self._repeat(jobs.tick, self._wake["job"]))
        raise RuntimeError("the control loops ended")

    async def _take_over(self) -> int:
        while True:
            try:
                return await self._deployments.new_controller_epoch()
            except PlatformError:
                logger.warning("the store does not answer; asking again")
                await asyncio.sleep(_RETRY_S)

    async def _repeat(self, tick: Tick, wake: asyncio.Event) -> NoReturn:
        while True:
            wake.clear()
            try:
                pause = _BUSY_S if await tick() else _IDLE_S
            except PlatformError as error:
                logger.warning("a look at the store failed: %s", error)
                pause = _RETRY_S
            except Exception:
                logger.exception("a tick failed; the next one looks anew")
                pause = _RETRY_S
            try:
                await asyncio.wait_for(wake.wait(), pause)
            except TimeoutError:
                continue

    async def _listen(self) -> NoReturn:
        """Wake the loop of a resource that changed. Messages may be missed: the clock looks as well."""
        while True:
            try:
                async with self._store.subscribe() as changes, translated():
                    async for message in changes.listen():
                        kind = json.loads(message["data"])["kind"]
                        if event := self._wake.get(kind):
                            event.set()
            except PlatformError as error:
                logger.warning("listening for changes failed: %s", error)
            await asyncio.sleep(_RETRY_S)
