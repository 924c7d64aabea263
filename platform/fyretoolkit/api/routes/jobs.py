"""`/batch` and `/jobs`: a job is accepted here and run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from fyretoolkit.api.dependencies import Parts, Reader, Writer, json_body
from fyretoolkit.api.idempotency import claim_of, created, find_replay, replayed
from fyretoolkit.api.openapi import creation_headers, download, failures, request_body
from fyretoolkit.api.pages import check_cursor, fill_page
from fyretoolkit.api.requests import base_url
from fyretoolkit.api.responses import Download
from fyretoolkit.api.routes.models import known_model
from fyretoolkit.api.services import Services
from fyretoolkit.api.sources import check_address, require_artifact
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id, new_id
from fyretoolkit.core.jobs import PREFIX, BatchJob
from fyretoolkit.core.lifecycles import JOB, JobStatus, is_terminal
from fyretoolkit.egress.urls import Purpose
from fyretoolkit.schemas.jobs import BatchCreate, JobResource
from fyretoolkit.schemas.pages import Page, PageQuery

COLLECTION = "/jobs"
_MEDIA_TYPES = {".csv": "text/csv", ".jsonl": "application/jsonl"}

router = APIRouter(tags=["Batch jobs"])


@router.post(
    "/batch/{model_id}",
    status_code=202,
    summary="Create a batch job",
    response_model=JobResource,
    responses={**creation_headers(202), **failures(400, 401, 403, 404, 409, 413, 415, 422, 503)},
    openapi_extra=request_body(BatchCreate),
)
async def create_job(
    request: Request,
    model_id: str,
    principal: Writer,
    services: Parts,
    body: Annotated[BatchCreate, Depends(json_body(BatchCreate))],
) -> Response:
    """Accepts a job over a CSV or JSONL file. The model needs no deployment."""
    claim = claim_of(request, principal, body)
    if (answer := await find_replay(services.store, claim)) is not None:
        return replayed(answer, status=202, collection=COLLECTION)
    job = await _new_job(services, principal.org, model_id, body)
    answer = _resource_of(services, request, job).to_json()
    creation = await services.jobs.create(job, idempotency=claim.with_answer(answer) if claim else None)
    return created(creation, answer, status=202, collection=COLLECTION)


@router.get(COLLECTION, summary="List batch jobs", responses=failures(400, 401, 403, 503))
async def list_jobs(
    request: Request, principal: Reader, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[JobResource]:
    """Newest first."""
    check_cursor(query.starting_after, PREFIX)

    async def fetch(limit: int, after: BatchJob | None) -> Sequence[BatchJob]:
        cursor = after.id if after else query.starting_after
        return await services.jobs.page(principal.org, limit, starting_after=cursor)

    found, has_more = await fill_page(fetch, query.limit)
    data = [_resource_of(services, request, job) for job in found]
    return Page[JobResource](data=data, has_more=has_more)


@router.get(COLLECTION + "/{job_id}", summary="Get a batch job", responses=failures(401, 403, 404, 503))
async def get_job(request: Request, job_id: str, principal: Reader, services: Parts) -> JobResource:
    """How far the job is, and where its results are once it ended."""
    job = await _known_job(services, principal.org, job_id)
    position = await _queue_position(services, job) if job.status is JobStatus.QUEUED else None
    return _resource_of(services, request, job, position)


@router.post(
    COLLECTION + "/{job_id}/cancel", summary="Cancel a batch job", responses=failures(401, 403, 404, 409, 503)
)
async def cancel_job(request: Request, job_id: str, principal: Writer, services: Parts) -> JobResource:
    """Canceled at once; what was committed stays readable. Canceling again answers the same job."""
    job = await _known_job(services, principal.org, job_id)
    status = await services.jobs.finish(job, JobStatus.CANCELED)
    if status is None:
        raise PlatformError("job_not_found")
    if status is not JobStatus.CANCELED:
        raise PlatformError(
            "job_not_cancelable", f"The job is {status} already. Read its result with GET /jobs/{job.id}."
        )
    return _resource_of(services, request, await _known_job(services, principal.org, job_id))


@router.get(
    COLLECTION + "/{job_id}/output",
    summary="Download the results",
    response_class=FileResponse,
    responses={**download(), **failures(401, 403, 404, 409, 416, 503)},
)
async def get_output(job_id: str, principal: Reader, services: Parts) -> FileResponse:
    """One line for each record that has a result, in the input's order."""
    return await _file(services, principal.org, job_id, "results")


