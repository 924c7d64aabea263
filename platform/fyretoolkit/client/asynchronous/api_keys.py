"""`client.api_keys`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from fyretoolkit.client.asynchronous.pages import AsyncPage, async_page_of
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import delete, get, path_of, post
from fyretoolkit.schemas.api_keys import ApiKeyResource, CreatedApiKey

ScopeName: TypeAlias = Literal["read", "predict", "write", "admin", "operator"]


class AsyncApiKeys:
    """API keys of the caller's organization, for a key with the scope admin.

    A creation carries no idempotency key, because a stored answer would keep the secret; so it is not sent again when
    its answer got lost.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
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
        return await self._transport.fetch(call, CreatedApiKey)

    async def list(
        self, *, limit: int | None = None, starting_after: str | None = None
    ) -> AsyncPage[ApiKeyResource]:
        """The organization's keys, newest first, masked. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return await async_page_of(self._transport, ApiKeyResource, "/api_keys", query)

    async def get(self, key_id: str) -> ApiKeyResource:
        """The key, masked."""
        return await self._transport.fetch(get(path_of("api_keys", key_id)), ApiKeyResource)

    async def rotate(self, key_id: str, *, overlap_s: int | None = None) -> CreatedApiKey:
        """A new key of the same name and scopes; the old one goes on for `overlap_s`, a day unless it is said."""
        call = post(path_of("api_keys", key_id, "rotate"), is_repeatable=False, overlap_s=overlap_s)
        return await self._transport.fetch(call, CreatedApiKey)

    async def revoke(self, key_id: str) -> ApiKeyResource:
        """It stops working everywhere within 5 s, for ever."""
        return await self._transport.fetch(delete(path_of("api_keys", key_id)), ApiKeyResource)
