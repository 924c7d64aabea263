"""`client.predictions`, and `client.predict` in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import left_in, path_of, send_json
from fyretoolkit.client.inputs import Inputs, check_inputs
from fyretoolkit.client.predictions import Prediction


class AsyncPredictions:
    """Predictions: answered at once, and not stored."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
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
        return await self._transport.fetch(send_json("POST", path_of("predict", model), body), Prediction)
