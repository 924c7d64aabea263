"""`fyre batch run`: a file of rows through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fyretoolkit.cli import job_views
from fyretoolkit.cli.calls import MISUSED, end, platform_client
from fyretoolkit.cli.output import JsonOption, print_json, say
from fyretoolkit.client import Job

app = typer.Typer(no_args_is_help=True, help="Batch prediction over CSV and JSONL files.")

WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Stay until the job ended.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Wait, and save the results there; row errors go beside them."
    ),
]
FormatOption = Annotated[
    Literal["jsonl", "csv"] | None, typer.Option("--output-format", help="Of the results; jsonl if left out.")
]
ErrorRateOption = Annotated[
    float | None, typer.Option("--max-error-rate", min=0, max=1, help="The share of rows that may fail.")
]
TimeoutOption = Annotated[
    int | None, typer.Option("--timeout-s", min=1, help="Fail if it runs longer than so many seconds.")
]
WebhookOption = Annotated[str | None, typer.Option(help="A URL that is called when the job ends.")]
MetadataOption = Annotated[
    list[str] | None, typer.Option(metavar="K=V", help="Shown with the job; may be repeated.")
]
IdempotencyOption = Annotated[
    str | None, typer.Option(help="The same key again gives the same job instead of another.")
]


@app.callback()
def _group() -> None:
    """Keeps `run` a command of its own, though it is the only one."""


@app.command()
def run(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="A local file, which is uploaded by itself, or a URL.")
    ],
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
    """Start a job over a CSV file with a header, or a JSONL file.

    Prints the job's id; with --wait its summary. Exit codes with --wait: 0 completed, 1 failed, 4 canceled.
    """
    with platform_client() as client:
        job = client.batch.create(
            model,
            source,
            output_format=output_format or _format_of(output),
            max_error_rate=max_error_rate,
            timeout_s=timeout_s,
            webhook=webhook,
            metadata=read_metadata(metadata),
            idempotency_key=idempotency_key,
        )
        started(job, wait=wait, output=output, as_json=as_json)


def started(job: Job, *, wait: bool, output: Path | None, as_json: bool) -> None:
    """What follows once a job is there: its id, or its end."""
    if wait or output is not None:
        job_views.finish(job_views.follow(job, as_json=as_json), output=output, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        typer.echo(job.id)
        say(f"It is {job.status}. Follow it: fyre jobs watch {job.id}")


def read_metadata(pairs: list[str] | None) -> dict[str, str] | None:
    """`K=V`, each once; None without any."""
    split = [pair.partition("=") for pair in pairs or []]
    if not all(name and equals for name, equals, _ in split):
        end(MISUSED, "--metadata takes K=V.")
    return {name: value for name, _, value in split} or None


def _format_of(output: Path | None) -> Literal["csv"] | None:
    """A file that is called .csv gets CSV."""
    return "csv" if output is not None and output.suffix.lower() == ".csv" else None
