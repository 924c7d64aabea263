"""API keys as text and as records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.api_keys import (
    ApiKey,
    KeyStatus,
    in_order,
    key_digest,
    key_id_of,
    new_key,
    new_replacement,
)
from fyretoolkit.core.organizations import Scope


def test_a_key_names_its_record_and_the_record_does_not_hold_it() -> None:
    """The text finds the id; the record has its digest and last characters, and no more of the secret."""
    text, record = new_key("org_a", "ci", Scope, created=1)
    secret = text.removeprefix(f"sk_live_{record.id}_")
    assert key_id_of(text) == record.id
    assert record.digest == key_digest(text)
    assert record.masked == f"sk_live_{record.id}_****{secret[-4:]}"
    assert secret[:-4] not in str(record)


def test_the_demo_key_has_an_id_too() -> None:
    """Its id is no ULID."""
    assert key_id_of("sk_live_demo_12345") == "demo"


@given(st.text(max_size=80))
def test_only_what_looks_like_a_key_has_an_id(text: str) -> None:
    """An id of letters and digits: it becomes part of a Redis key."""
    for candidate in (text, f"sk_live_{text}", f"sk_live_{text}_{text}"):
        found = key_id_of(candidate)
        assert found is None or found.replace("_", "", 1).isalnum()
        assert found is None or found.isascii()


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "now", "status"),
    [
        (None, None, 10**12, KeyStatus.ACTIVE),
        (100, None, 99.9, KeyStatus.ACTIVE),
        (100, None, 100, KeyStatus.REVOKED),
        (None, 50, 49, KeyStatus.REVOKED),
        (100, 50, 60, KeyStatus.REVOKED),
    ],
)
def test_a_key_works_until_it_is_revoked_or_its_time_comes(
    expires_at: int | None, revoked_at: int | None, now: float, status: KeyStatus
) -> None:
    """By hand; a revocation holds whatever the clock of the reader says."""
    key = ApiKey("key_x", "org_a", "", (), "ci", 1, expires_at=expires_at, revoked_at=revoked_at)
    assert key.status(now) is status


def test_a_replacement_takes_over_all_but_the_secret() -> None:
    """Counted from its own creation, it lives as long as the first was made to."""
    _, old = new_key("org_a", "ci", [Scope.READ], created=100, lifetime_s=60)
    text, new = new_replacement(replace(old, expires_at=110, replaced_by="key_x"), created=105)
    expected = replace(old, id=new.id, digest=key_digest(text), hint=text[-4:], created=105, expires_at=165)
    assert new == expected
    assert new.id != old.id


def test_scopes_are_listed_once_in_the_order_of_their_declaration() -> None:
    """Whatever order they came in."""
    assert in_order([Scope.ADMIN, Scope.READ, Scope.ADMIN]) == (Scope.READ, Scope.ADMIN)
