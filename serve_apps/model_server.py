"""The replica of one deployment: a model and the one method that runs it.

A replica starts with nothing but its application's name and looks up in Redis what it has to serve, so that Ray's
checkpoint stays small and a restarted or added replica finds the same model. One of an application that stands by
(`core.standby`) finds nothing yet, and looks again at its first call: it is called once it was given a model.
It has no `__call__`: nobody reaches a model around the ingress.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import ray
from ray import serve

from fyretoolkit.control.gauges import RayGauges
from fyretoolkit.core.batching import Batching
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposition import Served
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.standby import PREFIX as STANDBY_PREFIX
from fyretoolkit.models.cuda import device_number
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
from serve_apps.process_log import log_to_the_process

logger = logging.getLogger(__name__)

_QUICK_MS = 2.0
_MOST_VALUES = 50_000
"""Of outputs that are written as JSON on the loop: some ten milliseconds. More are on a thread."""
_STORE_PATIENCE_S = 15.0
_STORE_RETRY_S = 0.25
_RECORD_LOOK_S = 1.0
_RETRY_AFTER_S = 1
_SHOW_EVERY_S = 4.0
"""Ray exports every 10 s, and forgets after 20 s."""


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
        self._loaded: ModelRunner | None = None
        self._loading: asyncio.Task[None] | None = None
        self._load_error: Exception | None = None
        """Why the model that it was given cannot be loaded here: the replica is to be replaced."""
        await self._become_ready(is_called=False)
        self._channel = await self._listen()

    async def _become_ready(self, *, is_called: bool = True) -> None:
        """Load the model that this application was given, unless it is loaded.

        Raises:
            PlatformError: `replica_failed`, it was given none, though it stands by for none or was called; what
                `ModelRunner.load` raises; `warmup_failed`.
        """
        if self._load_error is not None:
            raise self._load_error
        if self._loading is None or (self._loading.done() and self._loaded is None):
            self._loading = asyncio.get_running_loop().create_task(self._find_model(is_called=is_called))
            self._loading.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # has been seen
        # A caller that goes takes nothing with it: the next one finds what was loaded meanwhile.
        await asyncio.shield(self._loading)

    async def _find_model(self, *, is_called: bool) -> None:
        store = Store(settings().redis_url.get_secret_value())
        deployments = DeploymentStore(store, settings().deployments.deleted_ttl_s)
        try:
            assignment = await _assignment(deployments, self._application)
            if assignment is not None:
                await self._load_model(deployments, assignment)
            elif is_called or not is_id(self._application, STANDBY_PREFIX):
                raise PlatformError("replica_failed", "Nothing is assigned to this application.")
        except Exception as error:
            code, message = _failure(error)
            await deployments.report_load_failure(self._application, code, message)
            raise
        finally:
            await store.close()

    async def _load_model(self, deployments: DeploymentStore, assignment: Assignment) -> None:
        try:
            runner = await asyncio.to_thread(_load, assignment)
            await self._infer(runner)
        except Exception as error:
            self._load_error = error
            raise
        await self._find_batching(deployments, assignment, runner)
        self._loaded = runner
        served = Served(assignment.deployment, assignment.model, assignment.region)
        self._showing = asyncio.get_running_loop().create_task(self._show_load(served))

    @property
    def _runner(self) -> ModelRunner:
        """The model. Only after `_become_ready`."""
        assert self._loaded is not None  # noqa: S101 - whoever runs it has waited for it
        return self._loaded

    async def _show_load(self, served: Served) -> None:
        """Tell a scraper how busy the model is, for as long as the process lives."""
        gauges, labels = RayGauges(), served._asdict()
        while True:
            gauges.set("fyre_replica_busy_ratio", self._load.busy_share(), labels)
            await asyncio.sleep(_SHOW_EVERY_S)

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
        if self._loaded is None:
            await self._become_ready_for_caller()
        with self._load.answering(load):
            return await self._run(arrays)

    async def _run(self, arrays: Mapping[str, np.ndarray]) -> ReplicaAnswer:
        """On this thread, if as much as this was over before anybody could notice: a hop to another costs more.

        What ran on the other is written as JSON here meanwhile: the model goes on to the next call.
        """
        size = _size(arrays)
        if self._queued or size > self._quick_size:
            self._queued += 1
            found = await self._run_on_thread(dict(arrays))
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

    async def _run_on_thread(self, arrays: dict[str, np.ndarray]) -> tuple[Ran, float]:
        """A caller that goes takes its run along, unless that has begun; the arrays are let go of at once."""
        work = self._threads.submit(self._compute, arrays)
        running = asyncio.wrap_future(work)
        running.add_done_callback(self._note_end)  # when it ends, though nobody may wait for it any more
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if work.cancel():
                arrays.clear()  # the thread finds the run, and drops it, only when its turn comes
            raise

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

    async def _become_ready_for_caller(self) -> None:
        """What a caller is told of a model that does not load is no more than that."""
        try:
            await self._become_ready()
        except Exception as error:
            logger.exception("%s cannot serve its model", self._application)
            raise PlatformError("unavailable", retry_after_s=_RETRY_AFTER_S) from error

    async def check_health(self) -> None:
        """Fails once its model could not be loaded: Serve replaces it, and one that starts anew says why it fails.

        Serve asks for it under this name.
        """
        if self._load_error is not None:
            raise self._load_error

    async def ping(self) -> None:
        """Answers: the replica is there."""

    async def warm_up(self) -> dict[str, object]:
        """Run the model's own example once, from JSON to JSON; the JSON of the deployment's `Batching`.

        Which is measured at the first warm-up. The controller puts it on record, where all other replicas find it.

        Raises:
            PlatformError: `warmup_failed`, or what `ModelRunner.measure` raises.
        """
        if self._loaded is None:
            await self._become_ready()  # with a first inference
        else:
            await self._infer(self._runner)
        return (self._batching or await self._measure(self._runner)).to_json()

    async def _infer(self, runner: ModelRunner) -> None:
        predict = partial(runner.predict, runner.example_items())
        for outcome in await asyncio.get_running_loop().run_in_executor(self._threads, predict):
            if not isinstance(outcome, Prediction):
                raise PlatformError("warmup_failed", f"The first inference failed: {outcome.message}")

    async def _measure(self, runner: ModelRunner) -> Batching:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, runner.measure)
        return self._adopt(found, runner)

    def _adopt(self, batching: Batching, runner: ModelRunner) -> Batching:
        self._batching = batching
        runner.max_batch_size = batching.max_batch_size
        return batching

    async def _find_batching(
        self, deployments: DeploymentStore, assignment: Assignment, runner: ModelRunner
    ) -> None:
        """Adopt what is on record; until something is, run every row alone, which is right for any model."""
        if not await self._is_batching_found(deployments, assignment, runner):
            runner.max_batch_size = 1
            self._watch = asyncio.get_running_loop().create_task(self._watch_record(assignment, runner))

    async def _watch_record(self, assignment: Assignment, runner: ModelRunner) -> None:
        """Look at the record until it says what the replica that was warmed up measured, or this one is that one."""
        store = Store(settings().redis_url.get_secret_value())
        deployments = DeploymentStore(store, settings().deployments.deleted_ttl_s)
        try:
            while not await self._is_batching_noted(deployments, assignment, runner):  # noqa: ASYNC110 - it is in Redis
                await asyncio.sleep(_RECORD_LOOK_S)
        finally:
            await store.close()

    async def _is_batching_noted(
        self, deployments: DeploymentStore, assignment: Assignment, runner: ModelRunner
    ) -> bool:
        """The same, where a failure is one more reason to look again: until then every row runs alone."""
        try:
            return await self._is_batching_found(deployments, assignment, runner)
        except Exception:
            logger.exception("%s could not find its batching", self._application)
            return False

    async def _is_batching_found(
        self, deployments: DeploymentStore, assignment: Assignment, runner: ModelRunner
    ) -> bool:
        if self._batching is not None:
            return True
        try:
            deployment = await deployments.get(assignment.org, assignment.deployment)
        except PlatformError:  # the store is away: the next look may find it
            return False
        if deployment is None:
            return False
        if deployment.batching is not None:
            self._adopt(Batching.from_json(deployment.batching), runner)
        elif deployment.status is not DeploymentStatus.PROVISIONING:
            await self._measure(runner)  # an older version made it ready
        return self._batching is not None


async def _assignment(deployments: DeploymentStore, application: str) -> Assignment | None:
    """What to serve, if anything.

    A store that is away is asked again for a while: its restart must not fail a deployment.
    """
    deadline = time.monotonic() + _STORE_PATIENCE_S
    while True:
        try:
            return await deployments.assignment(application)
        except PlatformError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_STORE_RETRY_S)


def _load(assignment: Assignment) -> ModelRunner:
    """The model, where this process may run it; what that is goes to its log."""
    files = open_artifacts(settings()).open(assignment.artifact)
    spec = ModelSpec.from_json(assignment.spec)
    held = ray.get_runtime_context().get_accelerator_ids()["GPU"] if assignment.num_gpus else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    runner = ModelRunner.load(
        files,
        spec,
        num_gpus=assignment.num_gpus,
        device_id=device_number(held, visible),
        threads=assignment.threads,
    )
    log_to_the_process(logger)
    logger.info(
        "%s runs on %s; num_gpus %g, CUDA_VISIBLE_DEVICES %r",
        assignment.deployment, runner.placement, assignment.num_gpus, visible,
    )  # fmt: skip
    return runner


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of the input; of text, its characters."""
    return sum(
        sum(map(len, array.ravel())) if array.dtype == object else array.nbytes for array in arrays.values()
    )


async def _say_farewell(channel: ChannelServer) -> None:
    """For as long as a prediction may take; Serve ends the process some seconds later (`control.serve_driver`)."""
    async with asyncio.timeout(settings().limits.max_timeout_ms / 1000):
        await channel.close()


def _failure(error: Exception) -> tuple[str, str]:
    if isinstance(error, PlatformError):
        return error.code, error.message
    return "replica_failed", f"{type(error).__name__}: {error}"
