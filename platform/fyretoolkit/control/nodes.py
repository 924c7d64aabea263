"""What Ray says of its nodes: what each has free, and what it gave to actors that have no process yet.

Asked for once a look, if at all. An actor that waits for room and one whose process is just being started look alike:
Ray names a node for both, the one that was asked last. But what is being started has been given what it asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import ray
from ray._private import state
from ray.core.generated import gcs_pb2

from fyretoolkit.core.capacity import Ask, Node, find_shortage

_LIVE = (gcs_pb2.ActorTableData.PENDING_CREATION, gcs_pb2.ActorTableData.ALIVE)


class Nodes:
    """The cluster as it is at the first question."""

    def known(self) -> Sequence[Node]:
        """Every node that is alive."""
        return [node for node, _ in self._nodes]

    def is_starting(self, ask: Ask) -> bool:
        """Whether some node has given as much as that to actors that have no process yet."""
        return find_shortage(ask, [Node(node.labels, given) for node, given in self._nodes]) is None

    def has_process(self, actor_name: str) -> bool:
        """Whether an actor is past waiting for room: its process is up, however long it takes to become ready."""
        return any(actor.name == actor_name and actor.pid for actor in self._actors)

    @cached_property
    def _nodes(self) -> Sequence[tuple[Node, Mapping[str, float]]]:
        """Each node that is alive, and what it gave to actors without a process."""
        free: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
        found = []
        for each in ray.nodes():
            if each["Alive"]:
                node = Node(labels=each["Labels"], free=free.get(each["NodeID"], {}))
                held = self._held[each["NodeID"]]
                given = {
                    name: total - node.free.get(name, 0.0) - held[name]
                    for name, total in each["Resources"].items()
                }
                found.append((node, given))
        return found

    @cached_property
    def _held(self) -> Mapping[str, Counter[str]]:
        """By node, what the actors hold that have a process."""
        held: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for actor in self._actors:
            if actor.pid:
                held[actor.address.node_id.hex()].update(dict(actor.required_resources))
        return held

    @cached_property
    def _actors(self) -> Sequence[gcs_pb2.ActorTableData]:
        return [actor for actor in _actors() if actor.state in _LIVE]


def _actors() -> Iterator[gcs_pb2.ActorTableData]:
    """Ray's own records: what `state.actors()` makes of them leaves out what they ask for."""
    accessor = state.state._connect_and_get_accessor()
    return map(gcs_pb2.ActorTableData.FromString, accessor.get_actor_table(None, None))
