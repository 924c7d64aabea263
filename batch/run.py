"""`python -m batch.run`: a file of rows through a model, as a job of the platform that this very process runs.

Submitted with `ray job submit` it is what `POST /batch` is, in a driver of its own; `--local` needs no platform.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from batch.access import KEY_VARIABLE, find_organization
from batch.background import step_out_with_session
from batch.destinations import names_of
from batch.driver import drive
from batch.progress import Display, open_display
from batch.submission import Wish, create_driven, submission_id
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.egress.urls import parse_url
from fyretoolkit.schemas.jobs import BatchCreate
from fyretoolkit.settings import Settings, load_settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore

COMPLETED, FAILED, REFUSED, NO_PLATFORM, CANCELED = 0, 1, 2, 3, 4
_AWAY = frozenset({"unavailable", "internal_error"})

_EPILOG = f"""\
examples:
  eval "$(fyre env)"
  ray job submit --working-dir . -- python -m batch.run \\
      --model sentiment-v1 --input https://example.com/rows.jsonl --output s3://bucket/scores.jsonl
  python -m batch.run --local --model ./my-model --input rows.csv --output scores.csv --output-format csv

The job belongs to the organization of the API key in {KEY_VARIABLE}; in development mode, without one, to the demo
organization. A submitted job gets it with --runtime-env-json '{{"env_vars": {{"{KEY_VARIABLE}": "sk_live_..."}}}}'.
Failed rows go beside the output: scores.errors.jsonl for scores.jsonl. Results that lack rows, because the job was
canceled or failed, are named scores.partial.jsonl. What is there under these names is replaced.

exit codes:
  {COMPLETED}  the job completed (rows may have failed: see --max-error-rate)
  {FAILED}  the job failed
  {REFUSED}  there is no job: an argument is wrong, or the platform refused it
  {NO_PLATFORM}  there is no platform here, or it does not answer
  {CANCELED}  the job was canceled: by the API, SIGTERM (ray job stop) or Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        wish = _wish(given)
        if given.local:
            from batch.local import run_local  # it brings what a submitted job has no use for

            return run_local(wish, workers=given.workers)
        return asyncio.run(_submit(_platform(), wish))
    except PlatformError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return NO_PLATFORM if error.code in _AWAY and not given.local else REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batch.run",
        description="Run a file of rows through a model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--model",
        required=True,
        help="the model's id; with --local a package's folder or archive, a .onnx, or a demo model",
    )
    add(
        "--input",
        required=True,
        metavar="URL",
        help="CSV with a header, or JSONL: what POST /batch takes; with --local also a path",
    )
    add(
        "--output",
        metavar="URL",
        help="s3://bucket/key or file:///path (default: where output_url says); with --local also a path",
    )
    add("--output-format", choices=("jsonl", "csv"), default="jsonl", help="of the results (default: jsonl)")
    add(
        "--max-error-rate",
        type=float,
        default=1.0,
        metavar="RATE",
        help="the share of rows that may fail, 0 to 1 (default: 1)",
    )
    add("--timeout-s", type=int, metavar="S", help="fail when the job is not done after so many seconds")
    add("--metadata", action="append", default=[], metavar="K=V", help="shown with the job; may be repeated")
    add(
        "--local",
        action="store_true",
        help="run here, without a platform; the same command again goes on where it stopped",
    )
    add("--workers", type=int, metavar="N", help="processes of --local (default: one a core)")
    return parser  # fmt: skip


def _wish(given: argparse.Namespace) -> Wish:
    """What is asked for, by the rules of `POST /batch`.

    Raises:
        PlatformError: `invalid_request`.
    """
    pairs = [text.partition("=") for text in given.metadata]
    if not all(name and equals for name, equals, _ in pairs):
        raise PlatformError("invalid_request", "--metadata takes K=V.")
    if given.workers is not None and (given.workers < 1 or not given.local):
        raise PlatformError("invalid_request", "--workers takes a number from 1, together with --local.")
    try:
        body = BatchCreate(
            input_url=given.input,
            output_format=given.output_format,
            max_error_rate=given.max_error_rate,
            timeout_s=given.timeout_s,
            metadata={name: value for name, _, value in pairs} or None,
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        where = str(wrong["loc"][0]).removesuffix("_url").replace("_", "-")
        raise PlatformError("invalid_request", f"--{where}: {wrong['msg']}.") from error
    return Wish(given.model, body, given.output)


def _platform() -> Settings:
    """The settings of the platform whose job this process is.

    Raises:
        PlatformError: `unavailable`, it is none's.
    """
    try:
        return load_settings(os.environ)
    except KeyError as error:
        raise PlatformError(
            "unavailable",
            'This is not a process of the platform. Submit it: eval "$(fyre env)", then '
            "ray job submit --working-dir . -- python -m batch.run …; or add --local.",
        ) from error


async def _submit(settings: Settings, wish: Wish) -> int:
    submission = submission_id(os.environ)
    if submission and settings.batch.worker_niceness > 0:
        step_out_with_session()
    driver = submission or f"pid-{os.getpid()}"
    store = Store(settings.redis_url.get_secret_value())
    try:
        org = await find_organization(store, settings, os.environ.get(KEY_VARIABLE))
        connect()
        job = await create_driven(store, settings, org, wish, driver=driver)
        jobs = JobStore(store, settings.batch.job_ttl_s)
        with open_display() as display:
            display.say(f"{job.id} runs here, for {org}. Follow it from elsewhere with GET /jobs/{job.id}")
            ended = await drive(settings, jobs, job, display)
            report(ended, display)
    finally:
        await store.close()
    return exit_code(ended)


def connect() -> None:
    """Join the cluster as a driver, from the main thread: Ray puts a handler of its own on SIGTERM, ours comes after.

    Raises:
        PlatformError: `unavailable`.
    """
    import ray

    try:
        ray.init(log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError) as error:
        raise PlatformError("unavailable", f"Ray does not answer: {error}") from error


def report(job: BatchJob, display: Display) -> None:
    """How the job ended, and where its results are."""
    counts = f"{job.succeeded} rows have results, {job.failed} failed"
    display.say(f"{job.id} is {job.status}: {counts}")
    if job.error is not None:
        display.say(f"{job.error['code']}: {job.error['message']}")
    if job.destination is not None and job.output is not None and job.output.get("delivered"):
        names = names_of(parse_url(job.destination), is_partial=bool(job.output["partial"]))
        display.say(f"results: {names.results.shown}\nerrors: {names.errors.shown}")
    elif job.has_results:
        display.say(f"results: GET /jobs/{job.id}/output\nerrors: GET /jobs/{job.id}/errors")


def exit_code(job: BatchJob) -> int:
    """That of an ended job."""
    return {JobStatus.COMPLETED: COMPLETED, JobStatus.CANCELED: CANCELED}.get(job.status, FAILED)


def _end(code: int) -> None:
    """Leave at once: a thread that works for a run that was stopped is not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
