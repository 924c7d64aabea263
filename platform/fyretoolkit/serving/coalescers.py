"""The coalescers of all deployments in one ingress replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from math import inf

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposition import Served
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.organizations import Principal
from fyretoolkit.serving.coalescer import Coalescer
from fyretoolkit.serving.joining import Request, Share
from fyretoolkit.serving.replica import ReplicaCall
from fyretoolkit.serving.routing import Route
from fyretoolkit.serving.waking import Alarm
from fyretoolkit.settings import PlanSettings, ServingSettings

_REFUSING_S = 1.0


class Coalescers:
    """One for each deployment that is called, made at its first call. Belongs to one event loop."""

    def __init__(
        self,
        call: ReplicaCall,
        settings: ServingSettings,
        plans: Mapping[str, PlanSettings],
        alarm: Alarm | None = None,
    ) -> None:
        """`alarm`: what a deployment without replicas is woken with first; None: by a call alone."""
        self._call = call
        self._alarm = alarm
        self._settings = settings
        self._plans = plans
        self._source = new_id("ing")
        self._by_deployment: dict[str, Coalescer] = {}
        self._refusing_until = -inf

    async def run(self, route: Route, request: Request) -> Share:
        """As `Coalescer.run`, with the weight of the caller's plan."""
        try:
            return await self._coalescer(route, request).run(route, request)
        except PlatformError as error:
            self._note(error)
            raise

    def submit(self, route: Route, request: Request) -> None:
        """As `Coalescer.submit`, with the weight of the caller's plan."""
        try:
            self._coalescer(route, request).submit(route, request)
        except PlatformError as error:
            self._note(error)
            raise

    @property
    def are_refusing(self) -> bool:
        """Whether somebody was refused a place in a queue within the last second."""
        return time.monotonic() < self._refusing_until

    def _note(self, error: PlatformError) -> None:
        if error.code == "overloaded":
            self._refusing_until = time.monotonic() + _REFUSING_S

    def _coalescer(self, route: Route, request: Request) -> Coalescer:
        request.weight = self._weight_of(request.principal)
        coalescer = self._by_deployment.get(route.deployment)
        if coalescer is None:
            coalescer = self._by_deployment[route.deployment] = Coalescer(
                self._call, self._settings, source=self._source, alarm=self._alarm
            )
        return coalescer

    def refusal(
        self, routes: Sequence[Route], principal: Principal, *, size: int, left_s: float
    ) -> tuple[Route, PlatformError] | None:
        """Why a request of so many bytes cannot join the queue of any of the deployments that may take it.

        None if some of them has room. The refusal is that of the first.
        """
        weight = self._weight_of(principal)
        refusals = []
        for route in routes:
            coalescer = self._by_deployment.get(route.deployment)
            if coalescer is None:
                return None
            queued = coalescer.refusal(route, principal.org, weight, size, left_s)
            if queued is None:
                return None
            refusals.append((route, coalescer, queued))
        if not refusals:
            return None
        route, coalescer, queued = refusals[0]
        error = coalescer.refuse(queued)
        self._note(error)
        return route, error

    def _weight_of(self, principal: Principal) -> float:
        plan = self._plans.get(principal.plan)
        return plan.weight if plan is not None else 1.0

    @property
    def waiting(self) -> int:
        """Requests in all queues."""
        return sum(coalescer.waiting for coalescer in self._by_deployment.values())

    def queues(self) -> list[tuple[Served, int]]:
        """How many requests wait for each deployment that was called."""
        return [
            (coalescer.served, coalescer.waiting)
            for coalescer in self._by_deployment.values()
            if coalescer.served is not None
        ]

    async def renewed(self, live: Mapping[str, str]) -> None:
        """The deployments there are now, each with its application.

        Those that are not among them are deleted, and what waited for them fails; what waits for one that has another
        application now goes there.
        """
        gone = [self._by_deployment.pop(name) for name in self._by_deployment.keys() - live.keys()]
        for deployment, coalescer in self._by_deployment.items():
            coalescer.move(live[deployment])
        await asyncio.gather(*(coalescer.close() for coalescer in gone))
        await self._call.forget(frozenset(live.values()))

    async def close(self) -> None:
        """Fail what waits, end what runs."""
        await self.renewed({})
