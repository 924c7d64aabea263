"""When a webhook is attempted again, and what an answer means; the times by hand."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from fyretoolkit.core.lifecycles import DeliveryStatus
from fyretoolkit.core.webhooks import (
    Attempt,
    EarlierSecret,
    EndReason,
    Schedule,
    Verdict,
    WebhookSecret,
    decide,
    iso_time,
    new_secret,
    read_retry_after,
)
from fyretoolkit.sections import WebhookSettings
from tests.support.sentences import sentence

CONFIGURED = WebhookSettings()
SCHEDULE = Schedule(CONFIGURED.pauses_s, CONFIGURED.jitter, CONFIGURED.max_retry_after_s)
REFUSED = Attempt(at=100.0, duration_ms=20, status_code=500)
MINUTE, HOUR = 60, 3600


@sentence("webhooks-5")
def test_the_schedule_is_that_of_the_contract() -> None:
    """Ten attempts: at once, then after these pauses, each up to a tenth longer; then it is over."""
    expected = [5, 5 * MINUTE, 30 * MINUTE, *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24))]
    verdicts = [decide(made, REFUSED, SCHEDULE, chance=0.0) for made in range(1, 11)]
    assert [verdict.pause_s for verdict in verdicts] == [*expected, None]
    assert {verdict.status for verdict in verdicts[:-1]} == {DeliveryStatus.PENDING}
    assert verdicts[-1] == Verdict(DeliveryStatus.EXHAUSTED, EndReason.SCHEDULE_ENDED)
    latest = [decide(made, REFUSED, SCHEDULE, chance=1.0).pause_s for made in range(1, 10)]
    assert latest == pytest.approx([1.1 * pause for pause in expected])


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    """On any attempt, the last one too."""
    for made in (1, 10):
        answer = replace(REFUSED, status_code=status)
        assert decide(made, answer, SCHEDULE, chance=0.5) == Verdict(DeliveryStatus.DELIVERED)


@pytest.mark.parametrize("status", [None, 100, 199, 300, 302, 307, 400, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int | None) -> None:
    """A redirect, a client's error, no answer."""
    verdict = decide(1, replace(REFUSED, status_code=status), SCHEDULE, chance=0.0)
    assert verdict == Verdict(DeliveryStatus.PENDING, pause_s=5)


@sentence("webhooks-4")
def test_410_stops_at_once() -> None:
    """Whatever it asks for."""
    gone = replace(REFUSED, status_code=410, retry_after_s=5)
    assert decide(1, gone, SCHEDULE, chance=0.0) == Verdict(DeliveryStatus.EXHAUSTED, EndReason.GONE)


@pytest.mark.parametrize(
    ("made", "asked_s", "pause_s"),
    [(1, 0.0, 5), (1, 4.0, 5), (1, 90.0, 90), (2, 90.0, 300), (1, 1e9, 86_400), (9, 1e9, 86_400)],
)
@sentence("webhooks-4")
def test_retry_after_makes_a_pause_longer_and_never_shorter(
    made: int, asked_s: float, pause_s: float
) -> None:
    """At most a day; and no attempt beyond the schedule comes of it."""
    busy = replace(REFUSED, status_code=429, retry_after_s=asked_s)
    assert decide(made, busy, SCHEDULE, chance=0.0).pause_s == pause_s
    assert decide(10, busy, SCHEDULE, chance=0.0).status is DeliveryStatus.EXHAUSTED


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 1e9),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 7.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    """As seconds or as a date (RFC 9110, whose own example this is); nothing else is anything."""
    assert read_retry_after(header, now=784111770.0) == seconds


def test_a_secret_is_one_of_standard_webhooks() -> None:
    """`whsec_` and base64 of 24 to 64 random bytes; none like another; not in a repr."""
    made = {new_secret() for _ in range(50)}
    assert len(made) == 50
    for secret in made:
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    secret = made.pop()
    assert secret not in repr(WebhookSecret(secret, 1, (EarlierSecret(secret, 1, 2),)))


def test_earlier_secrets_sign_until_they_expire() -> None:
    """The newest first."""
    secret = WebhookSecret("c", 30, (EarlierSecret("b", 20, 100), EarlierSecret("a", 10, 50)))
    assert secret.signing(49) == ("c", "b", "a")
    assert secret.signing(50) == ("c", "b")
    assert secret.signing(100) == ("c",)


def test_times_are_iso_8601() -> None:
    assert iso_time(784111777) == "1994-11-06T08:49:37Z"
