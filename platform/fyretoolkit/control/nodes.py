"""What Ray says of its nodes: what each has, what is free of it, and what it gave to actors that have no process yet.

Asked for once a look, if at all. An actor that waits for room and one whose process is just being started look alike:
Ray names a node for both, the one that was asked last. But what is being started has been given what it asked for.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import ray
from ray._private import state
from ray.core.generated import gcs_pb2
from ray.serve._private.common import ReplicaID

from fyretoolkit.core.capacity import GPU, Ask, Holding, Node, find_shortage
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.nodes import NodeState, occupants_of

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

    def states(self, deployments: Sequence[Deployment]) -> list[NodeState]:
        """Every node that Ray knows, dead ones too, with the replicas of these deployments on it."""
        now = int(time.time())
        states = []
        for each in self._records:
            name = each["NodeID"]
            replicas = {app: len(holdings) for app, holdings in _held(self._running[name]).items()}
            occupants = occupants_of(replicas, deployments)
            states.append(NodeState.from_ray(each, self._free.get(name, {}), occupants, observed_at=now))
        return states

    @cached_property
    def _records(self) -> Sequence[Mapping[str, Any]]:
        """Ray's own records of all nodes."""
        found: Sequence[Mapping[str, Any]] = ray.nodes()
        return found

    @cached_property
    def _free(self) -> Mapping[str, Mapping[str, float]]:
        found: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
        return found

    @cached_property
    def _nodes(self) -> Sequence[tuple[Node, Mapping[str, float]]]:
        """Each node that is alive, and what it gave to actors without a process."""
        found = []
        for each in self._records:
            if each["Alive"]:
                here = self._running[each["NodeID"]]
                node = Node(
                    labels=each["Labels"],
                    free=self._free.get(each["NodeID"], {}),
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


def look_at_nodes(deployments: Sequence[Deployment]) -> list[NodeState]:
    """Every node as it is now."""
    return Nodes().states(deployments)


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
