# Generated from ../asynchronous/metrics.py by scripts/describe: change that one.
"""`client.metrics`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fyretoolkit.client.calls import get, path_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.metrics import MetricsResource

Period: TypeAlias = Literal["5m", "1h", "24h", "7d"]


class Metrics:
    """What deployments did."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, deployment_id: str, *, period: Period | None = None) -> MetricsResource:
        """Requests, latency, errors and throughput, at most two seconds old; of the last hour unless `period` says."""
        call = get(path_of("metrics", deployment_id), period=period)
        return self._transport.fetch(call, MetricsResource)
