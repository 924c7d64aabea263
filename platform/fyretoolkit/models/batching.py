"""How many rows of a model run together, measured where it is served: a GPU and a CPU come to different answers.

Rows a second at 1, 2, 4 … rows, and whether answers stay the same in company, within a few seconds at most.
`measure` is what a replica does at its deployment's first warm-up; an inspection asks only the second question
(`models.warmup`), since a batch job must not join rows either where it changes them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fyretoolkit.core.batching import (
    Batching,
    BatchingReason,
    choose_size,
    rates_of,
    sizes_up_to,
    useful_rows_per_s,
)
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import Codec
from fyretoolkit.models.company import Clock, Run, compare, varied_rows
from fyretoolkit.models.readers import Arrays
from fyretoolkit.models.spec import DEFAULT_MAX_BATCH_SIZE, ModelSpec, has_fixed_batch_axis

BUDGET_S = 1.5
"""Of each of the two questions, about."""
_SIZE_BUDGET_S = 0.05
_RUNS = (3, 100)
"""At least and at most, of one size. The quickest counts: what slows a run down is not the model."""
_SLOW_S = 0.5
"""A model one of whose runs takes longer is not asked about larger ones."""
_GIVE_UP_S = 2.0
"""No further run of the same size after this, even if the first run alone took as long."""
_CLEARLY_WORSE, _WORSE_SIZES = 0.7, 2
"""Two sizes in a row that give less than this share of the best end the search; one may have met a busy machine."""
_MAX_INPUT_BYTES = 64 << 20
_SCHEDULE = "/proc/thread-self/schedstat"


@contextmanager
def undisturbed_clock() -> Iterator[Clock]:
    """Seconds, those not counted in which this thread waits for a CPU that others have.

    Models are measured while a platform starts, on busy machines: by the time on the wall a run of some milliseconds is
    never undisturbed, one of some microseconds is, and the small batch looks like the better one. All seconds count
    where Linux's scheduler does not say (`schedstat` in proc_pid(5)). For the thread that asks for it.
    """
    try:
        schedule = os.open(_SCHEDULE, os.O_RDONLY)
    except OSError:
        yield time.perf_counter
        return

    def waited_ns() -> int:
        return int(os.pread(schedule, 100, 0).split()[1])

    def clock() -> float:
        before = waited_ns()
        while True:
            now = time.perf_counter()
            if (after := waited_ns()) == before:
                return now - before / 1e9
            before = after  # this thread was interrupted between the two readings

    try:
        yield clock
    finally:
        os.close(schedule)


def measure(
    run: Run, codec: Codec, *, budget_s: float = BUDGET_S, clock: Clock = time.perf_counter
) -> Batching:
    """The batching of a loaded model: what its owner set, else what these runs show.

    Blocks for about twice `budget_s`, but for one run of the model at least.

    Raises:
        PlatformError: `row_failed` or `invalid_manifest`, the model does not run its own example.
    """
    spec = codec.spec
    rows = varied_rows(codec)
    seconds = dict(_timed(run, rows.alone[0], _most(spec), budget_s, clock))
    rates = rates_of(seconds)
    if has_fixed_batch_axis(spec.signature):
        return Batching(1, BatchingReason.FIXED_BATCH_AXIS, rates)
    is_chosen = spec.is_batch_size_chosen
    size = spec.max_batch_size if is_chosen else choose_size(seconds)
    reason = BatchingReason.MANIFEST if is_chosen else BatchingReason.MEASURED
    if seconds[1] > _SLOW_S:
        return Batching(size, reason, rates)
    sizes = sizes_up_to(max(2, min(size, max(seconds))))[1:]
    compared = compare(run, rows, sizes, spec.outputs, budget_s=budget_s, clock=clock)
    if compared.largest == 1:
        return Batching(1, BatchingReason.FIXED_BATCH_AXIS, rates)
    if is_chosen:
        return Batching(size, reason, rates, compared.max_difference)
    if not compared.is_alike:
        return Batching(1, BatchingReason.DEPENDS_ON_COMPANY, rates, compared.max_difference)
    return Batching(min(size, compared.largest), reason, rates, compared.max_difference)


def _most(spec: ModelSpec) -> int:
    if has_fixed_batch_axis(spec.signature):
        return 1
    return spec.max_batch_size if spec.is_batch_size_chosen else DEFAULT_MAX_BATCH_SIZE


def _timed(run: Run, row: Arrays, most: int, budget_s: float, clock: Clock) -> Iterator[tuple[int, float]]:
    """(size, seconds of one inference) in ascending order, as far as it is worth looking."""
    deadline = clock() + budget_s
    best, worse = 0.0, 0
    row_bytes = sum(array.nbytes for array in row.values())
    for size in sizes_up_to(most):
        if size > 1 and (clock() > deadline or size * row_bytes > _MAX_INPUT_BYTES):
            return
        batch = {name: np.repeat(array, size, axis=0) for name, array in row.items()}
        try:
            seconds = _quickest(run, batch, clock)
        except PlatformError:
            if size == 1:
                raise
            return
        yield size, seconds
        rate = useful_rows_per_s(size, seconds)
        best = max(best, rate)
        worse = worse + 1 if rate < _CLEARLY_WORSE * best else 0
        if seconds > _SLOW_S or worse == _WORSE_SIZES:
            return


def _quickest(run: Run, batch: Arrays, clock: Clock) -> float:
    fewest, most = _RUNS
    began = clock()
    quickest = float("inf")
    for count in range(most):
        at = clock()
        run(batch)
        now = clock()
        quickest = min(quickest, now - at)
        spent = now - began
        if (spent > _SIZE_BUDGET_S and count + 1 >= fewest) or spent > _GIVE_UP_S:
            break
    return max(quickest, 1e-9)
