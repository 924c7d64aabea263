"""`client.jobs`, and a job that can be waited for and read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PrivateAttr

from fyretoolkit.client.asynchronous.deliveries import AsyncDeliveries
from fyretoolkit.client.asynchronous.pages import AsyncPage, async_page_of
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import create, get, path_of, post
from fyretoolkit.client.errors import APIError, FyreError
from fyretoolkit.client.progress import ShowJob, job_progress
from fyretoolkit.client.records import JobError, JobResult, Records, read_error, read_result
from fyretoolkit.client.retries import Polling
from fyretoolkit.client.seams import async_save, async_sleep
from fyretoolkit.client.tables import arrow_table, data_frame
from fyretoolkit.core.lifecycles import JOB, is_terminal
from fyretoolkit.schemas.deliveries import DeliveryResource
from fyretoolkit.schemas.jobs import JobResource

if TYPE_CHECKING:
    import pandas
    import pyarrow

_NOTHING_YET = ("output_not_ready", "no_output")


class AsyncJob(JobResource):
    """A batch job as it was when it was read; `refresh` reads it again."""

    _transport: AsyncTransport = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Keeps what it was read through."""
        self._transport = context

    @property
    def is_ended(self) -> bool:
        """Whether it is completed, failed or canceled, which is final."""
        return is_terminal(JOB, self.status)

    async def refresh(self) -> AsyncJob:
        """The job as it is now."""
        return await AsyncJobs(self._transport).get(self.id)

    async def wait(self, *, timeout: float | None = None, progress: bool | ShowJob = False) -> AsyncJob:
        """Waits until it ended, whichever way, and answers the job as it is then: see its `status` and `error`.

        `timeout`: seconds to wait. `progress`: shows a bar on a terminal or in a notebook and lines elsewhere, on
        stderr; or calls a function with the job at each look.

        Raises:
            WaitTimeoutError: it goes on.
        """
        job = self
        with job_progress(progress) as show:
            async for job in self._looks(timeout):
                show(job)
        return job

    async def cancel(self) -> AsyncJob:
        """Canceled at once; what was committed stays readable."""
        return await AsyncJobs(self._transport).cancel(self.id)

    async def retry(self, *, idempotency_key: str | None = None) -> AsyncJob:
        """A new job over the rows that failed."""
        return await AsyncJobs(self._transport).retry(self.id, idempotency_key=idempotency_key)

    async def iter_results(self) -> AsyncIterator[JobResult]:
        """Every result, in the order of the input. Of a job that still runs: as they come, until it ends."""
        records = Records(is_csv=self.output_format == "csv")
        async for block in self._blocks("output"):
            for record in records.feed(block):
                yield read_result(record)
        for record in records.end():
            yield read_result(record)

    async def errors(self) -> AsyncIterator[JobError]:
        """Every row that failed, in the order of the input; like `iter_results`."""
        records = Records()
        async for block in self._blocks("errors"):
            for record in records.feed(block):
                yield read_error(record)
        for record in records.end():
            yield read_error(record)

    async def download(self, to: str | PathLike[str]) -> Path:
        """The results as a local file, in the job's format; waits for the end of one that still runs."""
        return await async_save(self._blocks("output"), Path(to))

    async def download_errors(self, to: str | PathLike[str]) -> Path:
        """The errors as a local JSONL file; waits for the end of a job that still runs."""
        return await async_save(self._blocks("errors"), Path(to))

    async def to_arrow(self) -> pyarrow.Table:
        """Every result as a table: `index`, `id` if the input had one, and the fields of the results.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        return arrow_table([result async for result in self.iter_results()])

    async def to_pandas(self) -> pandas.DataFrame:
        """The same as a data frame.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return data_frame([result async for result in self.iter_results()])

    async def deliveries(self) -> AsyncPage[DeliveryResource]:
        """The deliveries of its webhook, newest first."""
        return await AsyncDeliveries(self._transport).list(self.id)

    async def _looks(self, timeout: float | None) -> AsyncIterator[AsyncJob]:
        """The job again and again until it ended."""
        polling = Polling(f"Job {self.id}", timeout, self._transport.options)
        job = self
        while True:
            yield job
            if job.is_ended:
                return
            await async_sleep(polling.pause())
            try:
                looking = AsyncJobs(self._transport.with_options(polling.options))
                job = await looking.get(self.id)
                polling.worked()
            except FyreError as failure:
                pause_s = polling.pause_after(failure)
                await async_sleep(pause_s)

    async def _blocks(self, kind: str) -> AsyncIterator[bytes]:
        """What is committed of a file of it, then what comes, until it ended.

        It is looked at before it is read: what is there after the end is all.
        """
        position = 0
        async for job in self._looks(None):
            try:
                async for block in self._transport.blocks(path_of("jobs", self.id, kind), position):
                    position += len(block)
                    yield block
            except APIError as failure:
                if failure.code not in _NOTHING_YET:
                    raise
            if job.is_ended:
                return


class AsyncJobs:
    """Batch jobs."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(
        self, *, limit: int | None = None, starting_after: str | None = None
    ) -> AsyncPage[AsyncJob]:
        """Newest first. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return await async_page_of(self._transport, AsyncJob, "/jobs", query)

    async def get(self, job_id: str) -> AsyncJob:
        """How far the job is, and where its results are once it ended."""
        return await self._transport.fetch(get(path_of("jobs", job_id)), AsyncJob)

    async def cancel(self, job_id: str) -> AsyncJob:
        """Canceled at once; what was committed stays readable."""
        return await self._transport.fetch(
            post(path_of("jobs", job_id, "cancel"), is_repeatable=True), AsyncJob
        )

    async def retry(
        self,
        job_id: str,
        *,
        output_format: Literal["jsonl", "csv"] | None = None,
        max_error_rate: float | None = None,
        timeout_s: int | None = None,
        webhook: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
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
        return await self._transport.fetch(call, AsyncJob)
