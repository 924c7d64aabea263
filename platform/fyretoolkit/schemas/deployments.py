"""Deployments on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fyretoolkit.core.batching import BatchingReason
from fyretoolkit.core.capacity import LEAST_SHARE
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.schemas.fields import IdempotencyKey, ModelId, SourceSha256, SourceUri, left_out
from fyretoolkit.schemas.wire import RequestModel, Resource, sometimes

MAX_REPLICAS = 1000
Replicas = Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
Traffic = Annotated[int, Field(ge=0, le=100, description="Weight among the model's deployments.")]


class AutoscalingRequest(RequestModel):
    """Bounds of the number of replicas."""

    min_replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
    """The fewest replicas; 0: none while nobody calls, and the next call waits for the first to start."""
    max_replicas: Replicas
    """The most replicas, not below `min_replicas`."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> AutoscalingRequest:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        return self


def _within_bounds(replicas: int, info: ValidationInfo) -> int:
    bounds: AutoscalingRequest | None = info.data.get("autoscaling")
    if bounds is not None and not bounds.min_replicas <= replicas <= bounds.max_replicas:
        raise ValueError(
            "with autoscaling this is where to start, so it must be within min_replicas and max_replicas"
        )
    return replicas


ReplicasWithinBounds = Annotated[Replicas, AfterValidator(_within_bounds)]
"""Declared after `autoscaling`, which it is compared with."""


