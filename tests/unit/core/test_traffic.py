"""How the traffic of a model moves to a new deployment, and back."""

from __future__ import annotations

import pytest

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.traffic import Shift, plan_promotion, plan_rollback


def deployment(
    name: str, traffic: int, status: str = "ready", replaced: dict[str, int] | None = None
) -> Deployment:
    """A deployment of the model with that much traffic."""
    return Deployment(
        id=name, org="org_a", status=DeploymentStatus(status), stage=Stage.READY, model="m", model_uri="models://m",
        region="us-east-1", created=1, updated=1, stage_at=1.0, traffic=traffic, replaced=replaced,
    )  # fmt: skip


OLD, NEW, IDLE = deployment("dep_a", 100), deployment("dep_b", 10), deployment("dep_c", 0)


def test_a_promotion_takes_all_traffic() -> None:
    """What the others had is kept; those that had none are left alone."""
    assert plan_promotion(NEW, [OLD, IDLE]) == Shift(NEW, {"dep_b": 100, "dep_a": 0}, {"dep_a": 100})


def test_promoted_again_it_remembers_what_it_took() -> None:
    """A repetition, whose first answer was lost, takes nothing from anybody."""
    promoted = deployment("dep_b", 100, replaced={"dep_a": 100})
    assert plan_promotion(promoted, [deployment("dep_a", 0)]) == Shift(
        promoted, {"dep_b": 100}, {"dep_a": 100}
    )


@pytest.mark.parametrize("status", ["provisioning", "degraded"])
def test_what_is_not_ready_is_not_promoted(status: str) -> None:
    """All traffic would go where nothing answers."""
    with pytest.raises(PlatformError) as caught:
        plan_promotion(deployment("dep_b", 10, status), [OLD])
    assert caught.value.code == "deployment_not_changeable"


def test_a_canary_is_taken_out() -> None:
    """The incumbent's weight stays: it has all of it now."""
    assert plan_rollback(NEW, [OLD, IDLE]) == Shift(NEW, {"dep_b": 0}, None)


def test_a_promotion_is_undone() -> None:
    """Each has what it had, one that is gone by now aside."""
    promoted = deployment("dep_b", 100, replaced={"dep_a": 70, "dep_c": 30, "dep_gone": 5})
    shift = plan_rollback(promoted, [deployment("dep_a", 0), IDLE])
    assert shift == Shift(promoted, {"dep_a": 70, "dep_c": 30, "dep_b": 0}, None)


def test_with_nothing_to_remember_the_newest_other_one_takes_it() -> None:
    """Weights of 0 all around, as after calls of PATCH."""
    shift = plan_rollback(deployment("dep_b", 100), [deployment("dep_a", 0), deployment("dep_d", 0)])
    assert shift.weights == {"dep_d": 100, "dep_b": 0}


def test_traffic_of_one_that_does_not_answer_yet_is_not_enough() -> None:
    """The only other one with traffic is being provisioned: one that is ready takes it."""
    others = [deployment("dep_a", 0), deployment("dep_d", 50, "provisioning")]
    assert plan_rollback(deployment("dep_b", 100), others).weights == {"dep_a": 100, "dep_b": 0}


@pytest.mark.parametrize(
    "others", [[], [deployment("dep_a", 100, "failed")], [deployment("dep_a", 0, "provisioning")]]
)
def test_without_another_one_it_stays(others: list[Deployment]) -> None:
    """Nothing would answer."""
    with pytest.raises(PlatformError) as caught:
        plan_rollback(NEW, others)
    assert caught.value.code == "deployment_not_changeable"
