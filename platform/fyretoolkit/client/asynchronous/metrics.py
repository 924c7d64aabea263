"""`client.metrics`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import get, path_of
from fyretoolkit.schemas.metrics import MetricsResource

Period: TypeAlias = Literal["5m", "1h", "24h", "7d"]


class AsyncMetrics:
    """What deployments did."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, deployment_id: str, *, period: Period | None = None) -> MetricsResource:
        """Requests, latency, errors and throughput, at most two seconds old; of the last hour unless `period` says."""
        call = get(path_of("metrics", deployment_id), period=period)
        return await self._transport.fetch(call, MetricsResource)
