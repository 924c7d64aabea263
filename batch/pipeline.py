"""Ray Data over shards: an item is a shard's number, a pool of `ShardWorker` actors does the rest.

Ray Data retries a dying worker without end unless told otherwise, so one row that kills its process would run for ever;
restarts and retries are finite here. What is left when they are used up ends the run, and the number of runs is
bounded by the controller. `DataContext` is global to a process: one job, one runner process.

A pool takes 6 s to start on a quiet machine and 25 s on a busy one (two processes that import Ray Data;
decisions/0002). So the runner begins at once with the crew of its own machine, starts a pool only when what is left is
worth it, and goes on until the pool delivers. Both begin in front, for progress and a partial output end at the first
gap: what is committed by then costs the pool a look, and a shard that both take is committed once. A pool that breaks
before it delivers is given up, and the crew goes on alone.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from batch.background import python_in_background
from batch.crew import Crew
from batch.joblog import JobLog
from batch.pace import Pace
from batch.patience import Patience, patience_s
from batch.runs import Run, RunOverError, from_failure
from batch.stages import ParseStage, PredictStage, WriteStage
from batch.worker import ShardWorker
from fyretoolkit.models.manifest import Resources

if TYPE_CHECKING:
    import ray.data

_MAX_RESTARTS = 2
_MAX_BLOCKS = 1000
_POOL_WORTH_S = 300.0
"""A pool is started for work that would keep the runner and its hands busy for longer than this (decisions/0011)."""
_PACE_OVER_S = 10.0
"""What their pace is taken over; what it took them to begin, beside the start of the next runner, is no part of it."""
_LOOK_EVERY_S = 0.25
_UNGUARDED = -1.0
"""Ray Data's word for a dataset that may go without progress."""
_NO_GPU = Resources()

Item = dict[str, np.ndarray]
Work = Callable[["Run", Sequence[int]], Iterator[Item]]


