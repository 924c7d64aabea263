"""Webhooks on the wire: their deliveries, the secret that signs them, and the event that a receiver gets."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field

from fyretoolkit.core.lifecycles import DeliveryStatus
from fyretoolkit.core.webhooks import MAX_BODY_BYTES, Attempt, Delivery, EndReason, WebhookSecret, iso_time
from fyretoolkit.schemas.api_keys import DEFAULT_OVERLAP_S, MAX_OVERLAP_S
from fyretoolkit.schemas.jobs import JobResource
from fyretoolkit.schemas.wire import RequestModel, Resource

_DISPENSABLE = ("metadata", "webhook", "input_url", "error")
"""What a caller chose and may be long; left out of an event that would be too large, one after another."""


class AttemptBody(Resource):
    """One request to the receiver. `status_code` and `error`: one of them is null."""

    at: int
    """When it began, in Unix seconds."""
    duration_ms: int
    """How long it took."""
    status_code: int | None
    """What the receiver answered; null if it did not."""
    error: str | None
    """Why there was no answer; else null."""


class DeliveryResource(Resource):
    """One event for one receiver. Its id is the `webhook-id` of every attempt."""

    id: str
    """The delivery's id."""
    object: Literal["delivery"] = "delivery"
    """Always `delivery`."""
    job: str
    """The id of the job."""
    type: str
    """`batch.completed`, `batch.failed` or `batch.canceled`."""
    url: str
    """Where it goes."""
    status: DeliveryStatus
    """`pending`: there will be another attempt."""
    reason: EndReason | None
    """Why it is `exhausted`; else null."""
    created: int
    """When the job ended, in Unix seconds."""
    delivered_at: int | None
    """When the receiver took it last, in Unix seconds; null if it never did."""
    next_attempt_at: int | None
    """When the next attempt is due, in Unix seconds; null: at once, or there is none."""
    attempts: list[AttemptBody]
    """What was tried, oldest first; the newest 100."""

    @classmethod
    def from_record(cls, delivery: Delivery, attempts: Sequence[Attempt]) -> DeliveryResource:
        """The stored delivery as callers see it."""
        return cls(
            id=delivery.id,
            job=delivery.job,
            type=delivery.type,
            url=delivery.url,
            status=delivery.status,
            reason=delivery.reason,
            created=delivery.created,
            delivered_at=delivery.delivered_at,
            next_attempt_at=None if delivery.next_at is None else ceil(delivery.next_at),
            attempts=[
                AttemptBody(
                    at=int(each.at),
                    duration_ms=each.duration_ms,
                    status_code=each.status_code,
                    error=each.error,
                )
                for each in attempts
            ],
        )


class ReplacedSecret(Resource):
    """A secret that was replaced and still signs."""

    created: int
    """When it was made, in Unix seconds."""
    expires_at: int
    """When it stops signing, in Unix seconds."""


class WebhookSecretResource(Resource):
    """What the organization's webhooks are signed with."""

    object: Literal["webhook_secret"] = "webhook_secret"
    """Always `webhook_secret`."""
    secret: Annotated[str, Field(repr=False)]
    """The newest secret, as the libraries of Standard Webhooks take it."""
    created: int
    """When it was made, in Unix seconds."""
    replaced: list[ReplacedSecret]
    """Earlier ones that still sign beside it, newest first."""

    @classmethod
    def from_record(cls, secret: WebhookSecret, *, now: float) -> WebhookSecretResource:
        """The secret at the Unix time `now`."""
        earlier = [each for each in secret.earlier if each.expires_at > now]
        return cls(
            secret=secret.secret,
            created=secret.created,
            replaced=[ReplacedSecret(created=each.created, expires_at=each.expires_at) for each in earlier],
        )


class WebhookSecretRotate(RequestModel):
    """The body of `POST /webhook_secret/rotate`."""

    overlap_s: Annotated[
        int,
        Field(ge=0, le=MAX_OVERLAP_S, description="How long the old secret goes on signing beside the new."),
    ] = DEFAULT_OVERLAP_S


class WebhookEvent(Resource):
    """The body that a receiver gets."""

    type: str
    """`batch.completed`, `batch.failed` or `batch.canceled`."""
    timestamp: str
    """When the job ended: ISO 8601, UTC."""
    data: dict[str, Any]
    """The job as `GET /jobs/{id}` shows it."""

    @classmethod
    def of(cls, delivery: Delivery, job: JobResource) -> WebhookEvent:
        """The event of a job that ended; what is too long for it is null, and `GET /jobs/{id}` shows it."""
        event = cls(
            type=delivery.type, timestamp=iso_time(delivery.created), data=job.model_dump(mode="json")
        )
        for name in _DISPENSABLE:
            if len(event.to_json().encode("utf-8")) <= MAX_BODY_BYTES:
                break
            event.data[name] = None
        return event
