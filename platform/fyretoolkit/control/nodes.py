"""What Ray says of its nodes: what each has free, and which actors wait for one. Asked for once a look, if at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import ray
from ray._private import state

from fyretoolkit.core.capacity import Node


class Nodes:
    """The cluster as it is at the first question."""

    def known(self) -> Sequence[Node]:
        """Every node that is alive."""
        return self._nodes

    def is_unplaced(self, actor_name: str) -> bool:
        """Whether an actor that has not come up yet waits for room; else its process is starting on some node."""
        return self._actor_addresses.get(actor_name) == ""

    @cached_property
    def _nodes(self) -> Sequence[Node]:
        free: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
        return [
            Node(labels=each["Labels"], free=free.get(each["NodeID"], {}))
            for each in ray.nodes()
            if each["Alive"]
        ]

    @cached_property
    def _actor_addresses(self) -> Mapping[str, str]:
        """Where the process of each actor that is being created is, by the actor's name; empty while it has none.

        The node's id is there before that: it is the node that was asked.
        """
        waiting: Mapping[str, Mapping[str, Any]] = state.actors(actor_state_name="PENDING_CREATION")
        return {each["Name"]: each["Address"]["IPAddress"] for each in waiting.values()}
