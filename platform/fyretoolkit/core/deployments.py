"""Deployments: the record, what is observed of it, and the pure decision of what to do next.

`plan` is level-triggered: it looks at what is desired and what is there and names the commands that close the gap, at
every tick anew. Commands are idempotent, so a controller killed at any instant is replaced by one that plans again.
The rejected alternative, a workflow that remembers its step, has to be made crash-safe step by step.
Source: Kubernetes controllers; dask's `worker_state_machine.py` for events in, instructions out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fyretoolkit.core.lifecycles import DeploymentStatus, Stage

PREFIX = "dep"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the caller asked for and how far it is. Times are Unix seconds."""

    id: str
    org: str
    status: DeploymentStatus
    stage: Stage
    model: str
    model_uri: str
    region: str
    created: int
    updated: int
    stage_at: float
    """When the stage or the status last changed; each stage is bounded from here."""
    replicas: int = 1
    ready_replicas: int = 0
    traffic: int = 100
    num_gpus: float = 0.0
    is_model_id_chosen: bool = False
    """Whether the caller named the model; else the package's own manifest may."""
    autoscaling: Mapping[str, int] | None = None
    artifact: str | None = None
    spec: Mapping[str, object] | None = None
    error: Mapping[str, object] | None = None
    schema: int = 1


class ApplicationState(StrEnum):
    """Ray Serve's view of one application, reduced to what decides."""

    STARTING = "starting"
    """Some replica is not up yet."""
    RUNNING = "running"
    """All of its replicas passed their health check."""
    FAILED = "failed"
    """The constructor raised, or the deployment could not be built."""
    UNHEALTHY = "unhealthy"
    """It ran; now no replica does."""
    DELETING = "deleting"
    """On its way out."""


@dataclass(frozen=True, slots=True)
class Application:
    """One Ray Serve application as observed."""

    name: str
    state: ApplicationState
    running_replicas: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the stages may last, in seconds."""

    fetch_s: float
    load_s: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch and inspect the artifact, register the model."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Start:
    """Write the assignment and start the Serve application."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Run one real inference through the handle; if it succeeds the deployment is ready."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Degrade:
    """It was ready; no replica is running."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Fail:
    """It never became ready and will not."""

    deployment: Deployment
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class RemoveApplication:
    """Free a Serve application that nobody should be using."""

    name: str


@dataclass(frozen=True, slots=True)
class MarkDeleted:
    """Its application is gone: the deployment is deleted."""

    deployment: Deployment


Command = Prepare | Start | WarmUp | Degrade | Fail | RemoveApplication | MarkDeleted


def plan(
    desired: Iterable[Deployment], observed: Iterable[Application], now: float, *, bounds: Bounds
) -> list[Command]:
    """The commands that bring what is observed nearer to what is desired, in no particular order.

    `observed` holds every application of this platform that Serve knows, those being deleted included.
    """
    applications = {application.name: application for application in observed}
    deployments = list(desired)
    commands: list[Command] = []
    for deployment in deployments:
        commands += _plan_one(deployment, applications.get(deployment.id), now, bounds)
    known = {deployment.id for deployment in deployments}
    commands += [
        RemoveApplication(application.name)
        for application in applications.values()
        if application.name not in known and application.state is not ApplicationState.DELETING
    ]
    return commands


def _plan_one(
    deployment: Deployment, application: Application | None, now: float, bounds: Bounds
) -> Iterator[Command]:
    match deployment.status:
        case DeploymentStatus.PROVISIONING:
            yield from _plan_provisioning(deployment, application, now - deployment.stage_at, bounds)
        case DeploymentStatus.READY:
            if application is None or application.running_replicas == 0:
                yield Degrade(deployment)
        case DeploymentStatus.DEGRADED:
            yield from _plan_degraded(deployment, application)
        case DeploymentStatus.FAILED:
            yield from _plan_removal(application)
        case DeploymentStatus.DRAINING:
            if application is None:
                yield MarkDeleted(deployment)
            elif now - deployment.stage_at >= bounds.drain_s:
                yield from _plan_removal(application)
        case DeploymentStatus.DELETED:
            yield from _plan_removal(application)


def _plan_provisioning(
    deployment: Deployment, application: Application | None, age_s: float, bounds: Bounds
) -> Iterator[Command]:
    if deployment.stage in (Stage.FETCHING, Stage.INSPECTING):
        if age_s > bounds.fetch_s:
            yield Fail(
                deployment, "load_timeout", f"The stage {deployment.stage} took over {bounds.fetch_s:g} s."
            )
        else:
            yield Prepare(deployment)
    elif application is not None and application.state is ApplicationState.FAILED:
        yield Fail(deployment, "replica_failed", application.message)
    elif age_s > bounds.load_s:
        yield Fail(deployment, *_why_not_started(application, bounds))
    elif application is None:
        yield Start(deployment)
    elif application.running_replicas > 0:
        yield WarmUp(deployment)


def _why_not_started(application: Application | None, bounds: Bounds) -> tuple[str, str]:
    if application is not None and "scheduled" in application.message:
        return "no_capacity", application.message
    return "load_timeout", f"No replica was ready after {bounds.load_s:g} s."


def _plan_degraded(deployment: Deployment, application: Application | None) -> Iterator[Command]:
    if application is None:
        yield Start(deployment)
    elif application.running_replicas > 0:
        yield WarmUp(deployment)
    elif application.state is ApplicationState.FAILED:
        yield RemoveApplication(application.name)


def _plan_removal(application: Application | None) -> Iterator[Command]:
    if application is not None and application.state is not ApplicationState.DELETING:
        yield RemoveApplication(application.name)
