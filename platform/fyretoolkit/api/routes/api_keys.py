"""`/api_keys`: the keys of the caller's organization.

A key is shown once, in the answer that creates it. Idempotency keys are not taken here, because a stored answer would
keep the secret: whoever lost the answer revokes the key, or rotates it with `overlap_s: 0`, and has a new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from fyretoolkit.api.dependencies import Admin, Parts, json_body
from fyretoolkit.api.openapi import Responses, component, failures, request_body
from fyretoolkit.api.pages import check_cursor, page_by_id
from fyretoolkit.api.services import Services
from fyretoolkit.core.api_keys import DEMO_KEY_ID, PREFIX, ApiKey, new_key, new_replacement
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.organizations import Principal, Scope
from fyretoolkit.schemas.api_keys import ApiKeyCreate, ApiKeyResource, ApiKeyRotate, CreatedApiKey
from fyretoolkit.schemas.pages import Page, PageQuery

COLLECTION = "/api_keys"

router = APIRouter(tags=["API keys"])


def shown_once(response: Response, location: str) -> None:
    """The headers of an answer that holds a secret: no cache on the way may keep it."""
    response.headers["Location"] = location
    response.headers["Cache-Control"] = "no-store"


def secret_headers() -> Responses:
    """The same, for the description of the operation."""
    no_store = {"description": "`no-store`: the answer holds a secret.", "schema": {"type": "string"}}
    return {201: {"headers": {"Location": component("headers", "Location"), "Cache-Control": no_store}}}


@router.post(
    COLLECTION,
    status_code=201,
    summary="Create an API key",
    responses={**secret_headers(), **failures("quota_exceeded")},
    openapi_extra=request_body(ApiKeyCreate),
)
async def create_api_key(
    response: Response,
    principal: Admin,
    services: Parts,
    body: Annotated[ApiKeyCreate, Depends(json_body(ApiKeyCreate))],
) -> CreatedApiKey:
    """`key` is shown in this answer alone. A key cannot be given scopes that the caller's own lacks."""
    _require_all(principal, body.scopes)
    now = int(time.time())
    text, key = new_key(principal.org, body.name, body.scopes, created=now, lifetime_s=body.expires_in_s)
    limit = services.settings.quotas.api_keys
    written = await services.api_keys.add(key, caller=principal.key_id, limit=limit)
    shown_once(response, f"{COLLECTION}/{key.id}")
    return CreatedApiKey.from_key(text, written or key)


@router.get(COLLECTION, summary="List API keys")
async def list_api_keys(
    principal: Admin, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[ApiKeyResource]:
    """The organization's keys, newest first, masked; revoked ones too."""
    if query.starting_after != DEMO_KEY_ID:
        check_cursor(query.starting_after, PREFIX)
    found, has_more = await page_by_id(principal.org, query, services.api_keys)
    now = time.time()
    return Page[ApiKeyResource](
        data=[ApiKeyResource.from_record(key, now=now) for key in found], has_more=has_more
    )


@router.get(COLLECTION + "/{key_id}", summary="Get an API key", responses=failures("api_key_not_found"))
async def get_api_key(key_id: str, principal: Admin, services: Parts) -> ApiKeyResource:
    """The key, masked."""
    key = await _known_key(services, principal.org, key_id)
    return ApiKeyResource.from_record(key, now=time.time())


@router.post(
    COLLECTION + "/{key_id}/rotate",
    status_code=201,
    summary="Rotate an API key",
    responses={
        **secret_headers(),
        **failures(
            "api_key_not_found",
            "api_key_not_active",
            "api_key_not_changeable",
            "last_admin_key",
            "quota_exceeded",
        ),
    },
    openapi_extra=request_body(ApiKeyRotate, is_optional=True),
)
async def rotate_api_key(
    key_id: str,
    response: Response,
    principal: Admin,
    services: Parts,
    body: Annotated[ApiKeyRotate, Depends(json_body(ApiKeyRotate, is_optional=True))],
) -> CreatedApiKey:
    """Answers a new key of the same name, scopes and lifetime. The old one goes on for `overlap_s`, then expires."""
    old = await _changeable_key(services, principal.org, key_id)
    _require_all(principal, old.scopes)
    text, key = new_replacement(old, created=int(time.time()))
    written = await services.api_keys.rotate(
        old,
        key,
        overlap_s=body.overlap_s,
        caller=principal.key_id,
        limit=services.settings.quotas.api_keys,
    )
    shown_once(response, f"{COLLECTION}/{key.id}")
    return CreatedApiKey.from_key(text, written)


@router.delete(
    COLLECTION + "/{key_id}",
    summary="Revoke an API key",
    responses=failures("api_key_not_found", "api_key_not_changeable", "last_admin_key"),
)
async def revoke_api_key(key_id: str, principal: Admin, services: Parts) -> ApiKeyResource:
    """It stops working everywhere within 5 s, for ever. Repeatable. An organization keeps one admin key."""
    key = await _changeable_key(services, principal.org, key_id)
    await services.api_keys.revoke(key, now=int(time.time()))
    revoked = await _known_key(services, principal.org, key_id)
    return ApiKeyResource.from_record(revoked, now=time.time())


def _require_all(principal: Principal, scopes: Iterable[Scope]) -> None:
    """Nobody makes a key that may do more than their own."""
    lacking = [scope for scope in scopes if scope not in principal.scopes]
    if lacking:
        raise PlatformError(
            "insufficient_scope",
            f"The new key would carry scopes that yours lacks: {', '.join(lacking)}. Use a key that carries them.",
        )


async def _known_key(services: Services, org: str, key_id: str) -> ApiKey:
    is_possible = is_id(key_id, PREFIX) or key_id == DEMO_KEY_ID
    key = await services.api_keys.get(org, key_id) if is_possible else None
    if key is None:
        raise PlatformError("api_key_not_found")
    return key


async def _changeable_key(services: Services, org: str, key_id: str) -> ApiKey:
    key = await _known_key(services, org, key_id)
    if key.id == DEMO_KEY_ID:
        raise PlatformError("api_key_not_changeable")
    return key
