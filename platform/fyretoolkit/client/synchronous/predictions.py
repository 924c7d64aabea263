# Generated from ../asynchronous/predictions.py by scripts/describe: change that one.
"""`client.predictions`, and `client.predict` in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fyretoolkit.client.calls import left_in, path_of, send_json
from fyretoolkit.client.inputs import Inputs, check_inputs
from fyretoolkit.client.predictions import Prediction
from fyretoolkit.client.synchronous.transport import Transport


class Predictions:
    """Predictions: answered at once, and not stored."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model: str,
        inputs: Inputs,
        *,
        metadata: Mapping[str, Any] | None = None,
        region: str | None = None,
        timeout_ms: int | None = None,
        on_error: Literal["fail", "continue"] | None = None,
    ) -> Prediction:
        """One result for each input, in order. A prediction changes nothing, so it is sent again when it got lost.

        `timeout_ms`: what the platform allows itself for one attempt. `on_error="continue"`: an error in the place of
        each input that does not fit, instead of one for all.
        """
        options = left_in({"region": region, "timeout_ms": timeout_ms, "on_error": on_error})
        body = left_in({"inputs": check_inputs(inputs), "metadata": metadata, "options": options or None})
        return self._transport.fetch(send_json("POST", path_of("predict", model), body), Prediction)
