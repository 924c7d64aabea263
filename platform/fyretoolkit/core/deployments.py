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

from fyretoolkit.core.capacity import Ask, Shortage
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
    replaced: Mapping[str, int] | None = None
    """The traffic that other deployments had before this one was promoted, by their ids; None: it was not."""
    num_gpus: float | None = None
    """Of each replica. None: the caller did not say; the package's own manifest may, and is here once it is read."""
    accelerator_type: str | None = None
    """The kind of GPU, as Ray names it; None: any. The manifest's too, once it is read."""
    max_wait_s: int | None = None
    """How long it may wait for capacity; None: as long as it may load."""
    version: str | None = None
    """The registered model whose content it serves as a version of `model`; None: `model` itself."""
    is_model_id_chosen: bool = False
    """Whether the caller named the model; else the package's own manifest may."""
    autoscaling: Mapping[str, int] | None = None
    standby: str | None = None
    """The application that it took from those that stood by; None: it has one of its own name."""
    sha256: str | None = None
    """What the bytes at `model_uri` must be; None: anything."""
    artifact: str | None = None
    spec: Mapping[str, object] | None = None
    batching: Mapping[str, Any] | None = None
    """A `core.batching.Batching`, measured at the first warm-up; None before."""
    error: Mapping[str, object] | None = None
    schema: int = 1

    @property
    def application(self) -> str:
        """The Serve application whose replicas serve it."""
        return self.standby or self.id

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
    shortage: Shortage | None = None
    """Why no node has room for a replica that it lacks; None: none lacks room."""
    ask: Ask | None = None
    """What each of its replicas needs; None while Serve does not say."""
    is_placed: bool = True
    """Whether a replica of it found a node."""
    is_scalable: bool = False
    """Whether operators may scale it in Serve: its number of replicas is fixed."""

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
    """How long a first replica may lack room, unless the caller said how long it may wait."""


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
    details: Mapping[str, object] | None = None


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


def scale_from_outside(deployment: Deployment, application: Application | None) -> int | None:
    """The number of replicas that an operator set in Serve, which is what is wanted from now on; None: nobody did.

    Serve goes to what it was configured for unless it was told otherwise, so the two differ only then. A change of the
    caller's that Serve has yet to be told goes first. 0 is not taken over: until it is scaled up again the deployment
    is out of service, and stays what it was.
    """
    if application is None or not application.is_scalable or application.replica_range is None:
        return None
    configured, _ = application.replica_range
    target = application.target_replicas
    is_known_to_serve = deployment.autoscaling is None and deployment.replicas == configured
    return target if is_known_to_serve and target not in (0, configured) else None


def plan(
    desired: Iterable[Deployment], observed: Iterable[Application], now: float, *, bounds: Bounds
) -> list[Command]:
    """The commands that bring what is observed nearer to what is desired, in no particular order.

    `observed` holds every application of this platform that Serve knows, those being deleted included; of those that
    stand by, the ones that deployments took.
    """
    applications = {application.name: application for application in observed}
    deployments = list(desired)
    commands: list[Command] = []
    for deployment in deployments:
        commands += _plan_one(deployment, applications.get(deployment.application), now, bounds)
    known = {deployment.application for deployment in deployments}
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
    elif (failure := _overdue(deployment, application, age_s, bounds)) is not None:
        yield failure
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


def _overdue(
    deployment: Deployment, application: Application | None, age_s: float, bounds: Bounds
) -> Fail | None:
    """It waited for room as long as it may, or loads for longer than it may; what it waited is not held against it."""
    wait_s = deployment.max_wait_s or 0
    is_waiting = deployment.stage is Stage.STARTING and application is not None and not application.is_placed
    if is_waiting and application is not None and (shortage := application.shortage) is not None:
        limit_s = wait_s or bounds.place_s
        if age_s <= limit_s:
            return None
        message = f"No node had room for a replica within {limit_s:g} s. {shortage.describe()}"
        return Fail(deployment, "no_capacity", message, shortage.details())
    limit_s = bounds.load_s + (wait_s if deployment.stage is Stage.STARTING else 0)
    if age_s <= limit_s:
        return None
    return Fail(deployment, "load_timeout", f"No replica was ready after {limit_s:g} s.")


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
