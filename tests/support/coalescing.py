"""A coalescer over replicas that wait until they are let go, for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import Principal
from fyretoolkit.models.readers import Stacked
from fyretoolkit.serving.coalescer import Coalescer
from fyretoolkit.serving.deadlines import Deadline
from fyretoolkit.serving.joining import Request, Share
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaLostError
from fyretoolkit.serving.routing import Route
from fyretoolkit.serving.waking import Alarm
from fyretoolkit.settings import ServingSettings

BATCH = 8
POISON = -1.0
KILLER = -2.0
BAD_ROW = -3.0


@dataclass
class Replicas:
    """Doubles every row. A call waits until it is let go, and fails as a poisonous row in it says."""

    application: str = "dep_a"
    calls: list[list[float]] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    wakes: int = 0
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    is_awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> ReplicaAnswer:
        assert application == self.application
        rows = arrays["x"].reshape(len(arrays["x"]), -1)[:, 0].tolist()
        self.calls.append(rows)
        self.loads.append(load)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            async with asyncio.timeout(timeout_s):
                await self.is_open.wait()
        except TimeoutError:
            raise PlatformError("deadline_exceeded") from None
        finally:
            self.running -= 1
        if KILLER in rows:
            raise ReplicaLostError
        if POISON in rows:
            raise RuntimeError("the call cannot be made")
        kept = [index for index, row in enumerate(rows) if row != BAD_ROW]
        failed = {index: "it is bad" for index, row in enumerate(rows) if row == BAD_ROW}
        return ReplicaAnswer([b"%g" % (2 * rows[index]) for index in kept], kept, failed, 1.0)

    async def wake(self, application: str, timeout_s: float) -> None:
        assert (application, timeout_s) == (self.application, SETTINGS.wake_timeout_s)
        self.wakes += 1
        await self.is_awake.wait()

    async def forget(self, applications: frozenset[str]) -> None:
        raise AssertionError(applications)


SETTINGS = ServingSettings(max_wait_s=1.0, max_queued=100, max_queued_bytes=1000, call_s=1e-9)
ROUTE = Route("dep_a", "org_a", "m", "us-east-1", 100, "sha", cast(Any, Stacked()), BATCH, 1)


def principal(org: str = "org_a") -> Principal:
    return Principal(org, "key_a", frozenset(), "free")


def request(*rows: float, org: str = "org_a", timeout_ms: int = 60_000, **fields: Any) -> Request:
    """A request of these rows."""
    array = np.array([[row] for row in rows])
    is_abandoned: Callable[[], bool] = fields.pop("is_abandoned", lambda: False)
    array = array.repeat(fields.pop("width", 1), axis=1)
    return Request(
        arrays={"x": array},
        rows=len(rows),
        shape=array.shape[1:],
        size=fields.pop("size", 1),
        principal=principal(org),
        deadline=Deadline(timeout_ms),
        is_abandoned=is_abandoned,
    )


class Bench:
    """A coalescer over replicas that wait."""

    def __init__(
        self, settings: ServingSettings = SETTINGS, route: Route = ROUTE, alarm: Alarm | None = None
    ) -> None:
        self.replicas = Replicas()
        self.coalescer = Coalescer(self.replicas, settings, source="ing_a", alarm=alarm, draw=lambda: 0.0)
        self.route = route

    def send(self, wanted: Request) -> asyncio.Task[Share]:
        return asyncio.create_task(self.coalescer.run(self.route, wanted))

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def fill(self) -> list[asyncio.Task[Share]]:
        """Both calls that may be in flight, held by the replicas."""
        tasks = []
        for number in range(SETTINGS.calls_per_replica):
            tasks.append(self.send(request(1000.0 + number)))
            await self.settle()
        assert self.replicas.running == SETTINGS.calls_per_replica
        return tasks


async def values(task: asyncio.Task[Share]) -> list[bytes]:
    share = await asyncio.wait_for(task, 30)
    return list(share.results)
