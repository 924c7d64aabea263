"""Webhooks on the side that receives them: verified as Standard Webhooks are, then read as a typed event."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook
from standardwebhooks.webhooks import WebhookVerificationError as _NotSigned

from fyretoolkit.client.errors import ConfigurationError, UnexpectedResponseError, WebhookVerificationError
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.schemas.deployments import FailureBody
from fyretoolkit.schemas.jobs import Progress

_ID = "webhook-id"


class EventJob(BaseModel):
    """The job that ended, as `client.jobs.get` shows it. What would have made the event too long is None."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    id: str
    status: JobStatus
    model: str
    progress: Progress
    output_url: str | None
    errors_url: str | None
    error: FailureBody | None
    partial: bool
    input_url: str | None = None
    webhook: str | None = None
    metadata: dict[str, object] | None = None
    retry_of: str | None = None


class _Body(BaseModel):
    type: Literal["batch.completed", "batch.failed", "batch.canceled"]
    timestamp: str
    data: EventJob


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A job ended."""

    id: str
    """The same at every attempt: an event whose id was seen is a repetition."""
    type: Literal["batch.completed", "batch.failed", "batch.canceled"]
    timestamp: str
    """When the job ended: ISO 8601, UTC."""
    job: EventJob


def unwrap(body: bytes | str, headers: Mapping[str, str], secret: str) -> WebhookEvent:
    """The event in a webhook that was received, if it was signed with this secret within the last five minutes.

    Raises:
        WebhookVerificationError: it was not. ConfigurationError: the secret is none.
        UnexpectedResponseError: it was, but this client does not know such an event.
    """
    try:
        webhook = Webhook(secret)
    except (EmptyWebhookSecretError, binascii.Error, ValueError) as error:
        raise ConfigurationError("The webhook secret is not one: it begins with whsec_.") from error
    named = {name.lower(): value for name, value in headers.items()}
    try:
        webhook.verify(body, named, json_parse=False)
    except (_NotSigned, ValueError) as error:  # ValueError: headers or a body in another form
        raise WebhookVerificationError(f"This webhook is not to be trusted: {error}.") from error
    try:
        event = _Body.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        raise UnexpectedResponseError(
            "This client does not know such an event: update fyretoolkit."
        ) from error
    return WebhookEvent(named[_ID], event.type, event.timestamp, event.data)
