"""The replica of one deployment: a model and the one method that runs it.

A replica starts with nothing but its application's name and looks up in Redis what it has to serve, so that Ray's
checkpoint stays small, a restarted or added replica finds the same model, and an idle replica can later be given one.
It has no `__call__`: nobody reaches a model around the ingress.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import ray
from ray import serve

from fyretoolkit.core.batching import Batching
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.models.runner import ModelRunner, Prediction, Ran
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.serving.channel import ChannelServer
from fyretoolkit.serving.inference import encode, run
from fyretoolkit.serving.replica import Load, ReplicaAnswer
from fyretoolkit.serving.replica_load import ReplicaLoad
from fyretoolkit.settings import settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import Assignment, DeploymentStore

logger = logging.getLogger(__name__)

_QUICK_MS = 2.0
_MOST_VALUES = 50_000
"""Of outputs that are written as JSON on the loop: some ten milliseconds. More are on a thread."""
_FAREWELL_S = 15.0
"""How long calls under way may take once the replica is to end; Serve ends the process at 20 s."""
_STORE_PATIENCE_S = 15.0
_STORE_RETRY_S = 0.25
_RECORD_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """A call that the model failed as a whole; an exception would arrive wrapped in Ray's own."""

    code: str
    message: str


class ModelServer:
    """One model, loaded. Runs that take time happen on a thread of their own: health checks are answered meanwhile."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray awaits an async constructor
        self._application = serve.get_replica_context().app_name
        self._batching: Batching | None = None
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="onnx")
        self._load = ReplicaLoad(settings().autoscaling.window_s)
        self._queued = 0
        """Runs that the thread has before it or at hand."""
        self._quick_size = 0
        """The largest input of a run that was quick, since the last one that was not."""
        store = Store(settings().redis_url.get_secret_value())
        deployments = DeploymentStore(store, settings().deployments.deleted_ttl_s)
        try:
            assignment = await _assignment(deployments, self._application)
            self._runner = await asyncio.to_thread(_load, assignment)
            await self._infer()
            await self._find_batching(deployments, assignment)
            self._channel = await self._listen()
        except Exception as error:
            code, message = _failure(error)
            await deployments.report_load_failure(self._application, code, message)
            raise
        finally:
            await store.close()

    async def _listen(self) -> ChannelServer | None:
        """The short way for the ingresses of this machine, if there is a place for it."""
        if (folder := settings().channels_dir) is None:
            return None

        async def answer(call: tuple[Mapping[str, np.ndarray], Load]) -> ReplicaAnswer | PlatformError:
            try:
                return await self._predict(*call)
            except PlatformError as error:
                return error

        channel = ChannelServer(folder / self._application / str(os.getpid()), answer)
        await channel.start()
        return channel

    def __del__(self) -> Coroutine[None, None, None] | None:
        """What came by the short way is answered first. Serve calls this, and awaits it, once its own requests are."""
        channel, self._channel = getattr(self, "_channel", None), None
        return None if channel is None else _say_farewell(channel)

    async def predict(self, arrays: Mapping[str, np.ndarray], load: Load) -> ReplicaAnswer | ModelFailure:
        """Run the model over arrays that fit its signature; rows that fail are named, the others answered."""
        try:
            return await self._predict(arrays, load)
        except PlatformError as error:
            return ModelFailure(error.code, error.message)

    async def _predict(self, arrays: Mapping[str, np.ndarray], load: Load) -> ReplicaAnswer:
        with self._load.answering(load):
            return await self._run(arrays)

    async def _run(self, arrays: Mapping[str, np.ndarray]) -> ReplicaAnswer:
        """On this thread, if as much as this was over before anybody could notice: a hop to another costs more.

        What ran on the other is written as JSON here meanwhile: the model goes on to the next call.
        """
        size = _size(arrays)
        if self._queued or size > self._quick_size:
            self._queued += 1
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._compute, arrays)
            running.add_done_callback(self._note_end)  # when it ends, though nobody may wait for it any more
            found = await asyncio.shield(running)
        else:
            found = self._compute(arrays)
        ran, compute_ms = found
        if compute_ms < _QUICK_MS:
            self._quick_size = max(self._quick_size, size)
        else:
            self._quick_size = 0
        if sum(array.size for outputs in ran.outputs for array in outputs.values()) > _MOST_VALUES:
            return await asyncio.to_thread(encode, self._runner, ran, compute_ms)
        with self._load.writing():
            return encode(self._runner, ran, compute_ms)

    def _note_end(self, run: asyncio.Future[tuple[Ran, float]]) -> None:
        self._queued -= 1
        if not run.cancelled():
            run.exception()  # has been seen, though nobody may wait for it

    def _compute(self, arrays: Mapping[str, np.ndarray]) -> tuple[Ran, float]:
        with self._load.computing():
            return run(self._runner, arrays)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What `serve_apps.autoscaling` decides by. Serve asks for it under this name."""
        return self._load.stats()

    async def ping(self) -> None:
        """Answers: the replica is there."""

    async def warm_up(self) -> dict[str, object]:
        """Run the model's own example once, from JSON to JSON; the JSON of the deployment's `Batching`.

        Which is measured at the first warm-up. The controller puts it on record, where all other replicas find it.

        Raises:
            PlatformError: `warmup_failed`, or what `ModelRunner.measure` raises.
        """
        await self._infer()
        return (self._batching or await self._measure()).to_json()

    async def _infer(self) -> None:
        predict = partial(self._runner.predict, self._runner.example_items())
        for outcome in await asyncio.get_running_loop().run_in_executor(self._threads, predict):
            if not isinstance(outcome, Prediction):
                raise PlatformError("warmup_failed", f"The first inference failed: {outcome.message}")

    async def _measure(self) -> Batching:
        return self._adopt(
            await asyncio.get_running_loop().run_in_executor(self._threads, self._runner.measure)
        )

    def _adopt(self, batching: Batching) -> Batching:
        self._batching = batching
        self._runner.max_batch_size = batching.max_batch_size
        return batching

    async def _find_batching(self, deployments: DeploymentStore, assignment: Assignment) -> None:
        """Adopt what is on record; until something is, run every row alone, which is right for any model."""
        if not await self._is_batching_found(deployments, assignment):
            self._runner.max_batch_size = 1
            self._watch = asyncio.get_running_loop().create_task(self._watch_record(assignment))

    async def _watch_record(self, assignment: Assignment) -> None:
        """Look at the record until it says what the replica that was warmed up measured, or this one is that one."""
        store = Store(settings().redis_url.get_secret_value())
        deployments = DeploymentStore(store, settings().deployments.deleted_ttl_s)
        try:
            while not await self._is_batching_noted(deployments, assignment):  # noqa: ASYNC110 - it is in Redis
                await asyncio.sleep(_RECORD_LOOK_S)
        finally:
            await store.close()

    async def _is_batching_noted(self, deployments: DeploymentStore, assignment: Assignment) -> bool:
        """The same, where a failure is one more reason to look again: until then every row runs alone."""
        try:
            return await self._is_batching_found(deployments, assignment)
        except Exception:
            logger.exception("%s could not find its batching", self._application)
            return False

    async def _is_batching_found(self, deployments: DeploymentStore, assignment: Assignment) -> bool:
        if self._batching is not None:
            return True
        try:
            deployment = await deployments.get(assignment.org, assignment.deployment)
        except PlatformError:  # the store is away: the next look may find it
            return False
        if deployment is None:
            return False
        if deployment.batching is not None:
            self._adopt(Batching.from_json(deployment.batching))
        elif deployment.status is not DeploymentStatus.PROVISIONING:
            await self._measure()  # an older version made it ready
        return self._batching is not None


