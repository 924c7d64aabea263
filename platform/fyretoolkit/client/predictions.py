"""A prediction as the client answers it: results are whatever the model's signature says, so they are of any type."""

from __future__ import annotations

from typing import Any

from fyretoolkit.schemas import predictions


class Prediction(predictions.Prediction):
    """The answer: one result for each input, in order."""

    results: list[Any]
    """With `on_error="continue"`, an input that does not fit has `{"error": {"code", "message"}}` in its place."""
