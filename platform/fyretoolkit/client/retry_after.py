"""`Retry-After`, as a number of seconds or as a date (RFC 9110, 10.2.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

_MAX_DIGITS = 9


def read_retry_after(header: str | None, *, now: float) -> float | None:
    """The seconds that it asks for, at the Unix time `now`; None for anything else than a number or a date."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_MAX_DIGITS])
    try:
        date = parsedate_to_datetime(text)
        then = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, then - now)
