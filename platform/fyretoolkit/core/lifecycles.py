"""The lifecycle of each resource: an enum and a transition table. What is absent is illegal.

The tables are read by the store, which hands the legal predecessors to one Lua compare-and-set, so no code path can
write a status that is not reachable here. Source of the style: python-hyper/h11 `_state.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar


class ModelStatus(StrEnum):
    """A model: registered, then usable, then put away."""

    TRAINING = "training"
    """Registered; its artifact is not there yet."""
    READY = "ready"
    """Its artifact was inspected and can be deployed."""
    ARCHIVED = "archived"
    """Cannot be deployed any more; its artifact stays."""


class DeploymentStatus(StrEnum):
    """A deployment: from the request to the freed replica."""

    PROVISIONING = "provisioning"
    """Accepted; `stage` says how far it is."""
    READY = "ready"
    """A real inference succeeded; it takes traffic."""
    DEGRADED = "degraded"
    """It was ready; now no replica is running, and one is being started."""
    DRAINING = "draining"
    """Out of the routing table; requests in flight finish."""
    DELETED = "deleted"
    """Freed. Terminal."""
    FAILED = "failed"
    """It never became ready; `error` says why. Terminal but for deletion."""


class Stage(StrEnum):
    """How far a provisioning deployment is."""

    FETCHING = "fetching"
    """The artifact is copied into the artifact store."""
    INSPECTING = "inspecting"
    """The artifact is loaded once in a child process and its signature read."""
    STARTING = "starting"
    """Ray Serve starts a replica."""
    WARMING = "warming"
    """The replica loaded the model; a first real inference runs."""
    READY = "ready"
    """Done."""


class JobStatus(StrEnum):
    """A batch job."""

    QUEUED = "queued"
    """Accepted; no run has started."""
    PROCESSING = "processing"
    """A run holds the job's lease, or is about to be replaced by another."""
    COMPLETED = "completed"
    """Every row has a result or an error line. Terminal."""
    FAILED = "failed"
    """The job ended without its results; `error` says why. Terminal."""
    CANCELED = "canceled"
    """The caller ended it; what was committed stays readable. Terminal."""


class DeliveryStatus(StrEnum):
    """A webhook delivery."""

    PENDING = "pending"
    """In the outbox."""
    DELIVERED = "delivered"
    """The receiver answered 2xx. Nothing follows unless somebody has it sent again."""
    EXHAUSTED = "exhausted"
    """The schedule of attempts ended, or the receiver wants no more. As with `delivered`, it may be sent again."""


_M, _D, _J, _W = ModelStatus, DeploymentStatus, JobStatus, DeliveryStatus

MODEL: Mapping[ModelStatus, frozenset[ModelStatus]] = MappingProxyType({
    _M.TRAINING: frozenset({_M.READY, _M.ARCHIVED}),
    _M.READY: frozenset({_M.ARCHIVED}),
    _M.ARCHIVED: frozenset(),
})  # fmt: skip
DEPLOYMENT: Mapping[DeploymentStatus, frozenset[DeploymentStatus]] = MappingProxyType({
    _D.PROVISIONING: frozenset({_D.READY, _D.FAILED, _D.DRAINING}),
    _D.READY: frozenset({_D.DEGRADED, _D.DRAINING}),
    _D.DEGRADED: frozenset({_D.READY, _D.DRAINING}),
    _D.FAILED: frozenset({_D.DRAINING}),
    _D.DRAINING: frozenset({_D.DELETED}),
    _D.DELETED: frozenset(),
})  # fmt: skip
JOB: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType({
    _J.QUEUED: frozenset({_J.PROCESSING, _J.CANCELED, _J.FAILED}),
    _J.PROCESSING: frozenset({_J.COMPLETED, _J.FAILED, _J.CANCELED}),
    _J.COMPLETED: frozenset(),
    _J.FAILED: frozenset(),
    _J.CANCELED: frozenset(),
})  # fmt: skip
DELIVERY: Mapping[DeliveryStatus, frozenset[DeliveryStatus]] = MappingProxyType({
    _W.PENDING: frozenset({_W.DELIVERED, _W.EXHAUSTED}),
    _W.DELIVERED: frozenset({_W.PENDING}),
    _W.EXHAUSTED: frozenset({_W.PENDING}),
})  # fmt: skip

LIVE_DEPLOYMENT = (_D.PROVISIONING, _D.READY, _D.DEGRADED)
"""It serves or is on the way: its caller may change what is wanted, and its model is in use."""

S = TypeVar("S", bound=StrEnum)


def predecessors(table: Mapping[S, frozenset[S]], target: S) -> tuple[S, ...]:
    """The statuses from which `target` may be reached in one step, in the table's order."""
    return tuple(status for status, successors in table.items() if target in successors)


def is_terminal(table: Mapping[S, frozenset[S]], status: S) -> bool:
    """Whether nothing follows `status`."""
    return not table[status]
