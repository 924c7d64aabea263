"""Metrics in Redis: for each deployment and resolution one JSON object a bucket of time, which a script adds to.

A bucket is one string and not a hash of counters: adding a busy second to hashes takes Redis several times as long
and fills the append-only file with a command for each field (decisions/0004-metrics.md).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from fyretoolkit.core.histograms import ZERO_BUCKET, Histogram
from fyretoolkit.core.metrics import LONGEST_KEPT_S, Period, Tally, Window
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, translated

_RESOLUTIONS = json.dumps([(period.bucket_s, period.kept_s) for period in Period])
_HISTOGRAMS = ("total", "queue", "compute")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a recorder counted of one deployment, `age_s` seconds ago."""

    org: str
    deployment: str
    age_s: float
    tally: Tally


class MetricsStore:
    """The repository of metrics. Redis's clock decides which bucket a tally belongs to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, recorder: str, batch: int, traffic: Sequence[Traffic]) -> bool:
        """Add a recorder's batch in one step; False if it had been added before. Batches are numbered from 1 up."""
        arguments: list[str | int] = [batch, LONGEST_KEPT_S, _RESOLUTIONS]
        for each in traffic:
            prefix = keys.metrics(each.org, each.deployment)
            arguments += [prefix, f"{each.age_s:.3f}", to_json(each.tally).decode()]
        return bool(await self._store.run("add_metrics", [keys.recorder(recorder)], arguments))

    async def window(self, period: Period) -> Window:
        """The window of a period that ends now, by Redis's clock."""
        return Window.of(period, await self._store.now_ms() / 1000)

    async def read(self, org: str, deployment: str, window: Window) -> list[Tally]:
        """One tally for each bucket of the window, oldest first."""
        prefix = keys.metrics(org, deployment)
        names = [f"{prefix}{window.bucket_s}:{start}" for start in window.starts]
        async with translated():
            texts = cast("list[str | None]", await self._store.redis.mget(names))
        # A hundred full buckets take 10 ms; on a thread, predictions go on meanwhile.
        return await asyncio.to_thread(_tallies, texts)


def _tallies(texts: Sequence[str | None]) -> list[Tally]:
    return [from_json(text) if text else Tally() for text in texts]


def to_json(tally: Tally) -> bytes:
    """A tally as the script adds it up: every number to its like, but a `max`, and histograms by their buckets."""
    return orjson.dumps(
        {
            "canceled": tally.canceled,
            "inputs": tally.inputs,
            "batch_rows": tally.batch_rows,
            "errors": tally.errors,
            **{name: _histogram_to_json(getattr(tally, name)) for name in _HISTOGRAMS},
        }
    )


def from_json(text: str) -> Tally:
    """The tally that `to_json` wrote, or that several added up to."""
    stored = orjson.loads(text)
    return Tally(
        canceled=stored["canceled"],
        inputs=stored["inputs"],
        batch_rows=stored["batch_rows"],
        errors=stored["errors"],
        **{name: _histogram_from_json(stored[name]) for name in _HISTOGRAMS},
    )


def _histogram_to_json(histogram: Histogram) -> dict[str, object]:
    """The counts as a list that begins at bucket `from`, a third of the length of names with counts; zeros apart."""
    counts = {bucket: count for bucket, count in histogram.counts.items() if bucket != ZERO_BUCKET}
    first, last = min(counts, default=0), max(counts, default=-1)
    return {
        "sum": histogram.sum,
        "max": histogram.max,
        "zeros": histogram.counts.get(ZERO_BUCKET, 0),
        "from": first,
        "counts": [counts.get(bucket, 0) for bucket in range(first, last + 1)],
    }


def _histogram_from_json(stored: Mapping[str, Any]) -> Histogram:
    listed = stored["counts"] or ()  # Lua has one empty table, for lists and objects alike
    counts = {bucket: count for bucket, count in enumerate(listed, start=stored["from"]) if count}
    if stored["zeros"]:
        counts[ZERO_BUCKET] = stored["zeros"]
    return Histogram(counts, stored["sum"], stored["max"])
