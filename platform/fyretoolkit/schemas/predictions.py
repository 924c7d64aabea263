"""`POST /predict/{model_id}`: the body and the answer.

The answer is written by `serving/predict.py` without these models (they would cost more than the inference of a small
model); they describe it in the OpenAPI document, and the contract tests hold the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from fyretoolkit.schemas.errors import ItemErrorBody
from fyretoolkit.schemas.metadata import Metadata
from fyretoolkit.schemas.wire import RequestModel, Resource, sometimes


class PredictionOptions(RequestModel):
    """How this prediction is to be run."""

    region: Annotated[
        str | None, Field(description="Preferred where a ready deployment is there; else any.")
    ] = None
    timeout_ms: Annotated[
        int | None, Field(gt=0, description="Deadline of the whole request in ms; else the configured one.")
    ] = None
    on_error: Annotated[
        Literal["fail", "continue"],
        Field(description="`continue` puts an error in the place of each input that does not fit."),
    ] = "fail"


class PredictionRequest(RequestModel):
    """The body. What an input looks like is the model's signature (`GET /models/{id}`)."""

    inputs: Annotated[
        list[Any],
        Field(min_length=1, description="A string, an object of named features, or nested numbers each."),
    ]
    metadata: Annotated[
        Metadata | None,
        Field(
            description="Echoed back; `correlation_id` and `user_id` reach the logs. An integer of more than 64 bits "
            "comes back as a float: send it as a string."
        ),
    ] = None
    options: PredictionOptions = PredictionOptions()
    """How it is to be run."""


class Usage(Resource):
    """What the prediction cost. `batch_size` is the number of rows of the largest inference it was part of."""

    latency_ms: float
    """The whole request, in ms."""
    queue_ms: float
    """Waiting, and the way to the replica and back, in ms."""
    compute_ms: float
    """The inference, in ms."""
    batch_size: int
    """Rows of the largest inference it was part of."""
    deployment: str
    """The id of the deployment that answered."""
    region: str
    """Where that runs."""


class FailedItem(Resource):
    """In the place of the result of an input that does not fit, with `on_error: continue`."""

    error: ItemErrorBody
    """Why the input has no result."""


class Prediction(Resource):
    """The answer: one result for each input, in order."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=sometimes("metadata"))

    id: str
    """The prediction's id."""
    object: Literal["prediction"] = "prediction"
    """Always `prediction`."""
    created: int
    """When it was answered, in Unix seconds."""
    model: str
    """The id of the model."""
    results: list[JsonValue | FailedItem]
    """One for each input, in order; what one looks like is the model's signature."""
    usage: Usage
    """What it took."""
    metadata: dict[str, JsonValue] | None = None
    """The request's, left out without any."""
