"""The nodes as the controller saw them last: it writes all of them every few seconds, the ingress reads them.

One string rather than a hash a node: a list is of one moment, and a node that Ray has forgotten leaves it by itself.
Not fenced by the controller's epoch: what an older controller saw a moment ago is as true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pydantic import TypeAdapter

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.nodes import NodeState
from fyretoolkit.store import keys
from fyretoolkit.store.connection import RETRY_AFTER_S, Store, translated

_TTL_S = 60
_NODES = TypeAdapter(list[NodeState])


class NodeStore:
    """What is known of the nodes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, nodes: Sequence[NodeState]) -> None:
        """Put these in the place of those seen before; forgotten when nobody looks again.

        Raises:
            PlatformError: `unavailable`.
        """
        async with translated():
            await self._store.redis.set(keys.NODES, _NODES.dump_json(list(nodes)), ex=_TTL_S)

    async def page(self, limit: int, *, starting_after: str | None = None) -> list[NodeState]:
        """At most `limit` nodes by descending id, all below `starting_after`.

        Raises:
            PlatformError: `unavailable`; so it is if nobody has looked lately.
        """
        async with translated():
            found = cast("str | None", await self._store.redis.get(keys.NODES))
        if found is None:
            raise PlatformError(
                "unavailable",
                "The controller has not looked at the nodes for a minute. GET /readyz says how it is.",
                retry_after_s=RETRY_AFTER_S,
            )
        nodes = sorted(_NODES.validate_json(found), key=lambda node: node.id, reverse=True)
        return [node for node in nodes if starting_after is None or node.id < starting_after][:limit]
