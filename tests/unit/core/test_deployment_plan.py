"""What the controller decides, for each state of a deployment and of its application. No clock, no Ray, no Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.capacity import Ask, Shortage
from fyretoolkit.core.deployments import (
    Application,
    ApplicationState,
    Bounds,
    Command,
    Degrade,
    Deployment,
    Fail,
    MarkDeleted,
    Prepare,
    RemoveApplication,
    Scale,
    Start,
    WarmUp,
    observed_counts,
    plan,
    scale_from_outside,
)
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage

BOUNDS = Bounds(fetch_s=100, load_s=60, drain_s=2)
NOW = 1_000_000.0
SHORTAGE = Shortage(Ask({"CPU": 4.0}, {}), {"CPU": 0.5})
DEPLOYMENT = Deployment(
    id="dep_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    org="org_a",
    status=DeploymentStatus.PROVISIONING,
    stage=Stage.FETCHING,
    model="m",
    model_uri="models://m",
    region="us-east-1",
    created=1,
    updated=1,
    stage_at=NOW - 1,
)


def deployment(status: str, stage: str = "ready", age_s: float = 1) -> Deployment:
    """The deployment in a state, that it has been in for `age_s`."""
    return replace(DEPLOYMENT, status=DeploymentStatus(status), stage=Stage(stage), stage_at=NOW - age_s)


def application(state: str, running: int = 0, message: str = "", **more: Any) -> Application:
    """Its application."""
    return Application(DEPLOYMENT.id, ApplicationState(state), running, message, **more)


def decided(desired: Deployment, observed: Application | None) -> list[Command]:
    """The plan for one deployment."""
    return plan([desired], [observed] if observed else [], NOW, bounds=BOUNDS)


FETCHING = deployment("provisioning", "fetching")
STARTING = deployment("provisioning", "starting")
WARMING = deployment("provisioning", "warming")
READY = deployment("ready")
DEGRADED = deployment("degraded")
DRAINING = deployment("draining", age_s=3)
FAILED = deployment("failed")
BOUNDED = replace(READY, autoscaling={"min_replicas": 2, "max_replicas": 4})


@pytest.mark.parametrize(
    ("desired", "observed", "commands"),
    [
        (FETCHING, None, [Prepare(FETCHING)]),
        (STARTING, None, [Start(STARTING)]),
        (STARTING, application("starting"), []),
        (STARTING, application("running", 1), [WarmUp(STARTING)]),
        (WARMING, application("running", 1), [WarmUp(WARMING)]),
        (WARMING, None, [Start(WARMING)]),
        (STARTING, application("failed", message="boom"), [Fail(STARTING, "replica_failed", "boom")]),
        (READY, application("running", 1), []),
        (READY, application("starting", 1), []),
        (READY, application("unhealthy", 0), [Degrade(READY)]),
        (READY, None, [Degrade(READY)]),
        (DEGRADED, None, [Start(DEGRADED)]),
        (DEGRADED, application("running", 1), [WarmUp(DEGRADED)]),
        (DEGRADED, application("failed"), [RemoveApplication(DEPLOYMENT.id)]),
        (DRAINING, application("running", 1), [RemoveApplication(DEPLOYMENT.id)]),
        (DRAINING, application("deleting", 1), []),
        (DRAINING, None, [MarkDeleted(DRAINING)]),
        (FAILED, application("failed"), [RemoveApplication(DEPLOYMENT.id)]),
        (FAILED, None, []),
    ],
)
def test_decisions(desired: Deployment, observed: Application | None, commands: list[Command]) -> None:
    """The whole table of decisions, by hand."""
    assert decided(desired, observed) == commands


def test_draining_waits_for_late_ingresses() -> None:
    """A deployment that just left the routing table keeps its replicas for the drain time."""
    assert decided(deployment("draining", age_s=1), application("running", 1)) == []


@pytest.mark.parametrize(
    ("stage", "observed", "code"),
    [
        ("fetching", None, "load_timeout"),
        ("starting", application("starting"), "load_timeout"),
        (
            "starting",
            application("starting", shortage=SHORTAGE, is_placed=False),
            "no_capacity",
        ),
        ("warming", application("running", 1), "load_timeout"),
    ],
)
def test_stages_are_bounded(stage: str, observed: Application | None, code: str) -> None:
    """A stage that lasts too long ends the deployment, with a code that says why."""
    (command,) = decided(deployment("provisioning", stage, age_s=101), observed)
    assert isinstance(command, Fail)
    assert command.code == code


@pytest.mark.parametrize(
    ("desired", "observed", "commands"),
    [
        (READY, application("running", 1, replica_range=(1, 1)), []),
        (READY, application("running", 2, replica_range=(2, 2)), [Scale(READY)]),
        (READY, application("unhealthy", 0, replica_range=(2, 2)), [Degrade(READY)]),
        (BOUNDED, application("running", 1, replica_range=(1, 1)), [Scale(BOUNDED)]),
        (BOUNDED, application("running", 3, replica_range=(2, 4)), []),
        (STARTING, application("starting", 0, replica_range=(9, 9)), [Scale(STARTING)]),
        (STARTING, application("running", 1, replica_range=(9, 9)), [WarmUp(STARTING)]),
        (DEGRADED, application("unhealthy", 0, replica_range=(9, 9)), [Scale(DEGRADED)]),
        (DEGRADED, application("running", 1, replica_range=(9, 9)), [WarmUp(DEGRADED)]),
        (DEGRADED, application("failed", 0, replica_range=(9, 9)), [RemoveApplication(DEPLOYMENT.id)]),
        (DRAINING, application("deleting", 1, replica_range=(9, 9)), []),
        (FAILED, application("deleting", 1, replica_range=(9, 9)), []),
    ],
)
def test_the_scale_follows_what_is_desired(
    desired: Deployment, observed: Application, commands: list[Command]
) -> None:
    """Whoever set it, and whenever: a number of replicas, or bounds, that differ are set anew."""
    assert decided(desired, observed) == commands


@pytest.mark.parametrize(
    ("autoscaling", "target", "desired"),
    [
        (None, 7, 3), (None, 0, 3), ({"min_replicas": 2, "max_replicas": 5}, None, 3),
        ({"min_replicas": 4, "max_replicas": 5}, None, 4), ({"min_replicas": 2, "max_replicas": 5}, 4, 4),
        ({"min_replicas": 2, "max_replicas": 5}, 9, 5), ({"min_replicas": 2, "max_replicas": 5}, 0, 2),
        ({"min_replicas": 0, "max_replicas": 5}, 0, 0), ({"min_replicas": 0, "max_replicas": 5}, None, 3),
    ],
)  # fmt: skip
def test_how_many_replicas_are_desired(
    autoscaling: dict[str, int] | None, target: int | None, desired: int
) -> None:
    """The number asked for; with autoscaling what Serve aims at, or starts at, which new bounds hold at once."""
    found = replace(READY, replicas=3, autoscaling=autoscaling, target_replicas=target)
    assert found.desired_replicas == desired


SLEEPER = replace(
    READY, autoscaling={"min_replicas": 0, "max_replicas": 2}, ready_replicas=1, target_replicas=1
)
ASLEEP = replace(SLEEPER, ready_replicas=0, target_replicas=0)
WAKING = replace(ASLEEP, target_replicas=1, updated=int(NOW) - 60)
WANTED = replace(ASLEEP, autoscaling={"min_replicas": 1, "max_replicas": 2}, target_replicas=1)


def sleeper(state: str, running: int, target: int) -> Application:
    """An application that autoscaling may take to zero."""
    return application(state, running, replica_range=(0, 2), target_replicas=target)


@pytest.mark.parametrize(
    ("desired", "observed", "commands"),
    [
        (SLEEPER, sleeper("running", 1, 1), []),
        (SLEEPER, sleeper("running", 0, 0), []),
        (ASLEEP, sleeper("running", 0, 0), []),
        (ASLEEP, sleeper("running", 0, 1), []),
        (SLEEPER, sleeper("running", 0, 1), []),
        (WAKING, sleeper("running", 0, 1), []),
        (WAKING, sleeper("running", 1, 1), []),
        (replace(WAKING, updated=int(NOW) - 61), sleeper("running", 0, 1),
         [Degrade(replace(WAKING, updated=int(NOW) - 61))]),
        (WAKING, sleeper("unhealthy", 0, 1), [Degrade(WAKING)]),
        (WAKING, sleeper("failed", 0, 1), [Degrade(WAKING)]),
        (SLEEPER, sleeper("unhealthy", 0, 1), [Degrade(SLEEPER)]),
        (ASLEEP, sleeper("deleting", 0, 0), [Degrade(ASLEEP)]),
        (ASLEEP, None, [Degrade(ASLEEP)]),
        (WANTED, sleeper("running", 0, 0), [Scale(WANTED)]),
        (replace(WANTED, updated=int(NOW) - 60),
         application("starting", 0, replica_range=(1, 2), target_replicas=1), []),
        (replace(READY, ready_replicas=1), application("running", 0, replica_range=(1, 1), target_replicas=1),
         [Degrade(replace(READY, ready_replicas=1))]),
    ],
)  # fmt: skip
def test_a_deployment_asleep_is_ready(
    desired: Deployment, observed: Application | None, commands: list[Command]
) -> None:
    """Autoscaling took it to zero, or its first replica after that starts: no reason to degrade it.

    A replica that fails is one, and so is one that takes longer to come up than any may.
    """
    assert decided(desired, observed) == commands


@pytest.mark.parametrize("status", ["provisioning", "degraded"])
def test_a_deployment_that_fell_asleep_before_it_was_warmed_up_is_warmed_up(status: str) -> None:
    """The first inference wakes it. Left alone it would never be ready: nobody is sent to it."""
    desired = replace(deployment(status, "starting"), autoscaling=SLEEPER.autoscaling)
    assert decided(desired, sleeper("running", 0, 0)) == [WarmUp(desired)]


@pytest.mark.parametrize(
    ("desired", "starting"),
    [
        (ASLEEP, 0),
        (replace(ASLEEP, status=DeploymentStatus.DEGRADED), 1),
        (replace(ASLEEP, status=DeploymentStatus.PROVISIONING, target_replicas=None), 1),
        (replace(ASLEEP, autoscaling={"min_replicas": 2, "max_replicas": 3}), 2),
        (replace(SLEEPER, target_replicas=2), 2),
    ],
)
def test_with_how_many_replicas_it_starts(desired: Deployment, starting: int) -> None:
    """One at least is warmed up; one that sleeps stays asleep when its bounds change."""
    assert desired.starting_replicas == starting


@pytest.mark.parametrize(
    ("desired", "observed", "counts"),
    [
        (SLEEPER, sleeper("running", 2, 2), (2, 2)),
        (SLEEPER, sleeper("running", 0, 0), (0, 0)),
        (ASLEEP, sleeper("running", 0, 1), (0, 1)),
        (SLEEPER, sleeper("running", 0, 1), (0, 1)),
        (WAKING, sleeper("running", 1, 1), (1, 1)),
        (SLEEPER, sleeper("unhealthy", 0, 1), (1, 1)),
        (WANTED, sleeper("running", 0, 0), (0, 1)),
        (SLEEPER, None, (1, 1)),
        (replace(SLEEPER, status=DeploymentStatus.DRAINING), sleeper("running", 0, 0), (1, 1)),
    ],
)
def test_what_is_recorded_of_its_replicas(
    desired: Deployment, observed: Application | None, counts: tuple[int, int]
) -> None:
    """What runs and what is aimed at; of one that is about to be degraded, that drains or has other bounds, not."""
    assert observed_counts(desired, observed) == counts


@pytest.mark.parametrize(
    ("age_s", "shortage", "code"),
    [
        (300, SHORTAGE, None),
        (301, SHORTAGE, "no_capacity"),
        (301, None, None),
        (360, None, None),
        (361, None, "load_timeout"),
    ],
)
def test_a_wait_for_capacity_lasts_as_long_as_the_caller_said(
    age_s: float, shortage: Shortage | None, code: str | None
) -> None:
    """300 s; a replica that found room has its 60 s to load after that."""
    waiting = replace(deployment("provisioning", "starting", age_s), max_wait_s=300)
    observed = application("starting", shortage=shortage, is_placed=False)
    commands = plan([waiting], [observed], NOW, bounds=replace(BOUNDS, place_s=5))
    assert [command.code for command in commands if isinstance(command, Fail)] == ([code] if code else [])


def test_a_short_wait_is_short() -> None:
    """1 s: nobody waits for the 60 s that loading may take. What was asked for and what is free is said."""
    waiting = replace(deployment("provisioning", "starting", age_s=3), max_wait_s=1)
    observed = application("starting", shortage=SHORTAGE, is_placed=False)
    (command,) = plan([waiting], [observed], NOW, bounds=replace(BOUNDS, place_s=5))
    assert command == Fail(
        waiting,
        "no_capacity",
        "No node had room for a replica within 1 s. A replica asks for 4 CPU. "
        "The node with the most room has 0.5 CPU free.",
        {"asked": {"CPU": 4.0}, "labels": {}, "free": {"CPU": 0.5}},
    )


@pytest.mark.parametrize(("age_s", "count"), [(5, 0), (6, 1)])
def test_nobody_who_named_no_wait_waits_for_long(age_s: float, count: int) -> None:
    """Ray would leave it waiting for ever. 5 s without room are enough, of the 60 that loading may take."""
    waiting = deployment("provisioning", "starting", age_s)
    observed = application("starting", shortage=SHORTAGE, is_placed=False)
    commands = plan([waiting], [observed], NOW, bounds=replace(BOUNDS, place_s=5))
    assert [isinstance(command, Fail) for command in commands].count(True) == count


def test_a_second_replica_without_room_fails_nobody() -> None:
    """The first found a node and loads: it will serve."""
    loading = deployment("provisioning", "starting", age_s=20)
    observed = application("starting", shortage=SHORTAGE, replica_range=(1, 1))
    assert plan([loading], [observed], NOW, bounds=replace(BOUNDS, place_s=5)) == []


@pytest.mark.parametrize(
    ("desired", "observed", "wanted"),
    [
        (READY, application("running", 1, replica_range=(1, 1), target_replicas=2, is_scalable=True), 2),
        (READY, application("running", 1, replica_range=(1, 1), target_replicas=1, is_scalable=True), None),
        (READY, application("running", 1, replica_range=(1, 1), target_replicas=0, is_scalable=True), None),
        (READY, application("running", 1, replica_range=(3, 3), target_replicas=2, is_scalable=True), None),
        (READY, application("running", 1, replica_range=(1, 1), target_replicas=2), None),
        (BOUNDED, application("running", 1, replica_range=(1, 1), target_replicas=2, is_scalable=True), None),
        (READY, application("starting", is_scalable=True), None),
        (READY, None, None),
    ],
)
def test_what_an_operator_set_in_serve_is_wanted(
    desired: Deployment, observed: Application | None, wanted: int | None
) -> None:
    """Where Serve aims at another number than it is configured for, as it does when nobody tells it otherwise.

    What the caller asked for since, and Serve was not told yet, is newer. Load that decides is no operator.
    """
    assert scale_from_outside(desired, observed) == wanted


def test_orphans_are_removed() -> None:
    """An application that no deployment stands for is freed, once."""
    orphan = Application("dep_01ARZ3NDEKTSV4RRFFQ69G5FAW", ApplicationState.RUNNING, 1)
    leaving = Application("dep_01ARZ3NDEKTSV4RRFFQ69G5FAX", ApplicationState.DELETING, 1)
    assert plan([], [orphan, leaving], NOW, bounds=BOUNDS) == [RemoveApplication(orphan.name)]


@given(
    st.sampled_from(list(DeploymentStatus)),
    st.sampled_from(list(Stage)),
    st.sampled_from(list(ApplicationState)) | st.none(),
    st.integers(0, 2),
    st.floats(0, 1000),
    st.integers(0, 2),
)
def test_a_plan_never_resurrects(
    status: DeploymentStatus,
    stage: Stage,
    state: ApplicationState | None,
    running: int,
    age_s: float,
    replicas: int,
) -> None:
    """Whatever is observed, nothing is started for a deployment that failed, drains or is deleted."""
    observed = (
        Application(DEPLOYMENT.id, state, running, replica_range=(replicas, replicas)) if state else None
    )
    commands = decided(deployment(status, stage, age_s), observed)
    assert len(commands) <= 1
    if status in (DeploymentStatus.FAILED, DeploymentStatus.DRAINING, DeploymentStatus.DELETED):
        assert not any(isinstance(command, Prepare | Start | Scale | WarmUp) for command in commands)
