"""`client.metrics`."""

from __future__ import annotations

from typing import Literal

from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import get, path_of
from fyretoolkit.schemas.metrics import MetricsResource


class AsyncMetrics:
    """What deployments did."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(
        self, deployment_id: str, *, period: Literal["5m", "1h", "24h", "7d"] | None = None
    ) -> MetricsResource:
        """Requests, latency, errors and throughput, at most two seconds old; of the last hour unless `period` says."""
        call = get(path_of("metrics", deployment_id), period=period)
        return await self._transport.fetch(call, MetricsResource)
