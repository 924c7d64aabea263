# Generated from ../asynchronous/api_keys.py by scripts/describe: change that one.
"""`client.api_keys`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from fyretoolkit.client.calls import delete, get, path_of, post
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.api_keys import ApiKeyResource, CreatedApiKey

ScopeName: TypeAlias = Literal["read", "predict", "write", "admin", "operator"]


class ApiKeys:
    """API keys of the caller's organization, for a key with the scope admin.

    A creation carries no idempotency key, because a stored answer would keep the secret; so it is not sent again when
    its answer got lost.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, name: str, *, scopes: Sequence[ScopeName] | None = None, expires_in_s: int | None = None
    ) -> CreatedApiKey:
        """A new key: `key` is shown in this answer alone."""
        call = post(
            "/api_keys",
            is_repeatable=False,
            name=name,
            scopes=None if scopes is None else list(scopes),
            expires_in_s=expires_in_s,
        )
        return self._transport.fetch(call, CreatedApiKey)

    def list(self, *, limit: int | None = None, starting_after: str | None = None) -> Page[ApiKeyResource]:
        """The organization's keys, newest first, masked. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, ApiKeyResource, "/api_keys", query)

    def get(self, key_id: str) -> ApiKeyResource:
        """The key, masked."""
        return self._transport.fetch(get(path_of("api_keys", key_id)), ApiKeyResource)

    def rotate(self, key_id: str, *, overlap_s: int | None = None) -> CreatedApiKey:
        """A new key of the same name and scopes; the old one goes on for `overlap_s`, a day unless it is said."""
        call = post(path_of("api_keys", key_id, "rotate"), is_repeatable=False, overlap_s=overlap_s)
        return self._transport.fetch(call, CreatedApiKey)

    def revoke(self, key_id: str) -> ApiKeyResource:
        """It stops working everywhere within 5 s, for ever."""
        return self._transport.fetch(delete(path_of("api_keys", key_id)), ApiKeyResource)
