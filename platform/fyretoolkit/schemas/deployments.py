"""Deployments on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.schemas.fields import IdempotencyKey, ModelId, SourceUri
from fyretoolkit.schemas.wire import RequestModel, Resource

MAX_REPLICAS = 1000
Replicas = Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
Traffic = Annotated[int, Field(ge=0, le=100, description="Weight among the model's deployments.")]


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
        SourceUri,
        Field(description="`models://<id>` of a registered model, or where an ONNX file or package lies."),
    ]
    region: Annotated[str, Field(min_length=1, max_length=64)]
    replicas: Replicas = 1
    model_id: Annotated[
        ModelId | None,
        Field(description="The id of the model to register; else its manifest's or file name's."),
    ] = None
    traffic: Traffic = 100
    autoscaling: AutoscalingRequest | None = None
    num_gpus: Annotated[
        float, Field(ge=0, le=64, description="For each replica: a share of one GPU, or whole GPUs.")
    ] = 0.0
    max_wait_s: Annotated[
        int | None,
        Field(
            ge=1,
            le=3600,
            description="How many seconds to wait for a node with room for a replica; else as long as it may load.",
        ),
    ] = None
    idempotency_key: IdempotencyKey | None = None

    @field_validator("num_gpus")
    @classmethod
    def _is_schedulable(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("above 1, use a whole number")
        return value


def _left_out() -> Any:
    """The default of a field that may be left out but not null; whoever reads it asks `model_fields_set` first."""
    return None


class DeploymentChange(RequestModel):
    """The body of `PATCH /deployments/{id}`: what is left out stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "examples": [
                {"replicas": 3},
                {"autoscaling": {"min_replicas": 1, "max_replicas": 4}},
                {"traffic": 10},
            ],
        }
    )

    replicas: Replicas = Field(
        default_factory=_left_out, description="Their number while autoscaling is off."
    )
    autoscaling: Annotated[
        AutoscalingRequest | None, Field(description="null switches it off: `replicas` are then kept.")
    ] = None
    traffic: Traffic = Field(default_factory=_left_out)

    @model_validator(mode="after")
    def _changes_something(self) -> DeploymentChange:
        if not self.model_fields_set:
            raise ValueError("send at least one of replicas, autoscaling, traffic")
        return self


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
    max_wait_s: int | None
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
                "replicas": {"desired": deployment.desired_replicas, "ready": deployment.ready_replicas},
                "traffic": deployment.traffic,
                "autoscaling": deployment.autoscaling,
                "batching": {"max_batch_size": batch_size} if batch_size else None,
                "num_gpus": deployment.num_gpus,
                "max_wait_s": deployment.max_wait_s,
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