class DeploymentCreate(RequestModel):
    """The body of `POST /deployments`."""

    model_uri: Annotated[
        SourceUri,
        Field(description="`models://<id>` of a registered model, or where an ONNX file or package lies."),
    ]
    sha256: SourceSha256 = None
    region: Annotated[str, Field(min_length=1, max_length=64)]
    """Where it runs: one of the configured regions."""
    autoscaling: AutoscalingRequest | None = None
    """Bounds between which the load sets the number of replicas; null keeps `replicas`."""
    replicas: Annotated[
        ReplicasWithinBounds, Field(description="Their number; with autoscaling, where it starts.")
    ] = 1
    model_id: Annotated[
        ModelId | None,
        Field(
            description="The id of the model to register; else its manifest's or file name's. With `models://<id>`: "
            "the model that <id> is a new version of, to answer `/predict/<model_id>` beside its other deployments."
        ),
    ] = None
    traffic: Traffic = 100
    num_gpus: Annotated[
        float | None,
        Field(
            ge=0,
            le=64,
            description="For each replica: a share of one GPU, or whole GPUs; 0 keeps it on CPUs. "
            "null: as the model's own manifest says, else 0.",
        ),
    ] = None
    accelerator_type: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$",
            description="The kind of GPU, as Ray names it (`A100`, `L4`), with `num_gpus` alone. "
            "null: as the model's own manifest says, else any.",
        ),
    ] = None
    max_wait_s: Annotated[
        int | None,
        Field(
            ge=1,
            le=3600,
            description="How many seconds to wait for a node with room for a replica; else as long as it may load.",
        ),
    ] = None
    idempotency_key: IdempotencyKey | None = None
    """Instead of the header `Idempotency-Key`: the same key gives the same answer for 24 h."""

    @field_validator("num_gpus")
    @classmethod
    def _is_schedulable(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError("above 1, use a whole number")
        if value is not None and 0 < value < LEAST_SHARE:
            raise ValueError(f"use 0, or a share of at least {LEAST_SHARE:g}")
        return value

    @field_validator("accelerator_type")
    @classmethod
    def _is_of_a_gpu(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "num_gpus" in info.data and not info.data["num_gpus"]:
            raise ValueError("say with num_gpus how many of them, or which share of one")
        return value


class DeploymentChange(RequestModel):
    """The body of `PATCH /deployments/{id}`: what is left out stays as it is; null is refused but for autoscaling."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    autoscaling: Annotated[
        AutoscalingRequest | None, Field(description="null switches it off: `replicas` are then kept.")
    ] = None
    replicas: ReplicasWithinBounds = Field(
        default_factory=left_out,
        description="Their number while autoscaling is off; with new bounds of it, where it starts.",
    )
    traffic: Traffic = Field(default_factory=left_out)

    @model_validator(mode="after")
    def _changes_something(self) -> DeploymentChange:
        if not self.model_fields_set:
            raise ValueError("send at least one of replicas, autoscaling, traffic")
        return self


class ReplicaCounts(Resource):
    """How many replicas are wanted and how many run."""

    desired: int
    """How many are wanted."""
    ready: int
    """How many take traffic."""


class AutoscalingBounds(Resource):
    """Bounds of the number of replicas."""

    min_replicas: int
    """The fewest replicas."""
    max_replicas: int
    """The most replicas."""


class Batching(Resource):
    """How many rows run together, and what that was decided from, measured where the deployment runs."""

    max_batch_size: int
    """Rows of one inference at most; 1: every row runs alone."""
    reason: Annotated[
        BatchingReason,
        Field(
            description="`measured`: nearly the best of `rows_per_s`, joined calls being cheaper. "
            "`manifest`: model.yaml says so. "
            "`depends_on_company`: rows run alone, because their answers differ beside others. "
            "`fixed_batch_axis`: the graph takes one row."
        ),
    ]
    rows_per_s: Annotated[
        dict[str, float], Field(description="Rows a second of the model alone, by rows of one inference.")
    ]
    max_difference: Annotated[
        float | None,
        Field(
            description="The largest difference between a number answered alone and in company; a label or text that "
            "differs counts as 1. null: no rows were run together."
        ),
    ]


class Event(Resource):
    """Something that happened to the deployment."""

    at: int
    """When, in Unix seconds."""
    stage: str
    """The stage, status or change that it was."""
    message: str
    """What happened, in a sentence."""


def _is_missing(details: object) -> bool:
    return details is None


class FailureBody(Resource):
    """Why it failed."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=sometimes("details"))

    code: str
    """A stable error code."""
    message: str
    """What went wrong and what to do next."""
    details: Annotated[
        dict[str, JsonValue] | None,
        Field(exclude_if=_is_missing, description="Left out when there is no more to say."),
    ] = None


class DeploymentResource(Resource):
    """A deployment; it takes traffic once `status` is `ready`."""

    id: str
    """The deployment's id."""
    object: Literal["deployment"] = "deployment"
    """Always `deployment`."""
    status: DeploymentStatus
    """`ready` once it takes traffic."""
    stage: Stage
    """How far a provisioning deployment is."""
    model: str
    """The id of the model that it answers for."""
    version: str
    """The id of the model whose content it serves: `model`, or a new version of that."""
    model_uri: str
    """Where the model came from, as it was asked for."""
    region: str
    """Where it runs."""
    replicas: ReplicaCounts
    """How many are wanted and how many run."""
    traffic: int
    """Weight among the model's deployments, 0 to 100."""
    autoscaling: AutoscalingBounds | None
    """Bounds of the number of replicas; null: it is fixed."""
    batching: Batching | None
    """How rows are joined, measured at the first warm-up; null before."""
    application: str
    """Its application in Ray Serve, where operators find its replicas; another one after it took a standby replica."""
    num_gpus: float
    """GPUs for each replica; below 1 a share of one."""
    accelerator_type: str | None
    """The kind of GPU; null: any, or none at all."""
    max_wait_s: int | None
    """Seconds to wait for a node with room; null: as long as it may load."""
    events: list[Event]
    """What happened to it, oldest first."""
    created: int
    """When it was created, in Unix seconds."""
    updated: int
    """When it last changed, in Unix seconds."""
    endpoint: str
    """The path to predict at."""
    error: FailureBody | None
    """Why it failed; else null."""

    @classmethod
    def from_record(
        cls, deployment: Deployment, events: Iterable[Mapping[str, Any]] = ()
    ) -> DeploymentResource:
        """The stored deployment as callers see it; `events` are those after its creation, oldest first."""
        accepted = {"at": deployment.created, "stage": "accepted", "message": "The request was accepted."}
        return cls.model_validate(
            {
                "id": deployment.id,
                "status": deployment.status,
                "stage": deployment.stage,
                "model": deployment.model,
                "version": deployment.version or deployment.model,
                "model_uri": deployment.model_uri,
                "region": deployment.region,
                "replicas": {"desired": deployment.desired_replicas, "ready": deployment.ready_replicas},
                "traffic": deployment.traffic,
                "autoscaling": deployment.autoscaling,
                "batching": deployment.batching,
                "application": deployment.application,
                "num_gpus": deployment.num_gpus or 0.0,
                "accelerator_type": deployment.accelerator_type,
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
    """The deployment's id."""
    object: Literal["deployment"] = "deployment"
    """Always `deployment`."""
    deleted: Literal[True] = True
    """Always true."""
