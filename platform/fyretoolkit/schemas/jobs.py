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
    output_format: Literal["jsonl", "csv"] = "jsonl"
    max_error_rate: Annotated[float, Field(ge=0, le=1, description="The share of rows that may fail.")] = 1.0
    timeout_s: Annotated[int | None, Field(gt=0, le=30 * 86_400)] = None
    metadata: Metadata | None = None


class DownloadQuery(RequestModel):
    """The query of `GET /jobs/{id}/output` and `/errors`: the token that a link carries."""

    token: str = ""


class Progress(Resource):
    """Records done so far; `total` is null until they are counted."""

    processed: int
    total: int | None
    succeeded: int
    failed: int


class JobResource(Resource):
    """A batch job. The URLs are there once the job ended; `partial`: they hold only what was done by then."""

    id: str
    object: Literal["batch_job"] = "batch_job"
    status: JobStatus
    model: str
    created: int
    started: int | None
    finished: int | None
    input_url: str
    output_format: Literal["jsonl", "csv"]
    progress: Progress
    queue_position: int | None
    expires_at: int | None
    retry_of: str | None
    output_url: str | None
    errors_url: str | None
    error: FailureBody | None
    partial: bool
    webhook: str | None
    metadata: dict[str, JsonValue] | None

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
                "retry_of": None,
                "output_url": links.get(DownloadKind.OUTPUT),
                "errors_url": links.get(DownloadKind.ERRORS),
                "error": job.error,
                "partial": job.is_partial,
                "webhook": job.webhook,
                "metadata": job.metadata,
            }
        )
