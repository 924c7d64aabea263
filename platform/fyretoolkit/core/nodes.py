"""A node as an operator sees it: what it has, what is free of it, which deployments have replicas there.

`core.capacity` decides by the same facts whether a replica fits; here they are kept for people to read, with the
moment at which they were seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fyretoolkit.core.capacity import GPU
from fyretoolkit.core.deployments import Deployment

ID = "^[0-9a-f]{56}$"
"""What Ray's ids of nodes look like: 28 random bytes, so that they hold no time."""
_CPU, _MEMORY = "CPU", "memory"
_HEAD = "node:__internal_head__"
"""The resource that Ray gives to its head alone."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Of one thing: how much there is, and how much of it nothing has asked for."""

    total: float
    free: float


@dataclass(frozen=True, slots=True)
class Occupant:
    """A deployment with replicas on a node."""

    org: str
    deployment: str
    replicas: int


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node at one moment. A dead one has nothing, and nothing is on it."""

    id: str
    """Ray's, in hexadecimal."""
    is_alive: bool
    is_head: bool
    labels: Mapping[str, str]
    cpus: Amount
    gpus: Amount
    memory_bytes: Amount
    """What replicas and workers may reserve, which is what Ray counts; not what processes have."""
    occupants: tuple[Occupant, ...]
    observed_at: int
    """Unix seconds."""

    @classmethod
    def from_ray(
        cls,
        record: Mapping[str, Any],
        free: Mapping[str, float],
        occupants: Sequence[Occupant],
        *,
        observed_at: int,
    ) -> NodeState:
        """`record`: what `ray.nodes()` says of it; `free`: its free resources, by Ray's names of them."""
        total: Mapping[str, float] = record["Resources"] if record["Alive"] else {}

        def amount(name: str) -> Amount:
            most = total.get(name, 0.0)
            return Amount(round(most, 4), round(min(most, max(0.0, free.get(name, 0.0))), 4))

        return cls(
            id=record["NodeID"],
            is_alive=record["Alive"],
            is_head=_HEAD in total,
            labels=record["Labels"],
            cpus=amount(_CPU),
            gpus=amount(GPU),
            memory_bytes=amount(_MEMORY),
            occupants=tuple(occupants) if record["Alive"] else (),
            observed_at=observed_at,
        )


def occupants_of(replicas: Mapping[str, int], deployments: Iterable[Deployment]) -> list[Occupant]:
    """Whose replicas they are, by id; `replicas` counts them by application. Those that stand by are nobody's."""
    found = [
        Occupant(each.org, each.id, replicas[each.application])
        for each in deployments
        if replicas.get(each.application)
    ]
    return sorted(found, key=lambda each: each.deployment)
