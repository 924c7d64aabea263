"""`/metrics`: what a deployment did, read from the buckets that every ingress replica adds to."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from fyretoolkit.api.dependencies import Parts, Reader
from fyretoolkit.api.openapi import failures
from fyretoolkit.core.deployments import PREFIX
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.schemas.metrics import MetricsQuery, MetricsResource

router = APIRouter(tags=["Metrics"])


@router.get("/metrics/{deployment_id}", summary="Get metrics", responses=failures("deployment_not_found"))
async def get_metrics(
    deployment_id: str, principal: Reader, services: Parts, query: Annotated[MetricsQuery, Query()]
) -> MetricsResource:
    """Requests, latency, errors and throughput, at most two seconds old.

    Those of the public models can be read by everyone, and those of a deleted deployment for a day after its deletion.
    """
    for org in (principal.org, PUBLIC_ORG):
        if is_id(deployment_id, PREFIX) and await services.deployments.get(org, deployment_id) is not None:
            window = await services.metrics.window(query.period)
            tallies = await services.metrics.read(org, deployment_id, window)
            return await asyncio.to_thread(
                MetricsResource.of, deployment_id, query.period, window=window, tallies=tallies
            )
    raise PlatformError("deployment_not_found")
