"""Writes down what the nodes have, so that `GET /nodes` asks Redis and never Ray.

A loop of its own: a call of Ray that hangs here holds up no reconciler, and shows as a controller that is stalled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fyretoolkit.control.nodes import look_at_nodes
from fyretoolkit.control.threads import SERVE, run_in
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.nodes import NodeState
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.nodes import NodeStore

EVERY_S = 4.0
MAX_DEAD = 100
"""Of the dead nodes, which Ray keeps by the thousand."""


class NodeWatch:
    """Looks at Ray, and tells the store."""

    def __init__(
        self,
        deployments: DeploymentStore,
        nodes: NodeStore,
        *,
        look: Callable[[Sequence[Deployment]], Sequence[NodeState]] = look_at_nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deployments = deployments
        self._nodes = nodes
        self._look = look
        self._clock = clock
        self._due = clock()

    async def tick(self) -> bool:
        """Look, if that was not done just now. False: nothing of it is in a hurry."""
        if self._clock() < self._due:
            return False
        seen = await run_in(SERVE, self._look, await self._deployments.live())
        alive = [node for node in seen if node.is_alive]
        dead = [node for node in seen if not node.is_alive]
        await self._nodes.write([*alive, *dead[:MAX_DEAD]])
        self._due = self._clock() + EVERY_S
        return False
