"""API keys on the wire. The key itself is in the answer that creates it, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from fyretoolkit.core.api_keys import DEFAULT_SCOPES, ApiKey, KeyStatus, in_order
from fyretoolkit.core.organizations import Scope
from fyretoolkit.schemas.names import Name
from fyretoolkit.schemas.wire import RequestModel, Resource

MAX_LIFETIME_S = 10 * 365 * 86_400
DEFAULT_OVERLAP_S = 86_400
MAX_OVERLAP_S = 7 * 86_400

_ID = "key_01M82FQ0A1B2C3D4E5F6G7H8J9"
_EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "api_key",
    "name": "billing service",
    "scopes": ["read", "predict"],
    "organization": "org_01M82FQ0A1B2C3D4E5F6G7H8J8",
    "masked": f"sk_live_{_ID}_****wxyz",
    "status": "active",
    "created": 1795379900,
    "expires_at": None,
    "revoked_at": None,
    "replaced_by": None,
}


class ApiKeyCreate(RequestModel):
    """The body of `POST /api_keys`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "billing service", "scopes": ["read", "predict"]}]}
    )

    name: Name
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        list(DEFAULT_SCOPES), min_length=1, max_length=len(Scope), description="What the key may do."
    )
    expires_in_s: Annotated[
        int | None, Field(ge=1, le=MAX_LIFETIME_S, description="How long it works; else until it is revoked.")
    ] = None


class ApiKeyRotate(RequestModel):
    """The body of `POST /api_keys/{id}/rotate`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_s": 3600}]})

    overlap_s: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP_S, description="How long the old key goes on working.")
    ] = DEFAULT_OVERLAP_S


class ApiKeyResource(Resource):
    """An API key, masked. `revoked` with `revoked_at` null: it has expired."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[Scope]
    organization: str
    masked: str
    status: KeyStatus
    created: int
    expires_at: int | None
    revoked_at: int | None
    replaced_by: str | None

    @classmethod
    def from_record(cls, key: ApiKey, *, now: float) -> ApiKeyResource:
        """The stored key as callers see it at the Unix time `now`."""
        return cls.model_validate(_fields(key, now))


class CreatedApiKey(ApiKeyResource):
    """A new API key with the key itself: nothing shows it again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_EXAMPLE, "key": f"sk_live_{_ID}_an-example-this-key-was-never-issued-00wxyz"}]
        }
    )

    key: Annotated[str, Field(repr=False)]

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
