"""Models on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import JsonValue

from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.schemas.wire import Resource


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
            }
        )
