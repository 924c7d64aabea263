"""The controller's loop: look, plan, act; woken by every change, and by the clock when no message came.

Each resource has its own loop, so a slow Serve call delays no batch job. A loop that fails, because Redis or Serve is
away, waits and looks again: nothing is kept in memory that the next look would not find.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from fyretoolkit.control.deployments import DeploymentReconciler
from fyretoolkit.control.files import FileReconciler
from fyretoolkit.control.gauges import RayGauges
from fyretoolkit.control.jobs import JobReconciler
from fyretoolkit.control.models import ModelReconciler
from fyretoolkit.control.node_watch import NodeWatch
from fyretoolkit.control.preparation import Preparer
from fyretoolkit.control.report import Reporter
from fyretoolkit.control.webhooks import WebhookSender
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import Settings
from fyretoolkit.store import runners
from fyretoolkit.store.connection import Store, translated
from fyretoolkit.store.deliveries import DeliveryStore
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.fencing import FencedError
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.models import ModelStore
from fyretoolkit.store.nodes import NodeStore

logger = logging.getLogger(__name__)

_IDLE_S = 1.0
_BUSY_S = 0.25
_BUSY_JOBS_S = 0.5
"""Beside a job: whatever else changes says so, and by the clock alone a look finds only that a runner died."""
_RETRY_S = 1.0
_STALLED_S = 30.0
_DEAD_S = 120.0
_HELD_CONNECTIONS = 12

Tick = Callable[[], Awaitable[bool]]


class ControlLoop:
    """Reconciles until it is canceled. Of several, only the newest one's changes are accepted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.redis_url.get_secret_value())
        self._deployments = DeploymentStore(self._store, settings.deployments.deleted_ttl_s)
        self._wake = {
            kind: asyncio.Event() for kind in ("deployment", "model", "job", "file", "report", "node")
        }
        self._wake[runners.KIND] = self._wake["job"]
        self._looked_at: dict[str, float] = {}

    def is_stalled(self) -> bool:
        """Whether a loop has not finished a look for a long time: a call of Serve or Ray hangs."""
        return self._silence_s() > _STALLED_S

    def _silence_s(self) -> float:
        return max((time.monotonic() - at for at in self._looked_at.values()), default=0.0)

    async def run(self) -> NoReturn:
        """Take over from every earlier controller, then reconcile.

        Raises:
            ExceptionGroup: a newer controller took over, or a loop hangs for good. Only a new process helps.
        """
        epoch = await self._take_over()
        await self._store.hold(_HELD_CONNECTIONS)
        registry, files = ModelStore(self._store), FileStore(self._store)
        preparer = Preparer(self._settings, registry, files)
        models = ModelReconciler(self._settings, registry, preparer, epoch=epoch)
        deployments = DeploymentReconciler(self._settings, self._deployments, preparer, epoch=epoch)
        job_store = JobStore(self._store, self._settings.batch.job_ttl_s)
        jobs = JobReconciler(self._settings, self._store, job_store)
        gauges = RayGauges()
        reporter = Reporter(
            gauges,
            self._deployments,
            job_store,
            DeliveryStore(self._store),
            silence_s=self._silence_s,
            inspections=lambda: preparer.inspections,
            standby=lambda: deployments.standby,
        )
        await self._tidy(preparer)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._repeat("deployment", deployments.tick))
            group.create_task(self._repeat("model", models.tick))
            group.create_task(self._repeat("job", jobs.tick, busy_s=_BUSY_JOBS_S))
            group.create_task(self._repeat("file", FileReconciler(self._settings, files).tick))
            group.create_task(self._repeat("report", reporter.tick))
            group.create_task(self._repeat("node", NodeWatch(self._deployments, NodeStore(self._store)).tick))
            group.create_task(WebhookSender(self._settings, self._store, gauges).run())
            group.create_task(self._end_if_dead())
        raise RuntimeError("the control loops ended")

    async def _tidy(self, preparer: Preparer) -> None:
        try:
            await asyncio.to_thread(preparer.remove_unfinished)
        except OSError:
            logger.exception("unfinished artifacts could not be removed")
        await asyncio.to_thread(preparer.make_ready)

    async def _take_over(self) -> int:
        while True:
            try:
                return await self._deployments.new_controller_epoch()
            except PlatformError:
                logger.warning("the store does not answer; asking again")
                await asyncio.sleep(_RETRY_S)

    async def _end_if_dead(self) -> NoReturn:
        """A thread that hangs in a call cannot be ended, its process can: all state is in Redis."""
        while True:
            if (silence_s := self._silence_s()) > _DEAD_S:
                raise RuntimeError(f"a control loop has not looked for {silence_s:.0f} s")
            await asyncio.sleep(_RETRY_S)

    async def _repeat(self, kind: str, tick: Tick, *, busy_s: float = _BUSY_S) -> NoReturn:
        wake = self._wake[kind]
        while True:
            self._looked_at[kind] = time.monotonic()
            wake.clear()
            try:
                pause = busy_s if await tick() else _IDLE_S
            except FencedError:
                raise
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
