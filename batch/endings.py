"""How a job ends: the pure decision, and the files that are left for its owner."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from batch.assembly import Output, assemble
from batch.failed_rows import FailedRows
from batch.parts import Part
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob, ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.egress.room import require_room


@dataclass(frozen=True, slots=True)
class Ending:
    """A terminal status and, unless it is `completed`, why."""

    status: JobStatus
    error: PlatformError | None = None

    def error_json(self) -> dict[str, object] | None:
        """The error as the job shows it."""
        return None if self.error is None else {"code": self.error.code, "message": self.error.message}


def decide_ending(succeeded: int, failed: int, max_error_rate: float) -> Ending:
    """How a job with every shard committed ends."""
    total = succeeded + failed
    if failed and not succeeded:
        error = PlatformError("all_rows_failed", f"All {total} rows failed. Read errors_url for the reasons.")
    elif failed and failed / total > max_error_rate:  # as it was written: 0.29 * 100 is less than 29
        error = PlatformError(
            "error_rate_exceeded",
            f"{failed} of {total} rows failed; max_error_rate is {max_error_rate:g}. Read errors_url.",
        )
    else:
        return Ending(JobStatus.COMPLETED)
    return Ending(JobStatus.FAILED, error)


def assemble_committed(
    folder: Path,
    job: BatchJob,
    committed: Mapping[int, ShardCounts],
    status: JobStatus,
    reserve_bytes: int = 0,
) -> Output | None:
    """Join the committed parts, in order, into the output of a job that ends as `status`; None if there are none.

    Raises:
        PlatformError: `run_failed`, a part is damaged; `storage_full`, it would not leave `reserve_bytes` on the disk.
    """
    is_partial = status is not JobStatus.COMPLETED
    if is_partial and not committed:
        return None
    parts = [Part.from_json(cast(Any, committed[shard].part)) for shard in sorted(committed)]
    sizes = [part.results.size_bytes + part.errors.size_bytes for part in parts]
    require_room(folder, sum(sizes), reserve_bytes)
    return assemble(
        folder / "parts",
        folder,
        parts,
        output_format=job.output_format,
        epoch=job.epoch,
        is_partial=is_partial,
        reserve_bytes=reserve_bytes,
    )


def stored_output(
    output: Output | None, kept: FailedRows | None, *, is_delivered: bool
) -> dict[str, object] | None:
    """The output as the job has it, with the failed rows that were `kept`; `delivered`: its destination has it too."""
    if output is None:
        return None
    stored = output.to_json()
    if kept is not None:
        stored["failed_rows"] = kept.to_json()
    return stored | {"delivered": True} if is_delivered else stored


def free_parts(folder: Path) -> None:
    """Remove what a job needs no more whose output is in its record: its parts, and what `free_input` removes.

    A worker that lost the race for a shard may be writing still: what it leaves goes with the job's folder.
    """
    shutil.rmtree(folder / "parts", ignore_errors=True)
    free_input(folder)


def free_input(folder: Path) -> None:
    """Remove what no ended job needs: the spooled input, the notes of its workers, and files left aside."""
    free_spooled(folder)
    shutil.rmtree(folder / "working", ignore_errors=True)
    for pattern in (".output-*", ".errors-*", ".failed-rows-*", ".plan-*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def free_damaged(folder: Path) -> None:
    """What `free_input` removes, and the failed rows of an output that there will never be."""
    free_input(folder)
    for path in folder.glob("failed-rows-*"):
        path.unlink(missing_ok=True)


def free_superseded(folder: Path, output: Mapping[str, Any] | None) -> None:
    """Remove what runs published that died before it was in the job's record; `output` is what is there."""
    output = output or {}
    kept = {output[name]["name"] for name in ("results", "errors") if name in output}
    kept |= {output["failed_rows"][name] for name in ("rows", "numbers") if output.get("failed_rows")}
    for pattern in ("output-*", "errors-*", "failed-rows-*"):
        for path in folder.glob(pattern):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def free_staged_before(folder: Path, epoch: int) -> None:
    """Remove the inputs of runs that died while they staged; never a newer one's, which may have taken over."""
    for path in folder.glob("input-*"):
        if int(path.name.removeprefix("input-")) < epoch:
            shutil.rmtree(path, ignore_errors=True)


def free_spooled(folder: Path) -> None:
    """Remove the spooled input alone: somebody else may be writing the output of the job beside this."""
    for path in folder.glob("input-*"):
        shutil.rmtree(path, ignore_errors=True)
