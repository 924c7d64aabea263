"""Batch jobs on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from fyretoolkit.core.downloads import DownloadKind
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.schemas.deployments import FailureBody
from fyretoolkit.schemas.fields import IdempotencyKey
from fyretoolkit.schemas.metadata import Metadata
from fyretoolkit.schemas.wire import RequestModel, Resource

Url = Annotated[str, Field(min_length=1, max_length=8192)]


class BatchCreate(RequestModel):
    """The body of `POST /batch/{model_id}`."""

    input_url: Annotated[Url, Field(description="CSV with a header, or JSONL.")]
    webhook: Annotated[Url | None, Field(description="Called when the job ends.")] = None
    idempotency_key: IdempotencyKey | None = None
    """Instead of the header `Idempotency-Key`: the same key gives the same answer for 24 h."""
    output_format: Literal["jsonl", "csv"] = "jsonl"
    """Of the results; errors are JSONL."""
    max_error_rate: Annotated[float, Field(ge=0, le=1, description="The share of rows that may fail.")] = 1.0
    timeout_s: Annotated[int | None, Field(gt=0, le=30 * 86_400)] = None
    """Seconds from its start after which the job fails; null: no bound. Time in the queue does not count."""
    metadata: Metadata | None = None
    """The caller's own object, shown with the job."""


class JobRetry(RequestModel):
    """The body of `POST /jobs/{id}/retry`. What is left out, `max_error_rate` aside, is as the first job has it."""

    webhook: Annotated[Url | None, Field(description="Called when the job ends.")] = None
    idempotency_key: IdempotencyKey | None = None
    """Instead of the header `Idempotency-Key`: the same key gives the same answer for 24 h."""
    output_format: Literal["jsonl", "csv"] | None = None
    """Of the results; errors are JSONL."""
    max_error_rate: Annotated[float, Field(ge=0, le=1, description="The share of rows that may fail.")] = 1.0
    timeout_s: Annotated[int | None, Field(gt=0, le=30 * 86_400)] = None
    """Seconds from its start after which the job fails; null: no bound."""
    metadata: Metadata | None = None
    """The caller's own object, shown with the job."""


class DownloadQuery(RequestModel):
    """The query of `GET /jobs/{id}/output` and `/errors`: the token that a link carries."""

    token: str = ""


class Progress(Resource):
    """Records done so far; `total` is null until they are counted."""

    processed: int
    """Records done: `succeeded` and `failed`."""
    total: int | None
    """Records of the input; null until they are counted."""
    succeeded: int
    """Records with a result."""
    failed: int
    """Records with an error."""


class JobResource(Resource):
    """A batch job. The URLs are there once the job ended; `partial`: they hold only what was done by then."""

    id: str
    """The job's id."""
    object: Literal["batch_job"] = "batch_job"
    """Always `batch_job`."""
    status: JobStatus
    """`completed`, `failed` and `canceled` are final."""
    model: str
    """The id of the model."""
    created: int
    """When it was created, in Unix seconds."""
    started: int | None
    """When its first run began, in Unix seconds; null before."""
    finished: int | None
    """When it ended, in Unix seconds; null before."""
    input_url: str
    """Where the input lies."""
    output_format: Literal["jsonl", "csv"]
    """Of the results; errors are JSONL."""
    progress: Progress
    """How many records are done."""
    queue_position: int | None
    """Its place among the queued jobs, by the order in which they begin; null once it began.

    Organizations take turns, so another's new job may begin before it.
    """
    expires_at: int | None
    """When job and results are deleted, in Unix seconds; null until it ended."""
    retry_of: str | None
    """The job whose failed records are its input: lines have the `index` and `line` of that job. Else null."""
    output_url: str | None
    """Where the results can be downloaded, without a key until the link expires; null before the end."""
    errors_url: str | None
    """The same for the errors."""
    error: FailureBody | None
    """Why it failed; else null."""
    partial: bool
    """Whether results are missing because it did not complete."""
    webhook: str | None
    """What is called when it ends; else null."""
    metadata: dict[str, JsonValue] | None
    """The caller's own object; else null."""

    @classmethod
    def from_record(
        cls,
        job: BatchJob,
        *,
        links: Mapping[DownloadKind, str],
        job_ttl_s: int,
        queue_position: int | None = None,
    ) -> JobResource:
        """The stored job as callers see it."""
        return cls.model_validate(
            {
                "id": job.id,
                "status": job.status,
                "model": job.model,
                "created": job.created,
                "started": job.started,
                "finished": job.finished,
                "input_url": job.input_url,
                "output_format": job.output_format,
                "progress": {
                    "processed": job.succeeded + job.failed,
                    "total": job.total,
                    "succeeded": job.succeeded,
                    "failed": job.failed,
                },
                "queue_position": queue_position,
                "expires_at": None if job.finished is None else job.finished + job_ttl_s,
                "retry_of": job.retry_of,
                "output_url": links.get(DownloadKind.OUTPUT),
                "errors_url": links.get(DownloadKind.ERRORS),
                "error": job.error,
                "partial": job.is_partial,
                "webhook": job.webhook,
                "metadata": job.metadata,
            }
        )