def run_shards(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
    """Work on all `shards`; returns when each is committed.

    Raises:
        RunOverError: `stop` was set, or a worker was fenced off.
        PlatformError: from a worker.
    """
    if run.model.resources.num_gpus:
        _run_on_gpus(run, shards, stop)
        return
    waiting = deque(shards)
    pool = _run_until_pool(run, waiting, stop)
    if pool is not None and waiting:
        pool.drain(stop)
        if given_back := deque(set(waiting).difference(pool.shards)):  # by a hand that died late
            _run_until_pool(run, given_back, stop)
    elif pool is not None:
        pool.abandon()


def _run_on_gpus(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
    """The runner holds no GPU. Shards that killed who predicted them are worked on again by those who may die of it."""
    left = ShardPool(run, shards, staged, is_guarded=True).drain(stop)
    if left:
        JobLog(run.folder, run.epoch).append("shards_left_over", shards=left)
        ShardPool(run, left, partial(pooled, is_wary=True)).drain(stop)


def _run_until_pool(run: Run, waiting: deque[int], stop: threading.Event) -> ShardPool | None:
    """Work here, taking from `waiting`, until nothing waits or a pool has begun; the pool, if one was started."""
    pool: ShardPool | None = None
    may_pool = True
    if stop.is_set():
        raise RunOverError
    worker = ShardWorker(run)
    crew = Crew(run, waiting, worker)
    try:
        while crew.is_busy and not (pool and pool.has_begun):
            if stop.is_set():
                raise RunOverError
            if pool and pool.failure is not None:
                JobLog(run.folder, run.epoch).append("pool_failed", error=str(pool.failure)[:1000])
                pool = None
            pace, left = crew.pace, len(waiting)
            if may_pool and worker.turns.share > 1 and is_pool_worth(pace, left):
                JobLog(run.folder, run.epoch).append("pool_started", waiting=left, pace=asdict(pace))
                pool, may_pool = ShardPool(run, tuple(waiting)), False
            crew.wait()
        crew.finish()
    finally:
        crew.close()
    return pool


def is_pool_worth(pace: Pace, waiting: int) -> bool:
    """Whether `waiting` shards, at this pace, would take the runner and its hands too long; not known at once."""
    return pace.seconds >= _PACE_OVER_S and pace.seconds * waiting > _POOL_WORTH_S * pace.shards


class ShardPool:
    """Ray Data's pool, driven by a thread of its own so that the runner need not wait while it starts."""

    def __init__(
        self, run: Run, shards: Sequence[int], work: Work | None = None, *, is_guarded: bool = False
    ) -> None:
        """`work`: a dataset over the shards; None: `pooled`. `is_guarded`: Ray Data ends it if it hangs."""
        self._run = run
        self._is_guarded = is_guarded
        self.shards = shards
        self._work = work or pooled
        self._outcomes: queue.SimpleQueue[Item | BaseException | None] = queue.SimpleQueue()
        self._is_abandoned = threading.Event()
        self.failure: BaseException | None = None
        """Why the pool ended before it finished any shard."""
        threading.Thread(target=self._drive, args=(run, shards), daemon=True, name="shard-pool").start()

    @property
    def has_begun(self) -> bool:
        """Whether the pool has finished a shard."""
        return self.failure is None and not self._outcomes.empty()

    def drain(self, stop: threading.Event) -> list[int]:
        """Wait until the pool has done all its shards; those that it left over.

        Raises:
            TimeoutError: nothing gets on.
            Exception: as `run_shards`.
        """
        left: list[int] = []
        patience = None if self._is_guarded else Patience(self._run)
        while True:
            if stop.is_set():
                self.abandon()
                raise RunOverError
            try:
                outcome = self._outcomes.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                if patience:
                    patience.check()
                continue
            if patience:
                patience.note_progress()
            if outcome is None:
                return left
            if isinstance(outcome, BaseException):
                raise outcome
            for failure in filter(None, outcome["failure"].tolist()):
                self.abandon()
                raise from_failure(failure)
            if "is_left" in outcome:
                left += outcome["shard"][outcome["is_left"]].tolist()

    def abandon(self) -> None:
        """Let the pool end at its next shard; it ends at the latest with this process, which owns it."""
        self._is_abandoned.set()

    def _drive(self, run: Run, shards: Sequence[int]) -> None:
        has_delivered = False
        try:
            for item in self._work(run, shards):
                if self._is_abandoned.is_set():
                    return
                self._outcomes.put(item)
                has_delivered = True
        except Exception as error:  # noqa: BLE001 - handed to the runner's thread, which raises it
            self.failure = None if has_delivered else error
            self._outcomes.put(error)
        else:
            self._outcomes.put(None)


def pooled(run: Run, shards: Sequence[int], *, is_wary: bool = False) -> Iterator[Item]:
    """The finished shards, as a pool of `ShardWorker` finishes them; closing the iterator ends the pool.

    Ray Data does not watch over it: a worker that looks for the rows that hang finishes nothing for minutes.
    """
    workers = min(run.settings.batch.workers, len(shards))
    finished = _items(run, shards, gpu_workers=workers, no_progress_s=_UNGUARDED).map_batches(
        ShardWorker,
        fn_constructor_kwargs={"run": run, "is_wary": is_wary},
        **_pool(run, workers, run.model.resources),
    )
    yield from finished.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy")


def staged(run: Run, shards: Sequence[int]) -> Iterator[Item]:
    """The finished shards of a GPU model, and those left over, in three pools; as `pooled` else.

    Ray Data ends workers on GPUs that find nothing to do, and starts as many as are configured where GPUs are free. It
    ends the dataset if no stage gets on: a shard may take as long in each, which who waits for its end cannot tell.
    """
    workers = min(run.settings.batch.workers, len(shards))
    finished = _items(run, shards, gpu_workers=workers, no_progress_s=patience_s(run))
    for stage, pool in (
        (ParseStage, _pool(run, workers)),
        (PredictStage, _pool(run, workers, run.model.resources)),
        (WriteStage, _pool(run, 1)),
    ):
        finished = finished.map_batches(stage, fn_constructor_kwargs={"run": run}, **pool)
    yield from finished.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy")


def _items(run: Run, shards: Sequence[int], *, gpu_workers: int, no_progress_s: float) -> ray.data.Dataset:
    import ray.data

    _configure(gpus=gpu_workers * run.model.resources.num_gpus, no_progress_s=no_progress_s)
    return ray.data.from_items(
        [{"shard": shard} for shard in shards], override_num_blocks=min(len(shards), _MAX_BLOCKS)
    )


def _pool(run: Run, workers: int, wanted: Resources = _NO_GPU) -> dict[str, Any]:
    """The options of a stage's actors: finite restarts, and no CPU.

    A replica has its place whatever workers do; how many of them may be at work, their turns say. A pool on GPUs begins
    with one worker: the others may never find room.
    """
    from ray.data import ActorPoolStrategy

    has_gpus = bool(wanted.num_gpus)
    is_behind = not has_gpus and run.settings.batch.worker_niceness > 0
    return {
        "batch_size": 1,
        "batch_format": "numpy",
        "compute": ActorPoolStrategy(
            min_size=1 if has_gpus else workers, max_size=workers, max_tasks_in_flight_per_actor=2
        ),
        "num_cpus": 0,
        "num_gpus": wanted.num_gpus or None,
        "accelerator_type": wanted.accelerator_type if has_gpus else None,
        "max_restarts": _MAX_RESTARTS,
        "max_task_retries": _MAX_RESTARTS,
        "runtime_env": {"py_executable": python_in_background()} if is_behind else None,
    }


def _configure(*, gpus: float, no_progress_s: float) -> None:
    from ray.data import DataContext, ExecutionResources

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.actor_task_retry_on_errors = False
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = no_progress_s
    context.execution_options.resource_limits = ExecutionResources(gpu=gpus)
