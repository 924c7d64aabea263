"""`client.nodes`."""

from __future__ import annotations

from fyretoolkit.client.asynchronous.pages import AsyncPage, async_page_of
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.schemas.nodes import NodeResource


class AsyncNodes:
    """The machines that the platform runs on: a key with the scope admin."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(
        self, *, limit: int | None = None, starting_after: str | None = None
    ) -> AsyncPage[NodeResource]:
        """What each has, what is free of it, and what is there of yours. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return await async_page_of(self._transport, NodeResource, "/nodes", query)
