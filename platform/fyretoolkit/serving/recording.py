"""What became of each prediction, counted in this process and added to Redis once a second.

A prediction costs a few dictionary entries here and no I/O. Counts wait in slots of a second by this process's own
monotonic clock, and travel with their age: Redis's clock says which bucket that was, so a stepped clock of this
machine moves nothing. Counts leave in numbered batches; one whose answer was lost is sent again under its number,
unchanged, and Redis adds it once. While Redis is away slots widen instead of growing in number, and nothing is lost but
precision of time. What a process counted in its last second is lost if it is killed; ended in order it sends it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposition import Served
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.metrics import Tally
from fyretoolkit.serving.exposition import Exposition, NoGauges
from fyretoolkit.serving.routing import Route
from fyretoolkit.store.metrics import MetricsStore, Traffic

FLUSH_S = 1.0
MAX_TALLIES = 512
_TALLIES_PER_BATCH = 64
_CLOSE_S = 5.0

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
_Key = tuple[int, str, str]
"""Slot, organization, deployment."""


@dataclass(slots=True)
class Outcome:
    """What becomes of one prediction. It is recorded when its `with` block is left, however that happens.

    A prediction that was not routed belongs to no deployment, and is not counted.
    """

    recorder: Recorder
    began: float
    route: Route | None = None
    inputs: int = 0
    calls_ms: float = 0.0
    compute_ms: float = 0.0
    batch_size: int = 0
    """Rows of the largest inference it was part of."""
    total_ms: float = 0.0

    @property
    def queue_ms(self) -> float:
        """What the calls took beyond the inference."""
        return max(0.0, self.calls_ms - self.compute_ms)

    def routed(self, route: Route, inputs: int) -> None:
        """From here on it counts for the route's deployment."""
        self.route = route
        self.inputs = inputs

    def answered(self) -> None:
        """It has its results: its latency ends here."""
        self.total_ms = (self.recorder.clock() - self.began) * 1000

    def ended(self, error: BaseException | None) -> None:
        """It was answered, with this error or with none: it counts, if it was routed."""
        if self.route is not None:
            self.recorder.record(self, self.route, error)

    def __enter__(self) -> Outcome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended(error)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A tally on its way; `since` is when it was begun."""

    org: str
    served: Served
    since: float
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one script call adds. Its content never changes, since the call may have succeeded unheard."""

    number: int
    tallies: Sequence[_Counted]


class Recorder:
    """The counts of one process. Belongs to one event loop."""

    def __init__(
        self,
        store: MetricsStore,
        exposition: Exposition | None = None,
        *,
        clock: Clock = time.perf_counter,
        max_tallies: int = MAX_TALLIES,
    ) -> None:
        """`exposition`: is told the same, for a scraper."""
        self.clock = clock
        self._id = new_id("rec")
        self._store = store
        self._exposition = exposition or Exposition(NoGauges())
        self._max_tallies = max_tallies
        self._slot_s = 1
        self._waiting: dict[_Key, _Counted] = {}
        self._sealed: deque[_Batch] = deque()
        self._batches = 0
        self._flushing = asyncio.Lock()

    def begin(self, began: float | None = None) -> Outcome:
        """The outcome of a prediction that begins now, or that began at that moment of `clock`."""
        return Outcome(self, self.clock() if began is None else began)

    def record(self, outcome: Outcome, route: Route, error: BaseException | None) -> None:
        """Count a prediction that ended with this error, or with none."""
        tally = self._tally(route)
        if error is None:
            tally.add_answer(
                total_ms=outcome.total_ms,
                queue_ms=outcome.queue_ms,
                compute_ms=outcome.compute_ms,
                inputs=outcome.inputs,
                batch_rows=outcome.batch_size,
            )
        elif isinstance(error, PlatformError):
            tally.add_error(error.code)
        elif isinstance(error, Exception):
            tally.add_error("internal_error")
        else:  # a cancellation: the client went away
            tally.canceled += 1

    def record_error(self, route: Route, code: str) -> None:
        """Count a prediction that was refused before it began."""
        self._tally(route).add_error(code)

    async def flush(self) -> None:
        """Send everything counted so far.

        Raises:
            PlatformError: `unavailable`; what was not sent waits for the next flush.
        """
        async with self._flushing:
            await self._send()
            self._seal()
            await self._send()

    async def keep_flushing(self) -> None:
        """Flush, and show a scraper what was counted, once a second until cancelled."""
        is_away = False
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
                is_away = False
            except Exception as error:  # noqa: BLE001 - whatever it is, the next flush may succeed
                if not is_away:
                    logger.warning("Metrics cannot be written, they are kept until they can: %r", error)
                is_away = True
            self.publish(is_redis_up=not is_away)

    def publish(self, *, is_redis_up: bool) -> None:
        """Show a scraper everything counted so far; failing that, predictions go on."""
        waiting = [(counted.served, counted.tally) for counted in self._waiting.values()]
        try:
            self._exposition.publish(waiting, is_redis_up=is_redis_up)
        except Exception:
            logger.exception("Metrics cannot be shown")

    async def close(self) -> None:
        """Send what is left, if Redis takes it within seconds."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.flush()
        except (PlatformError, TimeoutError) as error:
            logger.warning("The metrics of the last seconds could not be written: %r", error)

    def _tally(self, route: Route) -> Tally:
        now = self.clock()
        key = int(now) // self._slot_s, route.org, route.deployment
        counted = self._waiting.get(key) or self._begin_tally(route, now)
        return counted.tally

    def _begin_tally(self, route: Route, now: float) -> _Counted:
        if len(self._waiting) >= self._max_tallies:
            self._widen_slots(now)
        key = int(now) // self._slot_s, route.org, route.deployment
        served = Served(route.deployment, route.model, route.region)
        return self._waiting.setdefault(key, _Counted(route.org, served, now))

    def _widen_slots(self, now: float) -> None:
        """Double the slots until half of the room is free, or until one slot holds all the time there is."""
        oldest = next(iter(self._waiting.values())).since
        while len(self._waiting) > self._max_tallies // 2 and self._slot_s <= now - oldest:
            self._slot_s *= 2
            merged: dict[_Key, _Counted] = {}
            for (slot, org, deployment), counted in self._waiting.items():
                kept = merged.setdefault((slot // 2, org, deployment), counted)
                if kept is not counted:
                    kept.tally.merge(counted.tally)
            self._waiting = merged

    def _seal(self) -> None:
        """Put what waits into batches; counting goes on in new slots of a second."""
        counted = list(self._waiting.values())
        self._waiting, self._slot_s = {}, 1
        for each in counted:
            self._exposition.add(each.served, each.tally)
        for start in range(0, len(counted), _TALLIES_PER_BATCH):
            self._batches += 1
            self._sealed.append(_Batch(self._batches, counted[start : start + _TALLIES_PER_BATCH]))

    async def _send(self) -> None:
        while self._sealed:
            batch, now = self._sealed[0], self.clock()
            traffic = [
                Traffic(each.org, each.served.deployment, max(0.0, now - each.since), each.tally)
                for each in batch.tallies
            ]
            await self._store.add(self._id, batch.number, traffic)
            self._sealed.popleft()
