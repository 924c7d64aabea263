"""Models on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.schemas.deployments import FailureBody
from fyretoolkit.schemas.fields import IdempotencyKey, ModelId, SourceSha256, SourceUri
from fyretoolkit.schemas.pages import PageQuery
from fyretoolkit.schemas.wire import RequestModel, Resource

_NULL = {"type": "null"}
_WITH_SOURCE: dict[str, Any] = {
    "title": "With its content",
    "required": ["model_uri"],
    "properties": {"model_uri": {"type": "string"}, "status": _NULL},
}
_IN_TRAINING: dict[str, Any] = {
    "title": "Before its content is there",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string"},
        "status": {"const": "training"},
        "model_uri": _NULL,
        "sha256": _NULL,
    },
}


class ModelCreate(RequestModel):
    """The body of `POST /models`: where the content lies, or `"status": "training"` to publish it later."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [_WITH_SOURCE, _IN_TRAINING],
        }
    )

    id: Annotated[ModelId | None, Field(description="Else the file name of model_uri gives it.")] = None
    model_uri: Annotated[SourceUri | None, Field(description="Where an ONNX file or package lies.")] = None
    sha256: SourceSha256 = None
    status: Literal["training"] | None = None
    """`training`: the content is published later."""
    description: Annotated[
        str | None, Field(max_length=2000, description="Else the package's manifest gives it.")
    ] = None
    idempotency_key: IdempotencyKey | None = None
    """Instead of the header `Idempotency-Key`: the same key gives the same answer for 24 h."""

    @model_validator(mode="after")
    def _has_content_or_waits_for_it(self) -> ModelCreate:
        if (self.model_uri is None) is (self.status is None):
            raise ValueError('send model_uri, or "status": "training" to publish the content later')
        if self.sha256 is not None and self.model_uri is None:
            raise ValueError("sha256 is of the content at model_uri: send it when you publish that")
        return self


class ModelPublish(RequestModel):
    """The body of `POST /models/{id}/publish`."""

    model_uri: Annotated[SourceUri, Field(description="Where an ONNX file or package lies.")]
    sha256: SourceSha256 = None
    idempotency_key: IdempotencyKey | None = None
    """Instead of the header `Idempotency-Key`: the same key gives the same answer for 24 h."""


class ModelQuery(PageQuery):
    """The query of `GET /models`."""

    status: Annotated[ModelStatus | None, Field(description="Only models with this status.")] = None


class TensorSignature(Resource):
    """One input or output of the graph; the first length is the batch, null is a length left open."""

    name: str
    """Its name in the graph."""
    dtype: str
    """The type of its elements."""
    shape: list[int | None]
    """Its lengths, the batch first; null is left open."""


class SignatureResource(Resource):
    """What the model takes and gives."""

    inputs: list[TensorSignature]
    """What it takes."""
    outputs: list[TensorSignature]
    """What it gives."""


class ModelResource(Resource):
    """A model. `deployments` are the ids of those that serve it or are on the way."""

    id: str
    """The model's id."""
    object: Literal["model"] = "model"
    """Always `model`."""
    status: ModelStatus
    """Only a `ready` model can be deployed."""
    created: int
    """When it was registered, in Unix seconds."""
    description: str
    """For people."""
    signature: SignatureResource | None
    """What it takes and gives; null until it is inspected."""
    example: JsonValue = None
    """An input that it takes, of the package's manifest; null without one."""
    sha256: str | None
    """Digest of the package in hexadecimal; null until it is fetched."""
    size_bytes: int
    """Size of the package in bytes; 0 until it is fetched."""
    source_uri: str | None
    """Where its content came from; null before it is published."""
    deployments: list[str]
    """Ids of those that serve it or are on the way."""
    error: Annotated[
        FailureBody | None,
        Field(description="Why the content of source_uri did not become the model. Publish another."),
    ]

    @classmethod
    def from_record(cls, model: Model, deployments: Sequence[str]) -> ModelResource:
        """The stored model as callers see it."""
        spec = model.spec or {}
        return cls.model_validate(
            {
                "id": model.id,
                "status": model.status,
                "created": model.created,
                "description": model.description,
                "signature": spec.get("signature"),
                "example": spec.get("example"),
                "sha256": model.artifact,
                "size_bytes": model.size_bytes,
                "source_uri": model.source_uri,
                "deployments": list(deployments),
                "error": model.error,
            }
        )
