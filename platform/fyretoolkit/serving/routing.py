"""The routing table: which deployment of a model takes the next prediction.

A snapshot of all deployments in memory, so that a prediction asks Redis nothing. It is renewed by a message on the
changes channel and, since messages may be lost, by looking at a version counter every second. The rejected
alternative, a lookup in Redis for each request with a short cache, is slower and as stale.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from redis.asyncio.client import PubSub

from fyretoolkit.core.batching import Batching
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.models.codec import Codec
from fyretoolkit.serving.codecs import CodecCache
from fyretoolkit.serving.unready import not_ready
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.models import ModelStore

POLL_S = 1.0
_ROUTABLE = (DeploymentStatus.READY, DeploymentStatus.DEGRADED)
_SERVING = (DeploymentStatus.PROVISIONING, *_ROUTABLE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """One way to an answer."""

    deployment: str
    org: str
    model: str
    region: str
    traffic: int
    artifact: str
    codec: Codec
    max_batch_size: int
    """Rows of one inference."""
    replicas: int
    """How many run, as last observed."""
    rows_per_s: float | None = None
    """What one of them does at that batch size, as measured at its warm-up."""
    is_degraded: bool = False
    standby: str | None = None
    """The Serve application, where it does not have the deployment's name."""

    incumbent: Route | None = None
    """Who answers what this one fails at: it has more of the model's traffic. None: this is the one that has most."""

    @property
    def application(self) -> str:
        """The Serve application whose replicas answer."""
        return self.standby or self.deployment


def with_incumbent(routes: Sequence[Route]) -> list[Route]:
    """The deployments of one model, each canary knowing the incumbent.

    That is the ready one with the most traffic, of equals the oldest. Canaries are those that have less of it, and
    those of other content; the rest are its equals, in another region for example.
    """
    ready = [route for route in routes if route.traffic > 0 and not route.is_degraded]
    if len(ready) < 2:
        return list(routes)
    incumbent = min(ready, key=lambda route: (-route.traffic, route.deployment))

    def is_canary(route: Route) -> bool:
        return route.traffic < incumbent.traffic or route.artifact != incumbent.artifact

    return [replace(route, incumbent=incumbent) if is_canary(route) else route for route in routes]


def pick(routes: Sequence[Route], region: str | None, draw: float) -> Route | None:
    """The route for a draw from [0, 1), by traffic weight.

    Ready ones come before degraded ones, then those in the wished region before others; None if none takes traffic.
    """
    if len(routes) <= 1:
        return routes[0] if routes and routes[0].traffic > 0 else None
    candidates = [route for route in routes if route.traffic > 0]
    candidates = [route for route in candidates if not route.is_degraded] or candidates
    candidates = [route for route in candidates if route.region == region] or candidates
    left = draw * sum(route.traffic for route in candidates)
    for route in candidates:
        left -= route.traffic
        if left < 0:
            return route
    return candidates[-1] if candidates else None


