"""Links that need no key: the token in the URL of a job's results, signed and checked.

A token is base64url(payload) `.` base64url(HMAC-SHA256 of the payload); the payload names the organization, the job,
which of its files, and when the link expires. Rejected: a JWT, which brings a header that chooses the algorithm; a
random token in Redis, which is a write for each answer that shows a link. Sources: RFC 2104; RFC 4648, 5.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from enum import StrEnum


class DownloadKind(StrEnum):
    """Which of a job's two files."""

    OUTPUT = "output"
    """The results."""
    ERRORS = "errors"
    """The rows that failed."""


_STEPS = 60


def expiry_of(ttl_s: int, *, now: float) -> int:
    """When a link made now expires: after `ttl_s` and at most 1/60 more.

    Rounded up, so that links made shortly after one another are equal: an answer given again repeats them.
    """
    step = max(1, ttl_s // _STEPS)
    return math.ceil((now + ttl_s) / step) * step


def sign_download(org: str, job_id: str, kind: DownloadKind, *, expires: int, secret: bytes) -> str:
    """The token that opens one file of one job until `expires` (Unix seconds)."""
    return _signed(f"{org} {job_id} {kind} {expires}".encode(), secret)


def signed_links(
    org: str, job_id: str, *, base_url: str, expires: int, secret: bytes
) -> dict[DownloadKind, str]:
    """The URLs of both files of a job, at an API whose address is `base_url`."""

    def link(kind: DownloadKind) -> str:
        token = sign_download(org, job_id, kind, expires=expires, secret=secret)
        return f"{base_url}/jobs/{job_id}/{kind}?token={token}"

    return {kind: link(kind) for kind in DownloadKind}


def granted_organization(
    token: str, job_id: str, kind: DownloadKind, *, now: float, secret: bytes
) -> str | None:
    """The organization whose file the token opens; None if it does not open this file now.

    The token is compared whole with one made anew from its payload, in constant time, so that another spelling of the
    same bytes (base64 has some) is refused as well.
    """
    payload = _decoded(token.partition(".")[0])
    if not token.isascii() or not hmac.compare_digest(_signed(payload, secret), token):
        return None
    org, *names, expires = payload.decode().split(" ")
    return org if names == [job_id, kind] and now < int(expires) else None


def _signed(payload: bytes, secret: bytes) -> str:
    return f"{_encoded(payload)}.{_encoded(hmac.digest(secret, payload, hashlib.sha256))}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """The bytes that the text may stand for; none if it cannot stand for any."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
