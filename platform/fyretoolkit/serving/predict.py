"""One prediction, bytes to bytes: parse → route → decode → run → encode, and its outcome recorded.

It knows neither HTTP nor Ray, so the FastAPI app, a middleware in front of it and the tests all call this.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.organizations import Principal
from fyretoolkit.models.codec import ItemError
from fyretoolkit.schemas.errors import about_field, invalid_field, parse_request
from fyretoolkit.schemas.predictions import PredictionRequest
from fyretoolkit.serving.deadlines import Deadline
from fyretoolkit.serving.recording import Outcome, Recorder
from fyretoolkit.serving.replica import ReplicaAnswer, ReplicaCall
from fyretoolkit.serving.routing import Route, RoutingTable
from fyretoolkit.settings import LimitSettings

SEND_FEWER = "Send the inputs in several requests, or as a batch with POST /batch."
_SHOWN_ERRORS = 100
_LOGGED_METADATA = ("correlation_id", "user_id")
_MAX_LOGGED_CHARS = 200

logger = logging.getLogger("fyretoolkit.predictions")


class Predictor:
    """The predict path of one ingress replica."""

    def __init__(
        self,
        routes: RoutingTable,
        call: ReplicaCall,
        limits: LimitSettings,
        *,
        regions: Collection[str],
        recorder: Recorder,
    ) -> None:
        self._routes = routes
        self._call = call
        self._limits = limits
        self._regions = tuple(regions)
        self._recorder = recorder

    async def predict(self, principal: Principal, model_id: str, body: bytes, request_id: str) -> bytes:
        """The answer's JSON.

        Raises:
            PlatformError: what `parse_prediction`, `RoutingTable.route` and `run_inputs` raise;
                `deadline_exceeded`.
        """
        with self._recorder.begin() as outcome:
            request = parse_prediction(body, self._limits, self._regions)
            deadline = Deadline(request.options.timeout_ms or self._limits.default_timeout_ms)
            _log_metadata(request.metadata, request_id)
            async with deadline.bounding():
                route = await self._routes.route(principal.org, model_id, request.options.region)
            outcome.routed(route, len(request.inputs))
            results = await run_inputs(self._call, route, request, deadline=deadline, outcome=outcome)
            deadline.remaining_s()
            outcome.answered()
            return render_prediction(route, results, outcome, request.metadata)

    def count_refusal(self, org: str, model_id: str, error: PlatformError) -> None:
        """Count a prediction that was refused unread, for the deployment that would have taken it, if one would."""
        if (route := self._routes.known(org, model_id)) is not None:
            self._recorder.record_error(route, error.code)


def parse_prediction(body: bytes, limits: LimitSettings, regions: Collection[str]) -> PredictionRequest:
    """The request in a body, within the limits.

    Raises:
        PlatformError: `malformed_json`, `invalid_request`, `payload_too_large`, `invalid_region`.
    """
    request = parse_request(body, PredictionRequest)
    if len(request.inputs) > limits.max_inputs:
        raise PlatformError(
            "payload_too_large",
            f"inputs holds {len(request.inputs)} items; at most {limits.max_inputs} fit in one request. "
            + SEND_FEWER,
        )
    timeout_ms, region = request.options.timeout_ms, request.options.region
    if timeout_ms is not None and timeout_ms > limits.max_timeout_ms:
        raise invalid_field("options.timeout_ms", f"At most {limits.max_timeout_ms}.")
    if region is not None and region not in regions:
        raise unknown_region(region, regions, field="options.region")
    return request


def unknown_region(region: str, regions: Collection[str], *, field: str) -> PlatformError:
    """The 422 that lists the regions there are; `field` is where the request names the unknown one."""
    known = sorted(regions)
    error = PlatformError(
        "invalid_region",
        f"Unknown region {region[:64]!r}. Known: {', '.join(known)}.",
        details={"regions": known},
    )
    return about_field(field, error)


async def run_inputs(
    call: ReplicaCall, route: Route, request: PredictionRequest, *, deadline: Deadline, outcome: Outcome
) -> list[object]:
    """A result, or an error object, in the place of each input. What it took is added to `outcome`.

    Inputs that are right but differ in shape from the first (open axes) go in calls of their own.

    Raises:
        PlatformError: `invalid_input`, `row_failed` with `on_error: fail`; what the call raises.
    """
    is_strict = request.options.on_error == "fail"
    results: list[object] = [None] * len(request.inputs)
    pending = list(range(len(request.inputs)))
    while pending:
        decoded = route.codec.decode([request.inputs[index] for index in pending])
        misfits = [error for error in decoded.errors if not error.is_shape_conflict]
        if misfits and is_strict:
            raise invalid_inputs(misfits, pending)
        for error in misfits:
            index = pending[error.index]
            results[index] = _item_error(error.code, f"inputs[{index}]{error.path} {error.message}")
        if decoded.kept:
            answer = await _run(call, route, decoded.arrays, deadline, outcome)
            indices = [pending[index] for index in decoded.kept]
            if answer.failed and is_strict:
                raise _row_failed(answer.failed, indices)
            _place(route, answer, indices, results)
        pending = [pending[error.index] for error in decoded.errors if error.is_shape_conflict]
    return results


async def _run(
    call: ReplicaCall, route: Route, arrays: Mapping[str, np.ndarray], deadline: Deadline, outcome: Outcome
) -> ReplicaAnswer:
    began = time.perf_counter()
    async with deadline.bounding() as left:
        answer = await call(route.application, arrays, left)
    outcome.calls_ms += (time.perf_counter() - began) * 1000
    outcome.compute_ms += answer.compute_ms
    rows = len(answer.kept) + len(answer.failed)
    outcome.batch_size = max(outcome.batch_size, min(rows, route.max_batch_size))
    return answer


def _place(route: Route, answer: ReplicaAnswer, indices: Sequence[int], results: list[object]) -> None:
    """Writes results and failures of a call into the places of their inputs."""
    encoded = route.codec.encode(answer.outputs) if answer.kept else []
    for row, result in zip(answer.kept, encoded, strict=True):
        results[indices[row]] = result
    for row, message in answer.failed.items():
        results[indices[row]] = _item_error("row_failed", message)


def invalid_inputs(errors: Sequence[ItemError], indices: Sequence[int]) -> PlatformError:
    """The 422 that names each input that does not fit; `indices` are their places in the request."""
    shown = [
        {
            "index": indices[error.index],
            "path": f"inputs[{indices[error.index]}]{error.path}",
            "message": error.message,
        }
        for error in errors[:_SHOWN_ERRORS]
    ]
    others = len(errors) - 1
    more = f" (and {others} more input{'s' if others > 1 else ''}, see details.errors)" if others else ""
    return PlatformError(
        "invalid_input", f"{shown[0]['path']} {shown[0]['message']}{more}", details={"errors": shown}
    )


def _row_failed(failed: Mapping[int, str], indices: Sequence[int]) -> PlatformError:
    shown = [
        {"index": indices[row], "path": f"inputs[{indices[row]}]", "message": failed[row]}
        for row in sorted(failed)[:_SHOWN_ERRORS]
    ]
    first = shown[0]
    return PlatformError(
        "row_failed", f"The model failed on {first['path']}: {first['message']}", details={"errors": shown}
    )


def _item_error(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message}}


def render_prediction(
    route: Route, results: Sequence[object], outcome: Outcome, metadata: Mapping[str, Any] | None
) -> bytes:
    """The answer's JSON. Its usage is what the metrics count."""
    answer: dict[str, object] = {
        "id": new_id("pred"),
        "object": "prediction",
        "created": int(time.time()),
        "model": route.model,
        "results": results,
        "usage": {
            "latency_ms": round(outcome.total_ms, 3),
            "queue_ms": round(outcome.queue_ms, 3),
            "compute_ms": round(outcome.compute_ms, 3),
            "batch_size": outcome.batch_size,
            "deployment": route.application,
            "region": route.region,
        },
    }
    if metadata is not None:
        answer["metadata"] = metadata
    return orjson.dumps(answer)


def _log_metadata(metadata: Mapping[str, Any] | None, request_id: str) -> None:
    """The two fields that callers send to find their requests in the logs, and nothing else of the body."""
    if not metadata or not logger.isEnabledFor(logging.INFO):
        return
    named = {
        name: str(metadata[name])[:_MAX_LOGGED_CHARS]
        for name in _LOGGED_METADATA
        if isinstance(metadata.get(name), str | int)
    }
    if named:
        logger.info(json.dumps({"event": "prediction", "request_id": request_id, **named}))
