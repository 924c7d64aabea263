"""Webhooks as they are received: verified, then typed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from fyretoolkit.client.errors import ConfigurationError, UnexpectedResponseError, WebhookVerificationError
from fyretoolkit.client.webhooks import unwrap
from fyretoolkit.core.lifecycles import DeliveryStatus, JobStatus
from fyretoolkit.core.webhooks import Delivery, new_secret
from fyretoolkit.schemas.deliveries import WebhookEvent
from fyretoolkit.schemas.jobs import JobResource, Progress

_SECRET = new_secret()


def _body(**changes: Any) -> bytes:
    """As the platform writes it."""
    job = JobResource(
        id="job_1",
        status=JobStatus.COMPLETED,
        model="m",
        created=1,
        started=2,
        finished=3,
        input_url="https://data.example/x.csv",
        output_format="jsonl",
        progress=Progress(processed=3, total=3, succeeded=2, failed=1),
        queue_position=None,
        expires_at=9,
        retry_of=None,
        output_url="https://api.example/out",
        errors_url="https://api.example/err",
        error=None,
        partial=False,
        webhook="https://hooks.example",
        metadata={"team": "a"},
    )
    delivery = Delivery(
        id="msg_1",
        org="org_1",
        job=job.id,
        type="batch.completed",
        url="https://hooks.example",
        status=DeliveryStatus.PENDING,
        created=1_800_000_000,
    )
    event = json.loads(WebhookEvent.of(delivery, job).to_json())
    event["data"].update(changes.pop("data", {}))
    return json.dumps({**event, **changes}).encode()


def _headers(body: bytes, *, secret: str = _SECRET, age_s: float = 0) -> dict[str, str]:
    at = datetime.fromtimestamp(int(time.time() - age_s), UTC)
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("msg_1", at, body.decode()),
    }


def test_a_signed_webhook_is_a_typed_event() -> None:
    """Whatever the case of its headers, and with fields that this client does not know."""
    body = _body(data={"colour": "red"}, region="us")
    event = unwrap(body, _headers(body), _SECRET)
    assert (event.id, event.type, event.timestamp) == ("msg_1", "batch.completed", "2027-01-15T08:00:00Z")
    assert (event.job.id, event.job.status, event.job.progress.failed) == ("job_1", JobStatus.COMPLETED, 1)
    assert event.job.metadata == {"team": "a"}


def test_what_was_too_long_for_the_event_is_none() -> None:
    body = _body(data={"input_url": None, "metadata": None, "webhook": None})
    assert unwrap(body, _headers(body), _SECRET).job.input_url is None


def test_while_a_secret_is_rotated_either_signature_will_do() -> None:
    body, new = _body(), new_secret()
    headers = _headers(body, secret=new)
    headers["Webhook-Signature"] += " " + _headers(body)["Webhook-Signature"]
    assert unwrap(body, headers, _SECRET).id == unwrap(body, headers, new).id == "msg_1"


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Signature": "v1,AAAA"},
        {"Webhook-Signature": "v1"},
        {"Webhook-Signature": "v1,not base64"},
        {"Webhook-Signature": "v2,AAAA"},
        {"Webhook-Signature": ""},
        {"Webhook-Id": "msg_2"},
        {"Webhook-Timestamp": "yesterday"},
        {"Webhook-Timestamp": "1"},
        {"Webhook-Timestamp": "nan"},
    ],
)
def test_whatever_is_wrong_with_it_is_one_error(change: dict[str, str]) -> None:
    body = _body()
    with pytest.raises(WebhookVerificationError):
        unwrap(body, {**_headers(body), **change}, _SECRET)


def test_a_changed_an_old_and_a_foreign_body_are_not_trusted() -> None:
    body = _body()
    for sent, headers in (
        (body + b" ", _headers(body)),
        (body, _headers(body, age_s=400)),
        (body, _headers(body, secret=new_secret())),
        (body, {}),
        (b"\xff", _headers(body)),
    ):
        with pytest.raises(WebhookVerificationError):
            unwrap(sent, headers, _SECRET)


def test_an_event_of_another_kind_is_told_from_a_forged_one() -> None:
    body = _body(type="model.exploded")
    with pytest.raises(UnexpectedResponseError):
        unwrap(body, _headers(body), _SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!"])
def test_a_secret_that_is_none_is_the_receivers_own_mistake(secret: str) -> None:
    with pytest.raises(ConfigurationError):
        unwrap(b"{}", {}, secret)
