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
from typing import Any

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
    revision: int = 0
    """Counts the caller's changes: what was decided on an older one is decided again."""
    replicas: int = 1
    """How many are wanted while `autoscaling` is None, and where autoscaling starts."""
    ready_replicas: int = 0
    target_replicas: int | None = None
    """How many Serve aims at, as last observed: with autoscaling, Serve decides. None before it was asked."""
    is_scale_chosen: bool = False
    """Whether the caller named `replicas` or `autoscaling`; else the package's own manifest may."""
    traffic: int = 100
    num_gpus: float = 0.0
    max_wait_s: int | None = None
    """How long it may wait for capacity; None: as long as it may load."""
    is_model_id_chosen: bool = False
    """Whether the caller named the model; else the package's own manifest may."""
    autoscaling: Mapping[str, int] | None = None
    sha256: str | None = None
    """What the bytes at `model_uri` must be; None: anything."""
    artifact: str | None = None
    spec: Mapping[str, object] | None = None
    batching: Mapping[str, Any] | None = None
    """A `core.batching.Batching`, measured at the first warm-up; None before."""
    error: Mapping[str, object] | None = None
    schema: int = 1

    @property
    def replica_range(self) -> tuple[int, int]:
        """The fewest and the most replicas wanted; equal while their number is fixed."""
        if self.autoscaling is None:
            return self.replicas, self.replicas
        return self.autoscaling["min_replicas"], self.autoscaling["max_replicas"]

    @property
    def desired_replicas(self) -> int:
        """How many replicas are wanted now; under bounds that are new to Serve, where it starts."""
        fewest, most = self.replica_range
        wanted = self.replicas if self.target_replicas is None else self.target_replicas
        return min(max(wanted, fewest), most)

    @property
    def starting_replicas(self) -> int:
        """How many Serve starts with, or goes to when the bounds change: one at least that is to be warmed up."""
        is_warm = self.status is DeploymentStatus.READY
        return max(self.desired_replicas, 0 if is_warm else 1)


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
    replica_range: tuple[int, int] | None = None
    """The fewest and the most replicas it is configured for; None while Serve does not say."""
    target_replicas: int = 0
    """How many of them Serve aims at now."""
    is_placed: bool = True
    """Whether some node had room for a replica."""

    @property
    def may_sleep(self) -> bool:
        """Whether autoscaling may take it to no replica at all."""
        return self.replica_range is not None and self.replica_range[0] == 0

    @property
    def is_asleep(self) -> bool:
        """Whether autoscaling did; a call wakes it."""
        is_over = self.state in (ApplicationState.FAILED, ApplicationState.DELETING)
        return self.may_sleep and not (is_over or self.running_replicas or self.target_replicas)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the stages may last, in seconds."""

    fetch_s: float
    load_s: float
    drain_s: float
    place_s: float = 0.0
    """How long a process takes to start where there is room: no time spent waiting for capacity."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch and inspect the artifact, register the model."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Start:
    """Write the assignment and start the Serve application."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Scale:
    """Give the running application the number of replicas, or the bounds, that are wanted by now."""

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


Command = Prepare | Start | Scale | WarmUp | Degrade | Fail | RemoveApplication | MarkDeleted


def observed_counts(deployment: Deployment, application: Application | None) -> tuple[int, int | None]:
    """How many replicas of a deployment are ready, and how many Serve aims at, as its record should say.

    As it says already, unless the deployment is ready and its application serves.
    """
    known = deployment.ready_replicas, deployment.target_replicas
    if deployment.status is not DeploymentStatus.READY or application is None:
        return known
    if not _is_serving(deployment, application):
        return known
    # What Serve aims at under bounds that are no longer wanted says nothing of those that are.
    is_scaled = application.replica_range in (None, deployment.replica_range)
    return application.running_replicas, application.target_replicas if is_scaled else known[1]


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
            yield from _plan_ready(deployment, application, now, bounds)
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
    elif age_s > (limit_s := _start_limit_s(deployment, application, bounds)):
        yield _not_started(deployment, application, limit_s)
    elif application is None:
        yield Start(deployment)
    elif application.running_replicas > 0 or application.is_asleep:
        yield WarmUp(deployment)  # which wakes it
    else:
        yield from _plan_scale(deployment, application)


def _plan_ready(
    deployment: Deployment, application: Application | None, now: float, bounds: Bounds
) -> Iterator[Command]:
    if (
        application is None
        or not _is_serving(deployment, application)
        or _wakes_too_long(deployment, application, now, bounds)
    ):
        yield Degrade(deployment)
    else:
        yield from _plan_scale(deployment, application)


def _is_serving(deployment: Deployment, application: Application) -> bool:
    """Whether replicas run, or none does because nobody called, or the first one after such a sleep is starting."""
    if application.running_replicas or application.is_asleep:
        return True
    is_sound = application.state in (ApplicationState.RUNNING, ApplicationState.STARTING)
    # One that may sleep can have slept, and been woken, since the last look.
    return is_sound and (application.may_sleep or not deployment.ready_replicas)


def _wakes_too_long(deployment: Deployment, application: Application, now: float, bounds: Bounds) -> bool:
    if application.running_replicas or application.is_asleep:
        return False
    # Once the record says that it is being woken, that was its last change.
    is_recorded = deployment.ready_replicas == 0 and bool(deployment.target_replicas)
    return is_recorded and now - deployment.updated > bounds.load_s


def _start_limit_s(deployment: Deployment, application: Application | None, bounds: Bounds) -> float:
    """How long the stage may last: waiting for capacity as long as the caller said, then loading."""
    if deployment.max_wait_s is None or deployment.stage is not Stage.STARTING:
        return bounds.load_s
    is_placed = application is not None and application.is_placed
    return deployment.max_wait_s + (bounds.load_s if is_placed else bounds.place_s)


def _not_started(deployment: Deployment, application: Application | None, limit_s: float) -> Fail:
    if application is None or application.is_placed:
        return Fail(deployment, "load_timeout", f"No replica was ready after {limit_s:g} s.")
    message = f"No node had room for a replica within {deployment.max_wait_s or limit_s:g} s."
    return Fail(deployment, "no_capacity", f"{message} {application.message}".rstrip())


def _plan_scale(deployment: Deployment, application: Application) -> Iterator[Command]:
    if application.replica_range not in (None, deployment.replica_range):
        yield Scale(deployment)


def _plan_degraded(deployment: Deployment, application: Application | None) -> Iterator[Command]:
    if application is None:
        yield Start(deployment)
    elif application.running_replicas > 0 or application.is_asleep:
        yield WarmUp(deployment)
    elif application.state is ApplicationState.FAILED:
        yield RemoveApplication(application.name)
    else:
        yield from _plan_scale(deployment, application)


def _plan_removal(application: Application | None) -> Iterator[Command]:
    if application is not None and application.state is not ApplicationState.DELETING:
        yield RemoveApplication(application.name)
