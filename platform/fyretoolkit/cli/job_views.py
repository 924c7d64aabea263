"""Batch jobs as commands show them: followed to their end, summed up, their results saved."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from rich.console import Console

from fyretoolkit.cli.calls import CANCELED, DONE, INTERRUPTED, REFUSED, end
from fyretoolkit.cli.output import duration, moment, print_fields, print_json, say
from fyretoolkit.client import Job
from fyretoolkit.client.progress import job_progress
from fyretoolkit.core.lifecycles import JobStatus

LIST_COLUMNS = ("id", "status", "model", "done", "failed", "created")
_EXIT_CODES = {JobStatus.COMPLETED: DONE, JobStatus.CANCELED: CANCELED}


def list_row(job: Job) -> tuple[object, ...]:
    """The job in a list."""
    progress = job.progress
    done = str(progress.processed) if progress.total is None else f"{progress.processed}/{progress.total}"
    return job.id, job.status, job.model, done, progress.failed, moment(job.created)


def follow(job: Job, *, as_json: bool) -> Job:
    """Waits for the end of a job: a bar where somebody looks, lines on stderr beside a pipe, nothing beside JSON."""
    console = Console(stderr=True, force_terminal=None if sys.stdout.isatty() else False)
    try:
        with job_progress(not as_json, console) as show:
            return job.wait(progress=show)
    except KeyboardInterrupt:
        end(
            INTERRUPTED,
            f"{job.id} goes on. Follow it: fyre jobs watch {job.id}; end it: fyre jobs cancel {job.id}",
        )


def finish(job: Job, *, output: Path | None, as_json: bool) -> None:
    """Saves the results of a job that ended, sums it up, and ends the command with the job's exit code."""
    saved = save_results(job, output) if output is not None else {}
    if as_json:
        print_json(job)
    else:
        show(job, saved)
    raise typer.Exit(_EXIT_CODES.get(job.status, REFUSED))


def save_results(job: Job, output: Path) -> dict[str, Path]:
    """The results as a local file, and beside it the errors if there are any: `scores.errors.jsonl` for `scores.jsonl`.

    Results that lack rows, because the job failed or was canceled, are named `scores.partial.jsonl`, so that nobody
    takes them for all.
    """
    saved = {}
    if job.output_url is not None:
        to = output.with_name(f"{output.stem}.partial{output.suffix}") if job.partial else output
        saved["results"] = job.download(to)
    if job.errors_url is not None and job.progress.failed:
        saved["row errors"] = job.download_errors(output.with_name(f"{output.stem}.errors.jsonl"))
    for path in saved.values():
        say(f"saved {path}")
    return saved


def show(job: Job, saved: dict[str, Path] | None = None) -> None:
    """The job for people: how it ended or how far it is, and what to do next."""
    progress = job.progress
    fields: list[tuple[str, object]] = [
        ("id", job.id),
        ("status", job.status),
        ("model", job.model),
        ("input", job.input_url),
        ("rows", _rows(job)),
        ("failed rows", progress.failed or None),
        ("time", _time(job)),
        ("place in the queue", job.queue_position),
        ("error", f"{job.error.code}: {job.error.message}" if job.error else None),
        ("retry of", job.retry_of),
        ("webhook", job.webhook),
        ("created", moment(job.created)),
        ("kept until", moment(job.expires_at)),
    ]
    print_fields([*fields, *(saved or {}).items()])
    if job.is_ended and not saved:
        if job.output_url is not None:
            say(f"results: fyre jobs results {job.id}")
        if progress.failed:
            say(f"row errors: fyre jobs errors {job.id}; run them again: fyre jobs retry {job.id}")


def _rows(job: Job) -> str:
    progress = job.progress
    done = f"{progress.processed:,}"
    return done if progress.total in (None, progress.processed) else f"{done} of {progress.total:,}"


def _time(job: Job) -> str | None:
    if job.started is None or job.finished is None:
        return None
    seconds = job.finished - job.started
    if seconds <= 0:  # the API tells whole seconds
        return "under 1 s"
    return f"{duration(seconds)}, {job.progress.processed / seconds:,.0f} rows/s"
