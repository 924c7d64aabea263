"""Batch jobs: the record, the counts of a shard, and the pure decision of which runs to start.

A job is executed by runs, one after another; each has an epoch, a fencing number that every write of the run is
checked against. A run proves that it lives by renewing a lease; when the lease ends, the next run starts where the
last one committed. Source: Kleppmann, "How to do distributed locking" (fencing tokens).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fyretoolkit.core.lifecycles import JOB, JobStatus, is_terminal

PREFIX = "job"
DRIVER_EPOCH = 1
"""The run of a driver is its job's first: later ones are the controller's."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A batch job. Times are Unix seconds; `lease_until` is the store's clock in milliseconds."""

    id: str
    org: str
    status: JobStatus
    model: str
    artifact: str
    """sha256 of the model package; fixed when the job was created, so every run gives the same answers."""
    spec: Mapping[str, object]
    input_url: str
    created: int
    output_format: str = "jsonl"
    max_error_rate: float = 1.0
    timeout_s: int | None = None
    """From `started` on: the time in the queue is nobody's fault but the platform's."""
    webhook: str | None = None
    metadata: Mapping[str, object] | None = None
    started: int | None = None
    finished: int | None = None
    epoch: int = 0
    runs: int = 0
    """Runs started since a shard was last committed."""
    runner: str | None = None
    """The actor that has the newest run, where it stood by for one; None: one named after job and epoch."""
    lease_until: int = 0
    seen_ms: int = 0
    """When the newest run was claimed or last renewed its lease, by the store's clock."""
    total: int | None = None
    shard_count: int = 0
    plan: Mapping[str, object] | None = None
    """Where the staged input lies and what pins it; the shards themselves are a file of the job folder."""
    prefix: int = 0
    """Committed shards before the first gap; `succeeded` and `failed` count the rows of these."""
    succeeded: int = 0
    failed: int = 0
    error: Mapping[str, object] | None = None
    output: Mapping[str, object] | None = None
    """File names, sizes and digests of the results, once assembled; `partial` says whether rows are missing."""
    retry_of: str | None = None
    """The job whose failed rows are the input."""
    driver: str | None = None
    """The Ray submission whose driver made the job and its first run (`batch.run`); None: a job of the API."""
    destination: str | None = None
    """Where the assembled output goes besides the job's folder: an `s3://` or `file://` URL."""
    schema: int = 1

    @property
    def is_with_driver(self) -> bool:
        """Whether its newest run is that of a driver: no actor of the platform, so its lease alone says if it lives."""
        return self.driver is not None and self.epoch == DRIVER_EPOCH

    @property
    def has_results(self) -> bool:
        """Whether it ended with something to download, assembled or not yet."""
        return is_terminal(JOB, self.status) and bool(self.output or self.succeeded or self.failed)

    @property
    def is_partial(self) -> bool:
        """Whether it ended with results that lack rows, or may."""
        return self.has_results and self.status is not JobStatus.COMPLETED


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What one committed shard holds, and the part files that hold it."""

    succeeded: int
    failed: int
    part: Mapping[str, object]


class CommitOutcome(StrEnum):
    """What committing a shard achieved."""

    COMMITTED = "committed"
    """The shard is in the output, by this call."""
    DUPLICATE = "duplicate"
    """It was committed before; this call changed nothing."""
    FENCED = "fenced"
    """A newer run holds the job, or the job ended: this run must stop."""


@dataclass(frozen=True, slots=True)
class StartRun:
    """Claim the job's next epoch and start a runner. `dead_epoch` is the run known to be dead, if any."""

    job: BatchJob
    dead_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class FailJob:
    """No further run is worth starting."""

    job: BatchJob
    code: str
    message: str


JobCommand = StartRun | FailJob

_FIRST_PAUSE_MS = 500
_MAX_PAUSE_MS = 60_000


def plan_runs(
    running: Iterable[BatchJob],
    live_runs: Mapping[str, int],
    now_ms: int,
    *,
    max_runs: int,
) -> list[JobCommand]:
    """Which runs to replace, oldest job first; whose jobs leave the queue is `job_queue.plan_starts`'s to say.

    `live_runs` maps the ids of jobs to the epoch of the runner whose process is alive; `now_ms` is the store's clock,
    the one that leases are measured by. A runner that died is replaced at once, one that hangs when its lease ends, and
    so is a driver, dead or hanging: the platform goes on with its job;
    after a run that committed nothing the next one waits, twice as long each time, so that a full disk does not use
    them all up.
    """
    commands: list[JobCommand] = []
    for job in sorted(running, key=lambda job: job.id):
        is_there = job.is_with_driver or live_runs.get(job.id) == job.epoch
        if is_there and job.lease_until > now_ms:
            continue
        if job.runs >= max_runs:
            commands.append(
                FailJob(job, "run_failed", f"{job.runs} runs of this job in a row ended without getting on.")
            )
        elif job.seen_ms + pause_ms(job.runs) <= now_ms:
            commands.append(StartRun(job, dead_epoch=job.epoch))
    return commands


def pause_ms(runs: int) -> int:
    """How long after the end of the last of `runs` fruitless runs the next one starts."""
    return min(_FIRST_PAUSE_MS << runs, _MAX_PAUSE_MS) if runs else 0
