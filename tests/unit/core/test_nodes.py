"""What is kept of Ray's records of its nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.nodes import Amount, NodeState, Occupant, occupants_of

RECORD: dict[str, Any] = {
    "NodeID": "ab" * 28,
    "Alive": True,
    "Labels": {"region": "eu-west-1"},
    "Resources": {"CPU": 4.0, "memory": 1e9, "node:__internal_head__": 1.0, "object_store_memory": 5.0},
}
DEPLOYMENT = Deployment(
    id="dep_1", org="org_a", status=DeploymentStatus.READY, stage=Stage.READY, model="m", model_uri="models://m",
    region="eu-west-1", created=1, updated=1, stage_at=1.0,
)  # fmt: skip


def test_what_is_free_lies_between_nothing_and_all() -> None:
    """Ray's sums of shares are a hair off, and it has a figure for no GPU where there is none."""
    free = {"CPU": 0.1 + 0.2, "memory": 1e9 + 1}
    seen = NodeState.from_ray(RECORD, free, [Occupant("org_a", "dep_1", 2)], observed_at=7)
    assert (seen.cpus, seen.gpus, seen.memory_bytes) == (Amount(4, 0.3), Amount(0, 0), Amount(1e9, 1e9))
    assert (seen.id, seen.is_head, seen.labels) == ("ab" * 28, True, {"region": "eu-west-1"})
    assert (seen.occupants, seen.observed_at) == ((Occupant("org_a", "dep_1", 2),), 7)


def test_a_dead_node_has_nothing() -> None:
    """Whatever Ray remembers of it."""
    seen = NodeState.from_ray(
        {**RECORD, "Alive": False}, {"CPU": 4.0}, [Occupant("o", "d", 1)], observed_at=7
    )
    assert (seen.is_alive, seen.is_head, seen.cpus, seen.occupants) == (False, False, Amount(0, 0), ())
    assert seen.labels == {"region": "eu-west-1"}


def test_replicas_are_counted_for_their_deployment() -> None:
    """Also those of an application that stood by and was taken; nobody's are left out."""
    taken = replace(DEPLOYMENT, id="dep_0", standby="standby-7")
    replicas = {"dep_1": 2, "standby-7": 1, "standby-8": 1, "ingress": 1}
    found = occupants_of(replicas, [DEPLOYMENT, taken, replace(DEPLOYMENT, id="dep_elsewhere")])
    assert found == [Occupant("org_a", "dep_0", 1), Occupant("org_a", "dep_1", 2)]
