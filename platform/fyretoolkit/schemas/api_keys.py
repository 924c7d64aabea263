"""API keys on the wire. The key itself is in the answer that creates it, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fyretoolkit.core.api_keys import DEFAULT_SCOPES, ApiKey, KeyStatus, in_order
from fyretoolkit.core.organizations import Scope
from fyretoolkit.schemas.names import Name
from fyretoolkit.schemas.wire import RequestModel, Resource

MAX_LIFETIME_S = 10 * 365 * 86_400
DEFAULT_OVERLAP_S = 86_400
MAX_OVERLAP_S = 7 * 86_400


class ApiKeyCreate(RequestModel):
    """The body of `POST /api_keys`."""

    name: Name
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        list(DEFAULT_SCOPES), min_length=1, max_length=len(Scope), description="What the key may do."
    )
    expires_in_s: Annotated[
        int | None, Field(ge=1, le=MAX_LIFETIME_S, description="How long it works; else until it is revoked.")
    ] = None


class ApiKeyRotate(RequestModel):
    """The body of `POST /api_keys/{id}/rotate`."""

    overlap_s: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP_S, description="How long the old key goes on working.")
    ] = DEFAULT_OVERLAP_S


class ApiKeyResource(Resource):
    """An API key, masked. `revoked` with `revoked_at` null: it has expired."""

    id: str
    """The key's id."""
    object: Literal["api_key"] = "api_key"
    """Always `api_key`."""
    name: str
    """For people: shown in lists."""
    scopes: list[Scope]
    """What the key may do."""
    organization: str
    """Whose key it is."""
    masked: str
    """The key as it may be shown: all but its secret."""
    status: KeyStatus
    """`revoked`: it does not work any more."""
    created: int
    """When it was created, in Unix seconds."""
    expires_at: int | None
    """When it stops working, in Unix seconds; null: it does not expire."""
    revoked_at: int | None
    """When it was revoked, in Unix seconds; else null."""
    replaced_by: str | None
    """The id of the key that rotation made of it; else null."""

    @classmethod
    def from_record(cls, key: ApiKey, *, now: float) -> ApiKeyResource:
        """The stored key as callers see it at the Unix time `now`."""
        return cls.model_validate(_fields(key, now))


class CreatedApiKey(ApiKeyResource):
    """A new API key with the key itself: nothing shows it again."""

    key: Annotated[str, Field(repr=False)]
    """The key itself, in this answer alone."""

    @classmethod
    def from_key(cls, text: str, key: ApiKey) -> CreatedApiKey:
        """The new key and its record."""
        return cls.model_validate({**_fields(key, key.created), "key": text})


def _fields(key: ApiKey, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": in_order(key.scopes),
        "organization": key.org,
        "masked": key.masked,
        "status": key.status(now),
        "created": key.created,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "replaced_by": key.replaced_by,
    }
