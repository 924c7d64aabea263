"""How large a job's shards are: about a second of its model's work, measured on the input's first rows.

A shard is what progress moves by, what a death costs, and what a worker holds in memory. The plan is kept, so what was
measured decides once and later runs work on the same shards; the size is a power of two, and what the thread waits for
a core does not count, so two jobs over one input are cut alike. The rows are run by the loaded model that the runner's
worker goes on with. Rejected: one size for all (256 KiB are 3 ms of a small network's work, and minutes of a
transformer's), and cutting again while the job runs (the numbers of committed shards would move).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from threading import Thread

from batch.attempts import Attempts
from batch.boundaries import Scanner, split_records
from batch.clocks import own_time_s
from batch.joblog import JobLog
from batch.parts import PartLines
from batch.runs import Run
from batch.shards import Layout, Plan, Shard
from batch.worker import Predictor, flags_of, group_size, load_model, predict_group, reader_of
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import BatchSettings

_SAMPLE_BYTES = 1 << 20
_MEASURE_S = 0.1
_SLOW_S = 1.0
_LEAST_CALLS = 4
"""The first is slow by itself, and any one may be; the quickest tells."""
_LONGEST_S = 5.0
"""By the clock, where a machine is so busy that a tenth of a second of work takes that long."""
_HANGS_S = 300.0
"""As long as workers may do nothing (`patience.py`)."""
_LEAST_S = 1e-6
_MOST_SHARDS = 4000
"""A larger input gets larger shards: each shard is a field in Redis and two files."""
_LEAST_SHARDS = 16
_SMALL_BYTES = 64 << 10
"""Inputs are not cut finer for the sake of `_LEAST_SHARDS`: a commit costs some milliseconds."""

Load = Callable[[Run], Predictor]


def shard_bytes(size_bytes: int, bytes_per_s: float | None, batch: BatchSettings) -> int:
    """The size of the shards of an input of `size_bytes`, of which the model does `bytes_per_s`; None: not known."""
    wanted = batch.shard_target_bytes
    if bytes_per_s is not None:
        second = max(batch.shard_min_bytes, int(bytes_per_s * batch.shard_s))
        wanted = min(wanted, 1 << (second.bit_length() - 1))
    share = max(size_bytes // _LEAST_SHARDS, _SMALL_BYTES)
    return max(min(wanted, share), size_bytes // _MOST_SHARDS)


def measure_speed(run: Run, layout: Layout, load: Load = load_model) -> float | None:
    """Bytes of input a second that one worker of a model without GPUs turns into lines; None: not to be known here.

    The rows are asked for 1, 2, 4 … at a time until they have taken long enough; the quickest call counts. What is
    wrong with the model or the input the first shard will tell; a row among them that kills the process counts as a
    death at that shard, and the next run measures nothing. So does one that never comes back.

    Raises:
        TimeoutError: the model hangs in them.
    """
    batch = run.settings.batch
    is_decided = min(batch.shard_target_bytes, run.source.size_bytes) <= batch.shard_min_bytes
    if is_decided or run.model.resources.num_gpus:  # the runner holds none
        return None
    try:
        attempts = Attempts(run.folder)
        if attempts.deaths(0):  # the mark stays, for who works on that shard
            return None

        def measured() -> float | None:
            with attempts.at(0):
                return _measured(run, layout, load(run))

        return _within(_HANGS_S, measured)
    except PlatformError as error:
        JobLog(run.folder, run.epoch).append("speed_unknown", error=error.message)
        return None


def _within(limit_s: float, measure: Callable[[], float | None]) -> float | None:
    """What it finds; `TimeoutError` if it takes longer, and its thread is left to itself."""
    found: Future[float | None] = Future()

    def work() -> None:
        try:
            found.set_result(measure())
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            found.set_exception(error)

    Thread(target=work, name="measuring", daemon=True).start()
    return found.result(limit_s)


def _measured(run: Run, layout: Layout, model: Predictor) -> float | None:
    chunk = _first_records(Path(run.source.path), layout)
    records = len(split_records(chunk, layout.format))
    plan = Plan(layout.format, layout.header, records, ())
    shard = Shard(0, layout.start, layout.start + len(chunk), 0, layout.first_line, records)
    reader = reader_of(run, plan)
    flags = flags_of(reader, run.model, chunk)
    rows = reader.read(shard, chunk)
    size, rates, latest = 1, list[float](), time.monotonic() + _LONGEST_S
    until = (began_s := own_time_s()) + _MEASURE_S
    while began_s < until or (len(rates) < _LEAST_CALLS and began_s < until + _SLOW_S):
        group = list(islice(rows, size))
        if not group or time.monotonic() > latest:
            break
        predict_group(model, group, flags, PartLines())
        ended_s = own_time_s()
        rates.append(len(group) / max(ended_s - began_s, _LEAST_S))
        began_s, size = ended_s, min(2 * size, group_size(run))
    return max(rates) * len(chunk) / records if rates else None


def _first_records(path: Path, layout: Layout) -> bytes:
    """Whole records from the beginning, as many as the sample holds."""
    with path.open("rb") as file:
        file.seek(layout.start)
        sample = file.read(_SAMPLE_BYTES)
    lines = Scanner(layout.format).feed(sample)
    ends = lines.offsets[lines.ends_record]
    return sample[: int(ends[-1]) + 1] if len(ends) else b""