async def _assignment(deployments: DeploymentStore, application: str) -> Assignment:
    """What to serve. A store that is away is asked again for a while: its restart must not fail a deployment."""
    deadline = time.monotonic() + _STORE_PATIENCE_S
    while True:
        try:
            assignment = await deployments.assignment(application)
        except PlatformError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_STORE_RETRY_S)
            continue
        if assignment is None:
            raise PlatformError("replica_failed", "Nothing is assigned to this application.")
        return assignment


def _load(assignment: Assignment) -> ModelRunner:
    files = open_artifacts(settings()).open(assignment.artifact)
    spec = ModelSpec.from_json(assignment.spec)
    held = ray.get_runtime_context().get_accelerator_ids()["GPU"] if assignment.num_gpus else []
    device_id = device_number(held, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return ModelRunner.load(
        files, spec, num_gpus=assignment.num_gpus, device_id=device_id, threads=assignment.threads
    )


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of the input; of text, its characters."""
    return sum(
        sum(map(len, array.ravel())) if array.dtype == object else array.nbytes for array in arrays.values()
    )


def device_number(held: Sequence[str], visible: str | None) -> int:
    """The number that CUDA gives the first of the GPUs `held` in a process that sees those in `visible`.

    Ray shows a process its own GPUs alone, so it is 0, unless RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES is set.
    """
    if not held:
        return 0
    seen = visible.split(",") if visible else []
    if held[0] in seen:
        return seen.index(held[0])
    return 0 if seen else int(held[0])


async def _say_farewell(channel: ChannelServer) -> None:
    async with asyncio.timeout(_FAREWELL_S):
        await channel.close()


def _failure(error: Exception) -> tuple[str, str]:
    if isinstance(error, PlatformError):
        return error.code, error.message
    return "replica_failed", f"{type(error).__name__}: {error}"
