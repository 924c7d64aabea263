"""One prediction, bytes to bytes: parse → route → decode → run with others → render, and its outcome recorded.

It knows neither HTTP nor Ray, so the FastAPI app, a middleware in front of it and the tests all call this.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.organizations import Principal
from fyretoolkit.models.codec import Decoded
from fyretoolkit.schemas.predictions import PredictionRequest
from fyretoolkit.serving.coalescers import Coalescers
from fyretoolkit.serving.deadlines import Deadline
from fyretoolkit.serving.joining import Request, Share
from fyretoolkit.serving.parsing import parse_prediction
from fyretoolkit.serving.recording import Outcome, Recorder
from fyretoolkit.serving.refusals import (
    invalid_inputs,
    is_callers_own,
    is_refused,
    item_error,
    misfits,
    row_failed,
)
from fyretoolkit.serving.routing import Route, RoutingTable
from fyretoolkit.settings import LimitSettings

_SMALL_BYTES = 1 << 16
_LOGGED_METADATA = ("correlation_id", "user_id")
_MAX_LOGGED_CHARS = 200
_CANARY_SHARE = 0.5

logger = logging.getLogger("fyretoolkit.predictions")


@dataclass(slots=True)
class _Caller:
    """Whose request it is, and how long it is wanted."""

    principal: Principal
    deadline: Deadline
    is_abandoned: Callable[[], bool]
    size: int
    """Bytes of its body."""


@dataclass(slots=True)
class _Waiting:
    """A prediction in the queue, of which nothing is left to do but to write its answer."""

    route: Route
    request: PredictionRequest
    outcome: Outcome
    deadline: Deadline
    began: float
    answered: Callable[[bytes | BaseException], None]

    def finish(self, share: Share | BaseException) -> None:
        """It has its share, or will not get any."""
        error = share if isinstance(share, BaseException) else None
        answer = b""
        if isinstance(share, Share):
            try:
                answer = self._answer(share)
            except Exception as found:  # noqa: BLE001 - told to who waits for it
                error = found
        try:
            self.outcome.ended(error)
        finally:
            self.answered(error or answer)

    def _answer(self, share: Share) -> bytes:
        _note_share(self.outcome, share, self.began)
        results = _results_of(share, self.request)
        self.deadline.remaining_s()
        self.outcome.answered()
        return render_prediction(self.route, results, self.outcome, self.request.metadata)


class Predictor:
    """The predict path of one ingress replica."""

    def __init__(
        self,
        routes: RoutingTable,
        coalescers: Coalescers,
        limits: LimitSettings,
        *,
        regions: Collection[str],
        recorder: Recorder,
    ) -> None:
        self._routes = routes
        self._coalescers = coalescers
        self._limits = limits
        self._regions = tuple(regions)
        self._recorder = recorder

    async def predict(
        self,
        principal: Principal,
        model_id: str,
        body: bytes,
        request_id: str,
        *,
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> bytes:
        """The answer's JSON.

        `is_abandoned` says whether the caller has gone: a request that still waits then is not run.

        Raises:
            PlatformError: what `parse_prediction`, `RoutingTable.route` and the coalescer raise;
                `invalid_input`, `row_failed`, `deadline_exceeded`.
            asyncio.CancelledError: the caller has gone.
        """
        began = self._recorder.clock()
        request = parse_prediction(body, self._limits, self._regions)
        deadline = Deadline(request.options.timeout_ms or self._limits.default_timeout_ms)
        _log_metadata(request.metadata, request_id)
        route = self._routes.known(principal.org, model_id, request.options.region)
        if route is None:
            async with deadline.bounding():
                route = await self._routes.route(principal.org, model_id, request.options.region)
        caller = _Caller(principal, deadline, is_abandoned, len(body))
        turn = began
        if route.incumbent is not None:
            if answer := await self._try_canary(route, route.incumbent, request, caller):
                return answer
            route, turn = self._routes.current(route.incumbent), self._recorder.clock()
        with self._recorder.begin(turn) as outcome:
            return await self._compute(route, request, caller, outcome, began)

    async def _try_canary(
        self, route: Route, incumbent: Route, request: PredictionRequest, caller: _Caller
    ) -> bytes | None:
        """The answer of a new deployment, if all of it is good; a failure counts against it and is not the caller's.

        Unless it is: inputs that the incumbent refuses too. It has half of the caller's time, so that the incumbent can
        answer in the other half.
        """
        outcome = self._recorder.begin()
        strict = request.options.model_copy(update={"on_error": "fail"})
        trying = replace(caller, deadline=caller.deadline.part(_CANARY_SHARE))
        try:
            answer = await self._compute(
                route, request.model_copy(update={"options": strict}), trying, outcome, outcome.began
            )
        except Exception as error:  # noqa: BLE001 - whatever a canary does, the incumbent has its turn
            if not is_callers_own(error, incumbent, request):
                outcome.ended(error)
                failure = {"event": "canary_failed", "deployment": route.deployment, "error": str(error)}
                logger.info(json.dumps(failure))
            return None
        except BaseException as error:
            outcome.ended(error)
            raise
        outcome.ended(None)
        return answer

    async def _compute(
        self, route: Route, request: PredictionRequest, caller: _Caller, outcome: Outcome, began: float
    ) -> bytes:
        """`began`: when the caller's request did. The outcome began when this deployment's turn came."""
        outcome.routed(route, len(request.inputs))
        results = await self._run_inputs(route, request, caller, outcome)
        caller.deadline.remaining_s()
        outcome.answered()
        return render_prediction(
            route, results, outcome, request.metadata, outcome.total_ms + (outcome.began - began) * 1000
        )

    def begin(
        self,
        principal: Principal,
        model_id: str,
        body: bytes,
        request_id: str,
        *,
        is_abandoned: Callable[[], bool],
        answered: Callable[[bytes | BaseException], None],
    ) -> bool:
        """As `predict`, where nothing has to be waited for before the queue: `answered` is told what that returns or
        raises. False, and nothing was done, where it does not go so smoothly: then `predict` is to be asked.

        Raises:
            PlatformError: as `predict`, what is known at once.
        """
        outcome = self._recorder.begin()
        try:
            request = parse_prediction(body, self._limits, self._regions)
            route = self._routes.known(principal.org, model_id, request.options.region)
            if route is None or route.incumbent is not None:
                return False
            decoded = route.codec.decode(request.inputs)
            if decoded.errors and not is_refused(decoded.errors, request):
                return False
            outcome.routed(route, len(request.inputs))
            if decoded.errors:
                raise invalid_inputs(misfits(decoded.errors), range(len(request.inputs)))
            _log_metadata(request.metadata, request_id)
            deadline = Deadline(request.options.timeout_ms or self._limits.default_timeout_ms)
            rows = self._rows_of(route, decoded, _Caller(principal, deadline, is_abandoned, len(body)))
            rows.answered = _Waiting(route, request, outcome, deadline, time.perf_counter(), answered).finish
            self._coalescers.submit(route, rows)
        except Exception as error:
            outcome.ended(error)
            raise
        return True

    async def _run_inputs(
        self, route: Route, request: PredictionRequest, caller: _Caller, outcome: Outcome
    ) -> bytes:
        """The results as JSON, an error object in place of each that there is none. What it took goes to `outcome`."""
        decoded = route.codec.decode(request.inputs)
        if decoded.errors:
            return orjson.dumps(await self._run_some(route, request, caller, outcome))
        return _results_of(await self._run(route, decoded, caller, outcome), request)

    async def _run_some(
        self, route: Route, request: PredictionRequest, caller: _Caller, outcome: Outcome
    ) -> list[object]:
        """The same where some inputs do not fit.

        Those that are right but differ in shape from the first (open axes) go in calls of their own.
        """
        is_strict = request.options.on_error == "fail"
        results: list[object] = [None] * len(request.inputs)
        pending = list(range(len(request.inputs)))
        while pending:
            decoded = route.codec.decode([request.inputs[index] for index in pending])
            if is_refused(decoded.errors, request):
                raise invalid_inputs(misfits(decoded.errors), pending)
            for error in misfits(decoded.errors):
                index = pending[error.index]
                results[index] = item_error(error.code, f"inputs[{index}]{error.path} {error.message}")
            if decoded.kept:
                share = await self._run(route, decoded, caller, outcome)
                indices = [pending[index] for index in decoded.kept]
                if share.failed and is_strict:
                    raise row_failed(share.failed, indices)
                _place(share, indices, results)
            pending = [pending[error.index] for error in decoded.errors if error.is_shape_conflict]
        return results

    async def _run(self, route: Route, decoded: Decoded, caller: _Caller, outcome: Outcome) -> Share:
        began = time.perf_counter()
        share = await self._coalescers.run(route, self._rows_of(route, decoded, caller))
        _note_share(outcome, share, began)
        return share

    def _rows_of(self, route: Route, decoded: Decoded, caller: _Caller) -> Request:
        return Request(
            arrays=decoded.arrays,
            rows=len(decoded.kept),
            shape=route.codec.shape_of(decoded.arrays),
            size=max(caller.size, sum([array.nbytes for array in decoded.arrays.values()])),
            principal=caller.principal,
            deadline=caller.deadline,
            is_abandoned=caller.is_abandoned,
        )

    def check_room(self, principal: Principal, model_id: str, size: int) -> None:
        """Refuse a request of so many bytes before it is read, if its deployment has no room for more by now.

        What a flood costs is what is done for those who are refused. A small request is looked at once some were: the
        queue itself refuses the first.

        Raises:
            PlatformError: `overloaded`.
        """
        if not self._coalescers.waiting or (size < _SMALL_BYTES and not self._coalescers.are_refusing):
            return
        routes = self._routes.candidates(principal.org, model_id)
        left_s = self._limits.max_timeout_ms / 1000  # which it asks for is not known yet
        if refused := self._coalescers.refusal(routes, principal, size=size, left_s=left_s):
            route, error = refused
            self._recorder.record_error(route, error.code)
            raise error

    def count_refusal(self, org: str, model_id: str, error: PlatformError) -> None:
        """Count a prediction that was refused unread, for the deployment that would have taken it, if one would."""
        if (route := self._routes.known(org, model_id)) is not None:
            self._recorder.record_error(route, error.code)


def _note_share(outcome: Outcome, share: Share, began: float) -> None:
    """What the calls took, that began at `began`."""
    outcome.calls_ms += (time.perf_counter() - began) * 1000
    outcome.compute_ms += share.compute_ms
    outcome.batch_size = max(outcome.batch_size, share.batch_size)


def _results_of(share: Share, request: PredictionRequest) -> bytes:
    """The JSON of the results where every input was fit to be run.

    Raises:
        PlatformError: `row_failed`, if that is how the caller wants it.
    """
    if not share.failed:
        return b"[%b]" % b",".join(share.results)
    indices = range(len(request.inputs))
    if request.options.on_error == "fail":
        raise row_failed(share.failed, indices)
    results: list[object] = [None] * len(indices)
    _place(share, indices, results)
    return orjson.dumps(results)


def _place(share: Share, indices: Sequence[int], results: list[object]) -> None:
    """Writes what a call gave into the places of its inputs; a result is JSON already."""
    for row, result in zip(share.kept, share.results, strict=True):
        results[indices[row]] = orjson.Fragment(result)
    for row, message in share.failed.items():
        results[indices[row]] = item_error("row_failed", message)


def render_prediction(
    route: Route,
    results: bytes,
    outcome: Outcome,
    metadata: Mapping[str, Any] | None,
    latency_ms: float | None = None,
) -> bytes:
    """The answer's JSON around that of its results. Its usage is what the metrics count."""
    return (
        b'{"id":"%b","object":"prediction","created":%d,"model":%b,"results":%b,'
        b'"usage":{"latency_ms":%.3f,"queue_ms":%.3f,"compute_ms":%.3f,"batch_size":%d,'
        b'"deployment":%b,"region":%b}%b}'
    ) % (
        new_id("pred").encode(),
        time.time(),
        _json(route.model),
        results,
        outcome.total_ms if latency_ms is None else latency_ms,
        outcome.queue_ms,
        outcome.compute_ms,
        outcome.batch_size,
        _json(route.deployment),
        _json(route.region),
        b"" if metadata is None else b',"metadata":' + orjson.dumps(metadata),
    )


@lru_cache(maxsize=4096)
def _json(name: str) -> bytes:
    return orjson.dumps(name)


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
