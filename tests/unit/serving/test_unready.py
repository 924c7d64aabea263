"""What a caller is told of a model that nothing answers for."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.serving.unready import not_ready

DEPLOY = "Deploy it with POST /deployments"


def model(status: ModelStatus = ModelStatus.READY, **fields: Any) -> Model:
    """The model `m`."""
    return Model(id="m", org="org_a", status=status, created=1, order="1", **fields)


def deployment(name: str, status: DeploymentStatus, *, org: str = "org_a", traffic: int = 100) -> Deployment:
    """A deployment of it."""
    return Deployment(
        id=name,
        org=org,
        status=status,
        stage=Stage.STARTING,
        model="m",
        model_uri="models://m",
        region="us-east-1",
        created=1,
        updated=1,
        stage_at=1,
        traffic=traffic,
    )


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (model(ModelStatus.ARCHIVED), "GET /models?status=ready"),
        (model(ModelStatus.TRAINING), "POST /models/m/publish"),
        (model(ModelStatus.TRAINING, source_uri="https://a.example/m.onnx"), "Wait: GET /models/m"),
        (model(ModelStatus.TRAINING, source_uri="https://a.example/m.onnx", error={}), "/publish"),
    ],
)
def test_a_model_that_is_not_ready_is_the_reason(found: Model, step: str) -> None:
    """Deploying it would be refused, so that is no advice."""
    error = not_ready("m", found, [])
    assert error.code == "model_not_ready"
    assert f"Model m is {found.status}, not ready." in error.message
    assert step in error.message
    assert DEPLOY not in error.message
    assert error.details == {"status": found.status, "deployments": []}


@pytest.mark.parametrize(
    ("deployments", "step"),
    [
        ([], DEPLOY),
        ([deployment("dep_1", DeploymentStatus.DRAINING)], DEPLOY),
        (
            [deployment("dep_1", DeploymentStatus.PROVISIONING)],
            "Wait until it is ready: GET /deployments/dep_1",
        ),
        (
            [
                deployment("dep_1", DeploymentStatus.FAILED),
                deployment("dep_2", DeploymentStatus.PROVISIONING),
            ],
            "Wait until it is ready: GET /deployments/dep_2",
        ),
        (
            [deployment("dep_2", DeploymentStatus.FAILED), deployment("dep_1", DeploymentStatus.FAILED)],
            "Waiting does not help. Read `error` at GET /deployments/dep_2",
        ),
        (
            [deployment("dep_1", DeploymentStatus.READY, traffic=0)],
            'Waiting does not help. Send {"traffic": 100} with PATCH /deployments/dep_1',
        ),
        ([deployment("dep_1", DeploymentStatus.PROVISIONING, traffic=0)], "PATCH /deployments/dep_1"),
        ([deployment("dep_1", DeploymentStatus.READY, traffic=0, org=PUBLIC_ORG)], DEPLOY),
    ],
)
def test_the_states_of_deployments_say_what_helps(deployments: list[Deployment], step: str) -> None:
    """Waiting, if one is on its way; else what the caller can do."""
    error = not_ready("m", model(), deployments)
    assert step in error.message
    for each in deployments:
        assert f"{each.id} is {each.status}" in error.message
        assert (f"{each.id} is {each.status} with traffic 0" in error.message) == (each.traffic == 0)
    states = [{"id": each.id, "status": each.status, "stage": each.stage} for each in deployments]
    assert error.details == {"deployments": states}


def test_a_model_that_its_deployment_has_yet_to_register() -> None:
    """There is no record of it."""
    error = not_ready("m", None, [deployment("dep_1", DeploymentStatus.PROVISIONING)])
    assert "Wait until it is ready" in error.message
