"""Webhooks: the record of a delivery, what an answer to an attempt means, when the next one is, and the secrets.

A delivery is one event for one receiver; its id is the `webhook-id` of every attempt, so that a receiver can tell a
repetition. What is decided here is pure: the chance in the pauses is passed in. Rejected: a delivery that stops at any
4xx, as some senders do; a receiver that is deployed wrongly for an hour answers 404 and then wants its events.
Sources: Standard Webhooks 1.0.0 (schedule, 410, secrets); RFC 9110, 10.2.3 (Retry-After).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from fyretoolkit.core.lifecycles import DeliveryStatus

PREFIX = "msg"
MAX_BODY_BYTES = 20_000
"""Of what is sent: receivers may refuse more (Standard Webhooks, "Payload size")."""
MAX_ATTEMPTS_KEPT = 100
"""In the log of one delivery: a delivery that is sent again and again by hand keeps the newest."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
_SECRET_BYTES = 32
_GONE = 410
_MAX_DIGITS = 9


class EndReason(StrEnum):
    """Why nothing more is attempted."""

    GONE = "gone"
    """The receiver answered 410: it wants this no more."""
    SCHEDULE_ENDED = "schedule_ended"
    """Every attempt of the schedule failed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A stored delivery. Times are Unix seconds."""

    id: str
    org: str
    job: str
    type: str
    """`batch.completed`, `batch.failed` or `batch.canceled`."""
    url: str
    status: DeliveryStatus
    created: int
    attempts: int = 0
    """Those of the schedule that is under way; sending it again by hand begins anew."""
    reason: EndReason | None = None
    """Why it is exhausted; else None."""
    next_at: float | None = None
    """When the next attempt is due; None: at once, or there is none."""
    delivered_at: int | None = None
    """When the receiver took it last."""
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a receiver, and what came of it: an HTTP status, or why there is none."""

    at: float
    """When it began (Unix seconds)."""
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    retry_after_s: float | None = field(default=None, compare=False)
    """How long the receiver asked to be left alone."""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it: 2xx and nothing else. A redirect is a failure."""
        return self.status_code is not None and 200 <= self.status_code < 300


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a delivery is attempted."""

    pauses_s: Sequence[float]
    """Before each attempt but the first, which is made at once; from the end of the attempt before."""
    jitter: float
    """Each pause is longer by up to this share of it."""
    max_retry_after_s: float
    """A receiver is not left alone for longer, whatever it asks for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows an attempt. `pause_s` is there where another one does."""

    status: DeliveryStatus
    reason: EndReason | None = None
    pause_s: float | None = None


def decide(attempts: int, attempt: Attempt, schedule: Schedule, *, chance: float) -> Verdict:
    """What the last of `attempts` attempts leads to; `chance` is uniform in [0, 1).

    A `Retry-After` makes a pause longer and never shorter: a receiver that is down and says 1 s each time would
    otherwise use up the schedule within seconds.
    """
    if attempt.is_delivered:
        return Verdict(DeliveryStatus.DELIVERED)
    if attempt.status_code == _GONE:
        return Verdict(DeliveryStatus.EXHAUSTED, EndReason.GONE)
    if attempts > len(schedule.pauses_s):
        return Verdict(DeliveryStatus.EXHAUSTED, EndReason.SCHEDULE_ENDED)
    asked_s = min(attempt.retry_after_s or 0.0, schedule.max_retry_after_s)
    pause_s = max(schedule.pauses_s[attempts - 1], asked_s)
    return Verdict(DeliveryStatus.PENDING, pause_s=pause_s * (1 + schedule.jitter * chance))


def read_retry_after(header: str | None, *, now: float) -> float | None:
    """The seconds that a `Retry-After` asks for, as a number or as a date; None for anything else."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_MAX_DIGITS]) if len(text) <= _MAX_DIGITS else float(10**_MAX_DIGITS)
    try:
        date = parsedate_to_datetime(text)
        then = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, then - now)


def iso_time(unix_s: int) -> str:
    """A time as the body of a webhook has it: ISO 8601 in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_secret() -> str:
    """A new signing secret: 32 random bytes in base64 behind `whsec_`."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")


@dataclass(frozen=True, slots=True)
class EarlierSecret:
    """A secret that was replaced and still signs, beside the newer ones, until it expires."""

    secret: str = field(repr=False)
    created: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """What an organization's webhooks are signed with."""

    secret: str = field(repr=False)
    created: int
    earlier: tuple[EarlierSecret, ...] = ()
    """Newest first."""

    def signing(self, now: float) -> tuple[str, ...]:
        """The secrets that sign at the Unix time `now`, the newest first."""
        return (self.secret, *(each.secret for each in self.earlier if each.expires_at > now))
