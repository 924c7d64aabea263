"""Nodes on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fyretoolkit.core.nodes import Amount, NodeState
from fyretoolkit.schemas.wire import Resource


class NodeAmount(Resource):
    """Of what replicas and workers may reserve."""

    total: float
    """How much the node has; 0 once it is dead."""
    free: float
    """How much of it nothing has reserved."""

    @classmethod
    def from_amount(cls, amount: Amount) -> NodeAmount:
        """The same on the wire."""
        return cls(total=amount.total, free=amount.free)


class NodeDeployment(Resource):
    """A deployment with replicas on a node."""

    id: str
    """The deployment's id."""
    replicas: int
    """How many of its replicas are there."""


class NodeResource(Resource):
    """A machine that the platform runs on, as its controller saw it last."""

    id: str
    """Ray's id of it."""
    object: Literal["node"] = "node"
    """Always `node`."""
    alive: bool
    """Whether it answers; a dead one takes no replica any more."""
    head: bool
    """Whether Ray's head, and with it the controller, is there."""
    regions: list[str]
    """The configured regions whose replicas may run there."""
    labels: dict[str, str]
    """Its labels in Ray, by which regions are told."""
    cpus: NodeAmount
    """CPUs."""
    gpus: NodeAmount
    """GPUs; a replica may have a share of one."""
    memory_bytes: NodeAmount
    """Memory that may be reserved; what processes really have is not counted."""
    deployments: list[NodeDeployment]
    """What is on it of your organization, and of the public deployments."""
    observed_at: int
    """When it was seen like this, in Unix seconds."""

    @classmethod
    def from_state(cls, node: NodeState, *, regions: list[str], orgs: Iterable[str]) -> NodeResource:
        """The node as a key of `orgs` may see it."""
        visible = frozenset(orgs)
        return cls(
            id=node.id,
            alive=node.is_alive,
            head=node.is_head,
            regions=regions,
            labels=dict(node.labels),
            cpus=NodeAmount.from_amount(node.cpus),
            gpus=NodeAmount.from_amount(node.gpus),
            memory_bytes=NodeAmount.from_amount(node.memory_bytes),
            deployments=[
                NodeDeployment(id=each.deployment, replicas=each.replicas)
                for each in node.occupants
                if each.org in visible
            ],
            observed_at=node.observed_at,
        )