class RoutingTable:
    """The snapshot and its renewal. Belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        deployments: DeploymentStore,
        models: ModelStore,
        codecs: CodecCache,
        *,
        on_renewed: Callable[[Mapping[str, str]], Awaitable[None]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`on_renewed` learns all live deployments, those that drain included, each with its application."""
        self._store = store
        self._deployments = deployments
        self._models = models
        self._codecs = codecs
        self._on_renewed = on_renewed
        self._draw = draw
        self._lock = asyncio.Lock()
        self._version: int | None = None
        self._is_incomplete = False
        """Whether something could not be read that may be there at the next look."""
        self._routes: Mapping[tuple[str, str], Sequence[Route]] = {}
        self._live: Mapping[tuple[str, str], Sequence[Deployment]] = {}

    async def route(self, org: str, model_id: str, region: str | None = None) -> Route:
        """As `known`; if that is none, after a look at what changed.

        Raises:
            PlatformError: `model_not_found`, or `model_not_ready` with the states of the model's deployments.
        """
        found = self.known(org, model_id, region)
        if found is None:
            await self.refresh_if_changed()
            found = self.known(org, model_id, region)  # even if unchanged: another task may just have read it
        if found is None:
            raise await self._why_not(org, model_id)
        return found

    def known(self, org: str, model_id: str, region: str | None = None) -> Route | None:
        """The deployment for the next prediction, as far as the snapshot tells.

        The organization's own, else, if none takes traffic, a public one.
        """
        draw = self._draw()
        own = self._routes.get((org, model_id))
        return (own and pick(own, region, draw)) or pick(self._public_routes(org, model_id), region, draw)

    def current(self, route: Route) -> Route:
        """The same deployment as the snapshot has it by now; as given, if it is not there any more."""
        found = [
            each
            for each in self._routes.get((route.org, route.model), ())
            if each.deployment == route.deployment
        ]
        return found[0] if found else route

    def candidates(self, org: str, model_id: str) -> Sequence[Route]:
        """Every deployment that may take a prediction of this organization for this model, in whatever region."""
        own = [route for route in self._routes.get((org, model_id), ()) if route.traffic > 0]
        return own or [route for route in self._public_routes(org, model_id) if route.traffic > 0]

    def deployments_of(self, org: str, model_id: str) -> Sequence[Deployment]:
        """The deployments of the model that were not deleted: the organization's own, then the public ones."""
        return [each for owner in (org, PUBLIC_ORG) for each in self._live.get((owner, model_id), ())]

    def serving(self, org: str, model_id: str) -> Sequence[Deployment]:
        """Those that answer, or will answer, this organization's predictions: none that failed or drains.

        The public ones are among them as long as no own one takes traffic.
        """
        serving = [each for each in self.deployments_of(org, model_id) if each.status in _SERVING]
        taking = pick(self._routes.get((org, model_id), ()), None, 0.0)
        return serving if taking is None else [each for each in serving if each.org == org]

    async def refresh(self) -> None:
        """Read the table anew.

        Raises:
            PlatformError: `unavailable`; the snapshot stays as it was.
        """
        async with self._lock:
            await self._load(await self._deployments.routes_version())

    async def refresh_if_changed(self) -> bool:
        """Read the table anew if any deployment changed since; whether one did."""
        async with self._lock:
            version = await self._deployments.routes_version()
            if version == self._version:
                return False
            await self._load(version)
            return True

    async def watch(self) -> None:
        """Keep the table fresh until cancelled. While Redis is away the last snapshot stays in use."""
        while True:
            try:
                async with self._store.subscribe() as changes:
                    while True:
                        await self.refresh_if_changed()
                        await _wait_for_change(changes)
            except Exception as error:  # noqa: BLE001 - whatever it is, predictions go on with the last snapshot
                logger.warning("The routing table cannot be renewed, trying again: %r", error)
            await asyncio.sleep(POLL_S)

    def _public_routes(self, org: str, model_id: str) -> Sequence[Route]:
        """Those that may stand in for the organization's own.

        No other model gets the id of a public one, but one may have had it before the public one came.
        """
        routes = self._routes.get((PUBLIC_ORG, model_id), ())
        live = self._live.get((org, model_id))
        own = {each.artifact for each in live or () if each.artifact is not None and each.version is None}
        return [route for route in routes if route.artifact in own] if own else routes

    async def _load(self, version: int) -> None:
        """`version` was read before the deployments are, so a change in between is seen at the next look."""
        self._is_incomplete = False
        live: dict[tuple[str, str], list[Deployment]] = {}
        routes: dict[tuple[str, str], list[Route]] = {}
        for deployment in await self._deployments.live():
            key = deployment.org, deployment.model
            live.setdefault(key, []).append(deployment)
            if deployment.status in _ROUTABLE and (route := await self._route_to(deployment)):
                routes.setdefault(key, []).append(route)
        self._codecs.keep_only({route.artifact for group in routes.values() for route in group})
        shared = {key: with_incumbent(group) for key, group in routes.items()}
        self._live, self._routes = live, shared
        self._version = None if self._is_incomplete else version
        await self._on_renewed({each.id: each.application for group in live.values() for each in group})

    async def _route_to(self, deployment: Deployment) -> Route | None:
        """None, with a log line, for a deployment that this process cannot decode for: the others are unharmed."""
        if deployment.artifact is None or deployment.spec is None:
            logger.error("%s is %s without an artifact", deployment.id, deployment.status)
            return None
        try:
            codec = await self._codecs.get(deployment.artifact, deployment.spec)
        except Exception as error:
            logger.exception("%s has no usable codec", deployment.id)
            self._is_incomplete |= isinstance(error, PlatformError) and error.code == "unavailable"
            return None
        batching = Batching.from_json(deployment.batching) if deployment.batching else None
        return Route(
            deployment=deployment.id,
            org=deployment.org,
            model=deployment.model,
            region=deployment.region,
            traffic=deployment.traffic,
            artifact=deployment.artifact,
            codec=codec,
            max_batch_size=batching.max_batch_size if batching else codec.spec.max_batch_size,
            replicas=deployment.ready_replicas,
            rows_per_s=batching.rows_per_s.get(batching.max_batch_size) if batching else None,
            is_degraded=deployment.status is DeploymentStatus.DEGRADED,
            standby=deployment.standby,
        )

    async def _why_not(self, org: str, model_id: str) -> PlatformError:
        deployments = self.deployments_of(org, model_id)
        model = await self._models.get(org, model_id) if is_slug(model_id) else None
        if model is None and not deployments:
            return PlatformError("model_not_found")
        return not_ready(model_id, model, deployments)


async def _wait_for_change(changes: PubSub) -> None:
    """Until a message comes or `POLL_S` passed; messages that came meanwhile are taken along."""
    timeout = POLL_S
    while await changes.get_message(timeout=timeout) is not None:
        timeout = 0.0
