"""Idempotency keys: the same request, sent again, gets the first answer again.

The answer is made before the object and stored with it by one script, so a crash leaves both or neither. The look-up
before that is not what makes it safe; it lets a repetition succeed although the request would be refused by now.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from fyretoolkit.api.requests import header_values
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import Principal
from fyretoolkit.schemas.errors import invalid_field
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import Creation, CreationOutcome, Idempotency

REPLAYED = "Idempotent-Replayed"
_MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's key and what it was sent with."""

    org: str
    operation: str
    key: str
    fingerprint: str

    def with_answer(self, answer: str) -> Idempotency:
        """What to store with the new object."""
        return Idempotency(self.org, self.operation, self.key, self.fingerprint, answer)


def claim_of(request: Request, principal: Principal, body: BaseModel) -> Claim | None:
    """The idempotency key of a request, from its body or header; None if it has none.

    Raises:
        PlatformError: `invalid_request`, the key is malformed, or body and header name different ones.
    """
    key = _chosen_key(request, getattr(body, "idempotency_key", None))
    if key is None:
        return None
    content = body.model_dump(mode="json", exclude={"idempotency_key"}, exclude_unset=True)
    fingerprint = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Claim(principal.org, _operation(request), key, fingerprint)


def claim_over(request: Request, principal: Principal, fingerprint: str) -> Claim | None:
    """The same for a request whose body is not JSON: its key is in the header, `fingerprint` is of what it sent.

    Raises:
        PlatformError: `invalid_request`, the key is malformed.
    """
    key = header_key(request)
    return Claim(principal.org, _operation(request), key, fingerprint) if key is not None else None


def header_key(request: Request) -> str | None:
    """The key in the header, None if there is none.

    Raises:
        PlatformError: `invalid_request`, it is malformed.
    """
    return _chosen_key(request, None)


async def find_replay(store: Store, claim: Claim | None) -> str | None:
    """The first answer, if this very request was answered before.

    Raises:
        PlatformError: `idempotency_key_reused`, `unavailable`.
    """
    if claim is None:
        return None
    stored = await store.read_hash(keys.idempotency(claim.org, claim.operation, claim.key))
    if not stored:
        return None
    if stored["fingerprint"] != claim.fingerprint:
        raise PlatformError("idempotency_key_reused")
    return stored["answer"]


def created(creation: Creation, answer: str, *, status: int, collection: str | None = None) -> Response:
    """The response to a creation: the new object, or the first answer again.

    `collection`: where the new object is; None if the request named it.
    """
    if creation.outcome is CreationOutcome.REPLAYED and creation.answer is not None:
        return replayed(creation.answer, status=status, collection=collection)
    return _response(answer, status, collection)


def replayed(answer: str, *, status: int, collection: str | None = None) -> Response:
    """The first answer again, marked as such."""
    response = _response(answer, status, collection)
    response.headers[REPLAYED] = "true"
    return response


def _response(answer: str, status: int, collection: str | None) -> Response:
    headers = {"Location": f"{collection}/{orjson.loads(answer)['id']}"} if collection else None
    return Response(answer, status, headers, media_type="application/json")


def _operation(request: Request) -> str:
    return f"{request.method} {request.scope['path']}"


def _text(value: bytes) -> str:
    """A header's value as its sender meant it: most write UTF-8, some Latin-1 (RFC 9110, 5.5)."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _chosen_key(request: Request, in_body: str | None) -> str | None:
    given = [_text(value) for value in header_values(request.scope["headers"], b"idempotency-key")]
    if not given:
        return in_body
    if len(given) > 1 or not 1 <= len(given[0]) <= _MAX_KEY_CHARS:
        raise invalid_field("Idempotency-Key", f"Send one key of 1 to {_MAX_KEY_CHARS} characters.")
    if in_body is not None and in_body != given[0]:
        raise invalid_field(
            "idempotency_key", "The body and the Idempotency-Key header name different keys. Send one."
        )
    return given[0]
