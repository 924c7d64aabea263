"""Links to results: what a token opens, and that nothing else does."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.downloads import DownloadKind, expiry_of, granted_organization, sign_download

SECRET = bytes(range(32))
JOB = "job_01M82FPZ3M4V5N6P7Q8R9S0T1V"
EXPIRES = 2_000_000_000
TOKEN = sign_download("org_a", JOB, DownloadKind.OUTPUT, expires=EXPIRES, secret=SECRET)


def granted(token: str, job_id: str = JOB, kind: DownloadKind = DownloadKind.OUTPUT) -> str | None:
    """The organization, one second before the end."""
    return granted_organization(token, job_id, kind, now=EXPIRES - 1, secret=SECRET)


def test_a_token_is_the_payload_and_its_hmac():
    """Worked out with the standard library's own parts."""
    payload = f"org_a {JOB} output {EXPIRES}".encode()
    signature = hmac.new(SECRET, payload, hashlib.sha256).digest()
    expected = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (payload, signature)]
    assert ".".join(expected) == TOKEN


@given(org=st.from_regex(r"org_[0-9A-Z]{1,26}", fullmatch=True), kind=st.sampled_from(DownloadKind))
def test_a_token_opens_what_it_was_made_for(org: str, kind: DownloadKind):
    """And says whose it is."""
    token = sign_download(org, JOB, kind, expires=EXPIRES, secret=SECRET)
    assert granted(token, kind=kind) == org


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 7))
def test_any_bit_flipped_is_refused(position: int, bit: int):
    """Those that base64 does not read included: the last characters of both parts have some."""
    changed = bytearray(TOKEN.encode())
    changed[position] ^= 1 << bit
    assert granted(changed.decode("latin-1")) is None


@given(st.text() | st.binary().map(lambda content: base64.urlsafe_b64encode(content).decode()))
def test_no_other_text_opens_anything(text: str):
    """And none of it raises."""
    for token in (text, f"{text}.{text}", f"{TOKEN}{text or '.'}", f"{text}.{TOKEN.partition('.')[2]}"):
        assert granted(token) is None


def test_it_opens_nothing_else():
    """Another job, the other file, another secret."""
    assert granted(TOKEN) == "org_a"
    assert granted(TOKEN, job_id=JOB[:-1] + "W") is None
    assert granted(TOKEN, kind=DownloadKind.ERRORS) is None
    assert granted_organization(TOKEN, JOB, DownloadKind.OUTPUT, now=0, secret=bytes(32)) is None


@pytest.mark.parametrize(("now", "is_open"), [(0, True), (EXPIRES - 0.001, True), (EXPIRES, False)])
def test_it_expires(now: float, is_open: bool):
    """At its second, not after it."""
    org = granted_organization(TOKEN, JOB, DownloadKind.OUTPUT, now=now, secret=SECRET)
    assert (org is not None) == is_open


@given(ttl_s=st.integers(1, 10**7), now_ms=st.integers(0, 4 * 10**12))
def test_links_live_as_long_as_configured_and_hardly_longer(ttl_s: int, now_ms: int):
    """At least the whole time, at most 1/60 of it (or a second) more."""
    now = now_ms / 1000
    assert ttl_s <= expiry_of(ttl_s, now=now) - now <= ttl_s + max(1, ttl_s / 60)


def test_links_of_the_same_minute_are_equal():
    """With an hour to live: from 12:00:00.1 to 12:01:00 all expire at 13:01:00."""
    noon = 43_200
    assert {expiry_of(3600, now=noon + seconds) for seconds in (0.1, 30, 60)} == {noon + 3660}
    assert expiry_of(3600, now=noon + 60.1) == noon + 3720
