"""Models on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.schemas.deployments import FailureBody
from fyretoolkit.schemas.fields import IdempotencyKey, ModelId, SourceUri
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
    "properties": {"id": {"type": "string"}, "status": {"const": "training"}, "model_uri": _NULL},
}


class ModelCreate(RequestModel):
    """The body of `POST /models`: where the content lies, or `"status": "training"` to publish it later."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [_WITH_SOURCE, _IN_TRAINING],
            "examples": [
                {"id": "digits-v2", "model_uri": "https://models.example.com/digits.onnx"},
                {"id": "digits-v3", "status": "training", "description": "Digits, trained on more data."},
            ],
        }
    )

    id: Annotated[ModelId | None, Field(description="Else the file name of model_uri gives it.")] = None
    model_uri: Annotated[SourceUri | None, Field(description="Where an ONNX file or package lies.")] = None
    status: Literal["training"] | None = None
    description: Annotated[
        str | None, Field(max_length=2000, description="Else the package's manifest gives it.")
    ] = None
    idempotency_key: IdempotencyKey | None = None

    @model_validator(mode="after")
    def _has_content_or_waits_for_it(self) -> ModelCreate:
        if (self.model_uri is None) is (self.status is None):
            raise ValueError('send model_uri, or "status": "training" to publish the content later')
        return self


class ModelPublish(RequestModel):
    """The body of `POST /models/{id}/publish`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model_uri": "https://models.example.com/digits.onnx"}]}
    )

    model_uri: Annotated[SourceUri, Field(description="Where an ONNX file or package lies.")]


class ModelQuery(PageQuery):
    """The query of `GET /models`."""

    status: Annotated[ModelStatus | None, Field(description="Only models with this status.")] = None


class TensorSignature(Resource):
    """One input or output of the graph; the first length is the batch, null is a length left open."""

    name: str
    dtype: str
    shape: list[int | None]


class SignatureResource(Resource):
    """What the model takes and gives."""

    inputs: list[TensorSignature]
    outputs: list[TensorSignature]


class ModelResource(Resource):
    """A model. `deployments` are the ids of those that serve it or are on the way."""

    id: str
    object: Literal["model"] = "model"
    status: ModelStatus
    created: int
    description: str
    signature: SignatureResource | None
    example: JsonValue = None
    sha256: str | None
    size_bytes: int
    source_uri: str | None
    deployments: list[str]
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
