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
from ray.serve._private.common import ReplicaID

from fyretoolkit.core.capacity import GPU, Ask, Holding, Node, find_shortage

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
                here = self._running[each["NodeID"]]
                node = Node(
                    labels=each["Labels"],
                    free=free.get(each["NodeID"], {}),
                    gpus=_free_gpus(round(each["Resources"].get(GPU, 0)), here),
                    held=_held(here),
                )
                held: Counter[str] = Counter()
                for actor in here:
                    held.update(dict(actor.required_resources))
                given = {
                    name: total - node.free.get(name, 0.0) - held[name]
                    for name, total in each["Resources"].items()
                }
                found.append((node, given))
        return found

    @cached_property
    def _running(self) -> Mapping[str, Sequence[gcs_pb2.ActorTableData]]:
        """By node, the actors that have a process."""
        running: defaultdict[str, list[gcs_pb2.ActorTableData]] = defaultdict(list)
        for actor in self._actors:
            if actor.pid:
                running[actor.address.node_id.hex()].append(actor)
        return running

    @cached_property
    def _actors(self) -> Sequence[gcs_pb2.ActorTableData]:
        return [actor for actor in _actors() if actor.state in _LIVE]


def _free_gpus(count: int, actors: Sequence[gcs_pb2.ActorTableData]) -> list[float]:
    """What each GPU has free at most: which of them tasks have, and actors without a process, Ray does not say."""
    return [1.0 - sum(_gpus(actor).get(number, 0.0) for actor in actors) for number in range(count)]


def _held(actors: Sequence[gcs_pb2.ActorTableData]) -> Mapping[str, Sequence[Holding]]:
    """What replicas have, by their applications."""
    held: defaultdict[str, list[Holding]] = defaultdict(list)
    for actor in actors:
        if ReplicaID.is_full_id_str(actor.name):
            application = ReplicaID.from_full_id_str(actor.name).deployment_id.app_name
            held[application].append(Holding(dict(actor.required_resources), _gpus(actor)))
    return held


def _gpus(actor: gcs_pb2.ActorTableData) -> Mapping[int, float]:
    """Of which GPU it has how much."""
    return {
        each.index: each.quantity
        for entry in actor.resource_mapping
        if entry.name == GPU
        for each in entry.resource_ids
    }


def _actors() -> Iterator[gcs_pb2.ActorTableData]:
    """Ray's own records: what `state.actors()` makes of them leaves out what they ask for."""
    accessor = state.state._connect_and_get_accessor()
    return map(gcs_pb2.ActorTableData.FromString, accessor.get_actor_table(None, None))
