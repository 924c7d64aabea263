# Generated from ../asynchronous/nodes.py by scripts/describe: change that one.
"""`client.nodes`."""

from __future__ import annotations

from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.nodes import NodeResource


class Nodes:
    """The machines that the platform runs on: a key with the scope admin."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, starting_after: str | None = None) -> Page[NodeResource]:
        """What each has, what is free of it, and what is there of yours. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, NodeResource, "/nodes", query)
