"""`/jobs/{id}/deliveries` and `/webhook_secret`: what became of a job's webhook, and what it is signed with.

The secret can be read again, unlike an API key: whoever verifies webhooks needs it at every deployment of their own,
and it opens nothing here.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from fyretoolkit.api.dependencies import Admin, Parts, Reader, Writer, json_body
from fyretoolkit.api.openapi import Responses, failures, request_body
from fyretoolkit.api.pages import check_cursor, fill_page
from fyretoolkit.api.services import Services
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.jobs import PREFIX as JOB_PREFIX
from fyretoolkit.core.webhooks import PREFIX, Delivery
from fyretoolkit.schemas.deliveries import DeliveryResource, WebhookSecretResource, WebhookSecretRotate
from fyretoolkit.schemas.pages import Page, PageQuery
from fyretoolkit.schemas.wire import EmptyRequest

DELIVERIES = "/jobs/{job_id}/deliveries"
SECRET = "/webhook_secret"  # noqa: S105 - a path
_NO_STORE: Responses = {
    200: {
        "headers": {
            "Cache-Control": {
                "description": "`no-store`: the answer holds a secret.",
                "schema": {"type": "string"},
            }
        }
    }
}

router = APIRouter(tags=["Webhooks"])


@router.get(DELIVERIES, summary="List the deliveries of a job", responses=failures("job_not_found"))
async def list_deliveries(
    job_id: str, principal: Reader, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[DeliveryResource]:
    """Newest first, each with what was tried. A job without a webhook, or that has not ended, has none."""
    check_cursor(query.starting_after, PREFIX)
    await _require_job(services, principal.org, job_id)

    async def fetch(limit: int, after: Delivery | None) -> list[Delivery]:
        cursor = after.id if after else query.starting_after
        return await services.deliveries.page(principal.org, job_id, limit, starting_after=cursor)

    found, has_more = await fill_page(fetch, query.limit)
    data = await asyncio.gather(*(_resource(services, each) for each in found))
    return Page[DeliveryResource](data=data, has_more=has_more)


@router.post(
    DELIVERIES + "/{delivery_id}/redeliver",
    summary="Send a delivery again",
    responses=failures("job_not_found", "delivery_not_found"),
    openapi_extra=request_body(EmptyRequest, is_optional=True),
)
async def redeliver(
    job_id: str,
    delivery_id: str,
    principal: Writer,
    services: Parts,
    _: Annotated[EmptyRequest, Depends(json_body(EmptyRequest, is_optional=True))],
) -> DeliveryResource:
    """At once, under the same id, and with the whole schedule before it; whether it was delivered or given up before.

    After an attempt that is under way there is another one.
    """
    await _require_job(services, principal.org, job_id)
    await _known_delivery(services, principal.org, job_id, delivery_id)
    if not await services.deliveries.redeliver(principal.org, delivery_id):
        raise PlatformError("delivery_not_found")
    return await _resource(services, await _known_delivery(services, principal.org, job_id, delivery_id))


@router.get(SECRET, summary="Get the webhook secret", responses=_NO_STORE)
async def get_webhook_secret(response: Response, principal: Admin, services: Parts) -> WebhookSecretResource:
    """The secret that the organization's webhooks are signed with; made when it is first asked for."""
    response.headers["Cache-Control"] = "no-store"
    secret = await services.webhook_secrets.get(principal.org)
    return WebhookSecretResource.from_record(secret, now=time.time())


@router.post(
    SECRET + "/rotate",
    summary="Rotate the webhook secret",
    responses=_NO_STORE,
    openapi_extra=request_body(WebhookSecretRotate, is_optional=True),
)
async def rotate_webhook_secret(
    response: Response,
    principal: Admin,
    services: Parts,
    body: Annotated[WebhookSecretRotate, Depends(json_body(WebhookSecretRotate, is_optional=True))],
) -> WebhookSecretResource:
    """A new secret. Each webhook is signed with the old one too until `overlap_s` is over; with 0, at once not more."""
    response.headers["Cache-Control"] = "no-store"
    secret = await services.webhook_secrets.rotate(principal.org, overlap_s=body.overlap_s)
    return WebhookSecretResource.from_record(secret, now=time.time())


async def _require_job(services: Services, org: str, job_id: str) -> None:
    if not is_id(job_id, JOB_PREFIX) or await services.jobs.get(org, job_id) is None:
        raise PlatformError("job_not_found")


async def _known_delivery(services: Services, org: str, job_id: str, delivery_id: str) -> Delivery:
    delivery = await services.deliveries.get(org, delivery_id) if is_id(delivery_id, PREFIX) else None
    if delivery is None or delivery.job != job_id:
        raise PlatformError("delivery_not_found")
    return delivery


async def _resource(services: Services, delivery: Delivery) -> DeliveryResource:
    attempts = await services.deliveries.attempts(delivery.org, delivery.id)
    return DeliveryResource.from_record(delivery, attempts)
