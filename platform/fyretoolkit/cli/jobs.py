"""`fyre jobs`: what became of batch jobs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from fyretoolkit.cli import job_views
from fyretoolkit.cli.batch import (
    ErrorRateOption,
    FormatOption,
    IdempotencyOption,
    MetadataOption,
    OutputOption,
    TimeoutOption,
    WaitOption,
    WebhookOption,
    read_metadata,
    started,
)
from fyretoolkit.cli.calls import platform_client
from fyretoolkit.cli.listing import DEFAULT_LIMIT, LimitOption, page_size, show_list
from fyretoolkit.cli.output import (
    JsonOption,
    is_for_people,
    moment,
    print_json,
    print_json_line,
    print_results,
    print_table,
    say,
)
from fyretoolkit.client import DeliveryResource, JobError, JobResult

app = typer.Typer(no_args_is_help=True, help="Batch jobs: lists, progress, results, failed rows.")

JobId = Annotated[str, typer.Argument(help="The job's id (job_…).")]
SaveOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Save them there instead.")
]
LinesOption = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")]
_SHOWN = 50
"""Rows of a table on a terminal."""


@app.command("list")
def list_jobs(limit: LimitOption = DEFAULT_LIMIT, as_json: JsonOption = False) -> None:
    """List jobs, newest first."""
    with platform_client() as client:
        page = client.jobs.list(limit=page_size(limit))
        show_list(page, job_views.LIST_COLUMNS, job_views.list_row, limit=limit, as_json=as_json)


@app.command()
def get(job_id: JobId, as_json: JsonOption = False) -> None:
    """Show a job: how far it is, or how it ended."""
    with platform_client() as client:
        job = client.jobs.get(job_id)
    if as_json:
        print_json(job)
    else:
        job_views.show(job)


@app.command()
def watch(job_id: JobId, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Follow a job to its end. Exit codes: 0 completed, 1 failed, 4 canceled."""
    with platform_client() as client:
        job = job_views.follow(client.jobs.get(job_id), as_json=as_json)
        job_views.finish(job, output=output, as_json=as_json)


@app.command()
def cancel(job_id: JobId, as_json: JsonOption = False) -> None:
    """Cancel a job at once; what was done stays readable."""
    with platform_client() as client:
        job = client.jobs.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        typer.echo(f"{job.id} is {job.status}; {job.progress.processed} rows are done.")


@app.command()
def results(job_id: JobId, output: SaveOption = None, as_json: LinesOption = False) -> None:
    """Show results in the order of the input: a table on a terminal, JSON lines in a pipe or with --json.

    Of a job that runs: as they come, until it ends. With --output they are saved as the job has them, CSV as CSV.
    """
    with platform_client() as client:
        job = client.jobs.get(job_id)
        if output is not None:
            say(f"saved {job.download(output)}")
            return
        if as_json or not is_for_people():
            for result in job.iter_results():
                named = {} if result.id is None else {"id": result.id}
                print_json_line({"index": result.index, **named, "result": result.result})
            return
        found = list(islice(job.iter_results(), _SHOWN))
    print_results([_fields(result) for result in found])
    _say_how_to_see_all(len(found), job.progress.succeeded)


@app.command()
def errors(job_id: JobId, output: SaveOption = None, as_json: LinesOption = False) -> None:
    """Show the rows that failed, and why: a table on a terminal, JSON lines in a pipe or with --json."""
    with platform_client() as client:
        job = client.jobs.get(job_id)
        if output is not None:
            say(f"saved {job.download_errors(output)}")
            return
        if as_json or not is_for_people():
            for error in job.errors():
                print_json_line(_error_line(error))
            return
        found = list(islice(job.errors(), _SHOWN))
    rows = ((error.line, error.id, error.code, error.message) for error in found)
    print_table(("line", "id", "code", "message"), rows)
    _say_how_to_see_all(len(found), job.progress.failed)


@app.command()
def retry(
    job_id: JobId,
    wait: WaitOption = False,
    output: OutputOption = None,
    output_format: FormatOption = None,
    max_error_rate: ErrorRateOption = None,
    timeout_s: TimeoutOption = None,
    webhook: WebhookOption = None,
    metadata: MetadataOption = None,
    idempotency_key: IdempotencyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a new job over the rows that failed; what is left out is as the first job has it."""
    with platform_client() as client:
        job = client.jobs.retry(
            job_id,
            output_format=output_format,
            max_error_rate=max_error_rate,
            timeout_s=timeout_s,
            webhook=webhook,
            metadata=read_metadata(metadata),
            idempotency_key=idempotency_key,
        )
        started(job, wait=wait, output=output, as_json=as_json)


@app.command()
def deliveries(
    job_id: JobId,
    redeliver: Annotated[
        str | None, typer.Option(metavar="ID", help="Send this one again, at once, and show it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of a job's webhook, newest delivery first."""
    with platform_client() as client:
        if redeliver is not None:
            again = client.deliveries.redeliver(job_id, redeliver)
            if as_json:
                print_json(again)
            else:
                print_table(_DELIVERY_COLUMNS, [_delivery_row(again)])
            return
        page = client.deliveries.list(job_id, limit=page_size(None))
        show_list(page, _DELIVERY_COLUMNS, _delivery_row, limit=None, as_json=as_json)


_DELIVERY_COLUMNS = ("id", "status", "event", "attempts", "last answer", "next attempt", "url")


def _delivery_row(delivery: DeliveryResource) -> tuple[object, ...]:
    last = delivery.attempts[-1] if delivery.attempts else None
    answer = "" if last is None else last.status_code or last.error
    return (
        delivery.id, delivery.status, delivery.type, len(delivery.attempts), answer,
        moment(delivery.next_attempt_at), delivery.url,
    )  # fmt: skip


def _fields(result: JobResult) -> dict[str, object]:
    """The result beside the row that it is of."""
    fields = result.result if isinstance(result.result, dict) else {"result": result.result}
    named = {} if result.id is None else {"id": result.id}
    return {"index": result.index, **named, **fields}


def _say_how_to_see_all(shown: int, total: int) -> None:
    if total > shown:
        say(f"The first {shown} of {total}; --json or --output gives all.")


def _error_line(error: JobError) -> dict[str, object]:
    named = {} if error.id is None else {"id": error.id}
    return {
        "index": error.index,
        "line": error.line,
        **named,
        "error": {"code": error.code, "message": error.message},
    }
