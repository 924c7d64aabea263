"""Deployments on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import is_slug
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.schemas.wire import RequestModel, Resource

MAX_REPLICAS = 1000
Replicas = Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
IdempotencyKey = Annotated[
    str, Field(min_length=1, max_length=255, description="The same key gives the same answer for 24 h.")
]


class AutoscalingRequest(RequestModel):
    """Bounds of the number of replicas."""

    min_replicas: Replicas
    max_replicas: Replicas

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> AutoscalingRequest:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        return self


class DeploymentCreate(RequestModel):
    """The body of `POST /deployments`."""

    model_uri: Annotated[
        str,
        Field(
            min_length=1,
            max_length=8192,
            description="`models://<id>` of a registered model, or where an ONNX file or package lies.",
        ),
    ]
    region: Annotated[str, Field(min_length=1, max_length=64)]
    replicas: Replicas = 1
    model_id: Annotated[
        str | None, Field(description="The id of the model to register; else its manifest's or file name's.")
    ] = None
    traffic: Annotated[int, Field(ge=0, le=100, description="Weight among the model's deployments.")] = 100
    autoscaling: AutoscalingRequest | None = None
    num_gpus: Annotated[
        float, Field(ge=0, le=64, description="For each replica: a share of one GPU, or whole GPUs.")
    ] = 0.0
    idempotency_key: IdempotencyKey | None = None

    @field_validator("model_id")
    @classmethod
    def _is_slug(cls, value: str | None) -> str | None:
        if value is not None and not is_slug(value):
            raise ValueError(
                "use 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit"
            )
        return value

    @field_validator("num_gpus")
    @classmethod
    def _is_schedulable(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("above 1, use a whole number")
        return value


class ReplicaCounts(Resource):
    """How many replicas are wanted and how many run."""

    desired: int
    ready: int


class AutoscalingBounds(Resource):
    """Bounds of the number of replicas."""

    min_replicas: int
    max_replicas: int


class Batching(Resource):
    """How many rows one inference takes at most."""

    max_batch_size: int


class Event(Resource):
    """Something that happened to the deployment."""

    at: int
    stage: str
    message: str


class FailureBody(Resource):
    """Why it failed."""

    code: str
    message: str
    details: dict[str, JsonValue] | None = None


class DeploymentResource(Resource):
    """A deployment; it takes traffic once `status` is `ready`."""

    id: str
    object: Literal["deployment"] = "deployment"
    status: DeploymentStatus
    stage: Stage
    model: str
    model_uri: str
    region: str
    replicas: ReplicaCounts
    traffic: int
    autoscaling: AutoscalingBounds | None
    batching: Batching | None
    num_gpus: float
    events: list[Event]
    created: int
    updated: int
    endpoint: str
    error: FailureBody | None

    @classmethod
    def from_record(
        cls, deployment: Deployment, events: Iterable[Mapping[str, Any]] = ()
    ) -> DeploymentResource:
        """The stored deployment as callers see it; `events` are those after its creation, oldest first."""
        spec = deployment.spec or {}
        batch_size = spec.get("max_batch_size")
        accepted = {"at": deployment.created, "stage": "accepted", "message": "The request was accepted."}
        return cls.model_validate(
            {
                "id": deployment.id,
                "status": deployment.status,
                "stage": deployment.stage,
                "model": deployment.model,
                "model_uri": deployment.model_uri,
                "region": deployment.region,
                "replicas": {"desired": deployment.replicas, "ready": deployment.ready_replicas},
                "traffic": deployment.traffic,
                "autoscaling": deployment.autoscaling,
                "batching": {"max_batch_size": batch_size} if batch_size else None,
                "num_gpus": deployment.num_gpus,
                "events": [accepted, *events],
                "created": deployment.created,
                "updated": deployment.updated,
                "endpoint": f"/predict/{deployment.model}",
                "error": deployment.error,
            }
        )


class DeletedDeployment(Resource):
    """The answer to a deletion, and to its repetition."""

    id: str
    object: Literal["deployment"] = "deployment"
    deleted: Literal[True] = True
