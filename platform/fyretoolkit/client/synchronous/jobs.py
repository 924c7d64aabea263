# Generated from ../asynchronous/jobs.py by scripts/describe: change that one.
"""`client.jobs`, and a job that can be waited for and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PrivateAttr

from fyretoolkit.client.calls import create, get, path_of, post
from fyretoolkit.client.errors import APIError, FyreError
from fyretoolkit.client.progress import ShowJob, job_progress
from fyretoolkit.client.records import JobError, JobResult, Records, read_error, read_result
from fyretoolkit.client.retries import Polling
from fyretoolkit.client.seams import save, sleep
from fyretoolkit.client.synchronous.deliveries import Deliveries
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.client.tables import arrow_table, data_frame
from fyretoolkit.core.lifecycles import JOB, is_terminal
from fyretoolkit.schemas.deliveries import DeliveryResource
from fyretoolkit.schemas.jobs import JobResource

if TYPE_CHECKING:
    import pandas
    import pyarrow

_NOTHING_YET = ("output_not_ready", "no_output")


class Job(JobResource):
    """A batch job as it was when it was read; `refresh` reads it again."""

    _transport: Transport = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Keeps what it was read through."""
        self._transport = context

    @property
    def is_ended(self) -> bool:
        """Whether it is completed, failed or canceled, which is final."""
        return is_terminal(JOB, self.status)

    def refresh(self) -> Job:
        """The job as it is now."""
        return Jobs(self._transport).get(self.id)

    def wait(self, *, timeout: float | None = None, progress: bool | ShowJob = False) -> Job:
        """Waits until it ended, whichever way, and answers the job as it is then: see its `status` and `error`.

        `timeout`: seconds to wait. `progress`: shows a bar on a terminal or in a notebook and lines elsewhere, on
        stderr; or calls a function with the job at each look.

        Raises:
            WaitTimeoutError: it goes on.
        """
        job = self
        with job_progress(progress) as show:
            for job in self._looks(timeout):
                show(job)
        return job

    def cancel(self) -> Job:
        """Canceled at once; what was committed stays readable."""
        return Jobs(self._transport).cancel(self.id)

    def retry(self, *, idempotency_key: str | None = None) -> Job:
        """A new job over the rows that failed."""
        return Jobs(self._transport).retry(self.id, idempotency_key=idempotency_key)

    def iter_results(self) -> Iterator[JobResult]:
        """Every result, in the order of the input. Of a job that still runs: as they come, until it ends."""
        records = Records(is_csv=self.output_format == "csv")
        for block in self._blocks("output"):
            for record in records.feed(block):
                yield read_result(record)
        for record in records.end():
            yield read_result(record)

    def errors(self) -> Iterator[JobError]:
        """Every row that failed, in the order of the input; like `iter_results`."""
        records = Records()
        for block in self._blocks("errors"):
            for record in records.feed(block):
                yield read_error(record)
        for record in records.end():
            yield read_error(record)

    def download(self, to: str | PathLike[str]) -> Path:
        """The results as a local file, in the job's format; waits for the end of one that still runs."""
        return save(self._blocks("output"), Path(to))

    def download_errors(self, to: str | PathLike[str]) -> Path:
        """The errors as a local JSONL file; waits for the end of a job that still runs."""
        return save(self._blocks("errors"), Path(to))

    def to_arrow(self) -> pyarrow.Table:
        """Every result as a table: `index`, `id` if the input had one, and the fields of the results.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        return arrow_table([result for result in self.iter_results()])

    def to_pandas(self) -> pandas.DataFrame:
        """The same as a data frame.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return data_frame([result for result in self.iter_results()])

    def deliveries(self) -> Page[DeliveryResource]:
        """The deliveries of its webhook, newest first."""
        return Deliveries(self._transport).list(self.id)

    def _looks(self, timeout: float | None) -> Iterator[Job]:
        """The job again and again until it ended."""
        polling = Polling(f"Job {self.id}", timeout, self._transport.options)
        job = self
        while True:
            yield job
            if job.is_ended:
                return
            sleep(polling.pause())
            try:
                looking = Jobs(self._transport.with_options(polling.options))
                job = looking.get(self.id)
                polling.worked()
            except FyreError as failure:
                pause_s = polling.pause_after(failure)
                sleep(pause_s)

    def _blocks(self, kind: str) -> Iterator[bytes]:
        """What is committed of a file of it, then what comes, until it ended.

        It is looked at before it is read: what is there after the end is all.
        """
        position = 0
        for job in self._looks(None):
            try:
                for block in self._transport.blocks(path_of("jobs", self.id, kind), position):
                    position += len(block)
                    yield block
            except APIError as failure:
                if failure.code not in _NOTHING_YET:
                    raise
            if job.is_ended:
                return


class Jobs:
    """Batch jobs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, starting_after: str | None = None) -> Page[Job]:
        """Newest first. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, Job, "/jobs", query)

    def get(self, job_id: str) -> Job:
        """How far the job is, and where its results are once it ended."""
        return self._transport.fetch(get(path_of("jobs", job_id)), Job)

    def cancel(self, job_id: str) -> Job:
        """Canceled at once; what was committed stays readable."""
        return self._transport.fetch(post(path_of("jobs", job_id, "cancel"), is_repeatable=True), Job)

    def retry(
        self,
        job_id: str,
        *,
        output_format: Literal["jsonl", "csv"] | None = None,
        max_error_rate: float | None = None,
        timeout_s: int | None = None,
        webhook: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job over the rows that failed. What is left out, `max_error_rate` aside, is as the first job has it."""
        call = create(
            path_of("jobs", job_id, "retry"),
            idempotency_key,
            output_format=output_format,
            max_error_rate=max_error_rate,
            timeout_s=timeout_s,
            webhook=webhook,
            metadata=metadata,
        )
        return self._transport.fetch(call, Job)
