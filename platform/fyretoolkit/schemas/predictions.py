"""`POST /predict/{model_id}`: the body and the answer.

The answer is written by `serving/predict.py` without these models (they would cost more than the inference of a small
model); they describe it in the OpenAPI document, and the contract tests hold the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from fyretoolkit.schemas.errors import ItemErrorBody
from fyretoolkit.schemas.metadata import Metadata
from fyretoolkit.schemas.wire import RequestModel, Resource


class PredictionOptions(RequestModel):
    """How this prediction is to be run."""

    region: Annotated[str | None, Field(description="Preferred where a ready deployment is there.")] = None
    timeout_ms: Annotated[int | None, Field(gt=0, description="Deadline of the whole request.")] = None
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
        Field(description="Echoed back; `correlation_id` and `user_id` reach the logs."),
    ] = None
    options: PredictionOptions = PredictionOptions()


class Usage(Resource):
    """What the prediction cost. `batch_size` is the number of rows of the largest inference it was part of."""

    latency_ms: float
    queue_ms: float
    compute_ms: float
    batch_size: int
    deployment: str
    region: str


class FailedItem(Resource):
    """In the place of the result of an input that does not fit, with `on_error: continue`."""

    error: ItemErrorBody


class Prediction(Resource):
    """The answer: one result for each input, in order."""

    id: str
    object: Literal["prediction"] = "prediction"
    created: int
    model: str
    results: list[JsonValue | FailedItem]
    usage: Usage
    metadata: dict[str, JsonValue] | None = None
