"""What this ingress shows a scraper: totals by deployment, told to Ray's exporter second by second.

A prediction pays nothing for it: the totals are added up from the tallies that the recorder makes anyway, when they go
to Redis, and those that cannot go, because Redis is away, are shown with them. Each process shows its own, and a
scraper sums. Rejected: Ray's own counters and histograms in the prediction's path (decisions/0008).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol

from fyretoolkit.core.exposition import OTHERS, Served, Totals
from fyretoolkit.core.metrics import Tally

MAX_DEPLOYMENTS = 100
"""That are shown each for itself; further ones are shown together."""
AT_ONCE = 10
"""That are told in one turn because they changed; telling one takes 0.3 ms, in which no prediction goes on."""
TURNS = 8
"""In which every one is told anyway: Ray takes the numbers every 10 s, and forgets after 20 s what it is not told."""


class Gauges(Protocol):
    """Numbers that somebody exports; Ray, or nobody in tests."""

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Show a number of `core.exposition.SERIES` until it is set anew, or for half a minute."""


class NoGauges:
    """Shows nothing."""

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Nobody asks."""


Queues = Callable[[], Iterable[tuple[Served, int]]]
Waiting = Iterable[tuple[Served, Tally]]


class Exposition:
    """The totals of one ingress process. Belongs to one event loop."""

    def __init__(
        self, gauges: Gauges, queues: Queues = tuple, *, max_deployments: int = MAX_DEPLOYMENTS
    ) -> None:
        """`queues`: how many requests wait for each deployment that has a queue."""
        self._gauges = gauges
        self._queues = queues
        self._max_deployments = max_deployments
        self._totals: dict[Served, Totals] = {}
        self._changed: dict[Served, None] = {}
        """In the order in which they did, since each was last told."""
        self._live: Collection[str] | None = None
        self._degraded = 0
        self._turn = 0

    def add(self, served: Served, tally: Tally) -> None:
        """Count a tally for good: it will not be among those that wait again."""
        served = self._shown_as(served)
        self._totals.setdefault(served, Totals()).add(tally)
        self._changed[served] = None

    def count_degraded(self) -> None:
        """A prediction was admitted without Redis."""
        self._degraded += 1

    def keep_only(self, live: Collection[str]) -> None:
        """Forget all other deployments: they are deleted, and nothing is shown of them any more."""
        self._live = live

    def publish(self, waiting: Waiting, *, is_redis_up: bool) -> None:
        """Show everything counted so far, and what waits to be counted."""
        self._forget_deleted()
        for served, totals in self._due(waiting):
            for name, value, labels in totals.samples(served):
                self._gauges.set(name, value, labels)
        lengths: dict[Served, int] = {}
        for served, length in self._queues():
            shown = self._shown_as(served)
            lengths[shown] = lengths.get(shown, 0) + length
        for served, length in lengths.items():
            self._gauges.set("fyre_prediction_queue_length", length, served._asdict())
        self._gauges.set("fyre_predictions_without_redis_total", self._degraded, {})
        self._gauges.set("fyre_ingress_redis_up", float(is_redis_up), {})

    def _due(self, waiting: Waiting) -> Iterator[tuple[Served, Totals]]:
        """Those to tell now, with what waits of them: some that changed, and a part of all."""
        unsettled: dict[Served, list[Tally]] = {}
        for served, tally in waiting:
            shown = self._shown_as(served)
            self._totals.setdefault(shown, Totals())
            unsettled.setdefault(shown, []).append(tally)
        self._turn = (self._turn + 1) % TURNS
        changed = islice(dict.fromkeys((*self._changed, *unsettled)), AT_ONCE)
        for served in dict.fromkeys((*changed, *islice(self._totals, self._turn, None, TURNS))):
            totals = self._totals[served]
            if served in unsettled:
                totals = totals.copy()
                for tally in unsettled[served]:
                    totals.add(tally)
            self._changed.pop(served, None)
            yield served, totals

    def _shown_as(self, served: Served) -> Served:
        if served in self._totals or len(self._totals) < self._max_deployments:
            return served
        return OTHERS

    def _forget_deleted(self) -> None:
        if self._live is None:
            return
        for served in [each for each in self._totals if each.deployment not in self._live]:
            if served != OTHERS:
                del self._totals[served]
                self._changed.pop(served, None)