@router.get(
    COLLECTION + "/{job_id}/errors",
    summary="Download the errors",
    response_class=FileResponse,
    responses={**download(), **failures(401, 403, 404, 409, 416, 503)},
)
async def get_errors(job_id: str, principal: Reader, services: Parts) -> FileResponse:
    """One line for each record that failed, with its line in the input and the reason."""
    return await _file(services, principal.org, job_id, "errors")


async def _new_job(services: Services, org: str, model_id: str, body: BatchCreate) -> BatchJob:
    artifact, spec = require_artifact(await known_model(services, org, model_id))
    check_address(services.settings, "input_url", body.input_url)
    if body.webhook is not None:
        check_address(services.settings, "webhook", body.webhook, Purpose.WEBHOOK)
    return BatchJob(
        id=new_id(PREFIX),
        org=org,
        status=JobStatus.QUEUED,
        model=model_id,
        artifact=artifact,
        spec=spec,
        input_url=body.input_url,
        created=int(time.time()),
        output_format=body.output_format,
        max_error_rate=body.max_error_rate,
        timeout_s=body.timeout_s,
        webhook=body.webhook,
        metadata=body.metadata,
    )


async def _known_job(services: Services, org: str, job_id: str) -> BatchJob:
    job = await services.jobs.get(org, job_id) if is_id(job_id, PREFIX) else None
    if job is None:
        raise PlatformError("job_not_found")
    return job


async def _queue_position(services: Services, job: BatchJob) -> int:
    """1 is the next to run, over all organizations."""
    waiting = [other for other in await services.jobs.open_jobs() if other.status is JobStatus.QUEUED]
    return 1 + sum(other.id < job.id for other in waiting)


async def _file(
    services: Services, org: str, job_id: str, kind: Literal["results", "errors"]
) -> FileResponse:
    job = await _known_job(services, org, job_id)
    stored = cast(Mapping[str, Any], (job.output or {}).get(kind) or {})
    path = services.settings.jobs_dir / job.id / Path(stored.get("name", "")).name
    if not stored or not path.is_file():
        raise _no_file(job, kind, is_lost=bool(stored))
    return Download(path, media_type=_MEDIA_TYPES.get(path.suffix), filename=f"{job.id}-{kind}{path.suffix}")


def _no_file(job: BatchJob, kind: Literal["results", "errors"], *, is_lost: bool) -> PlatformError:
    """Final once nothing can come any more: what was committed is put together after the job's end."""
    is_empty = not job.succeeded and not job.failed
    if is_lost or (is_terminal(JOB, job.status) and is_empty):
        return PlatformError(
            "no_output",
            f"The job is {job.status} and has no {kind}. See its status and error with GET /jobs/{job.id}.",
        )
    field = "output_url" if kind == "results" else "errors_url"
    return PlatformError(
        "output_not_ready",
        f"The job is {job.status} and has no {kind} to download yet. "
        f"Wait until GET /jobs/{job.id} shows {field}.",
    )


def _resource_of(
    services: Services, request: Request, job: BatchJob, queue_position: int | None = None
) -> JobResource:
    return JobResource.from_record(
        job,
        base_url=base_url(request.scope),
        job_ttl_s=services.settings.batch.job_ttl_s,
        queue_position=queue_position,
    )
