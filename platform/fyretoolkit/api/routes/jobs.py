"""`/batch` and `/jobs`: a job is accepted here and run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from fyretoolkit.api.dependencies import Parts, Reader, Writer, json_body
from fyretoolkit.api.downloads import MEDIA_TYPES, PARTIAL, ErrorsOwner, OutputOwner, links_of, open_download
from fyretoolkit.api.idempotency import Claim, claim_of, created, find_replay, replayed
from fyretoolkit.api.openapi import creation_headers, download, failures, request_body
from fyretoolkit.api.pages import check_cursor, page_by_id
from fyretoolkit.api.requests import base_url
from fyretoolkit.api.routes.models import known_model
from fyretoolkit.api.services import Services
from fyretoolkit.api.sources import check_address, check_source, require_artifact
from fyretoolkit.core.downloads import DownloadKind
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id, new_id
from fyretoolkit.core.jobs import PREFIX, BatchJob
from fyretoolkit.core.lifecycles import JOB, JobStatus, is_terminal
from fyretoolkit.egress.urls import Purpose
from fyretoolkit.schemas.jobs import BatchCreate, JobResource, JobRetry
from fyretoolkit.schemas.pages import Page, PageQuery
from fyretoolkit.schemas.wire import EmptyRequest

COLLECTION = "/jobs"
_PUT_ASIDE_S = 60
"""So long behind a job's end its output may be on its way; later something is in the way of it."""
_DOWNLOAD_FAILURES = failures(
    "job_not_found",
    "invalid_signature",
    "output_not_ready",
    "no_output",
    "range_not_satisfiable",
    "run_failed",
)
_WITH_LINK: dict[str, Any] = {"security": [{"basic": []}, {"bearer": []}, {"link": []}]}

router = APIRouter(tags=["Batch jobs"])


@router.post(
    "/batch/{model_id}",
    status_code=202,
    summary="Create a batch job",
    response_model=JobResource,
    responses={
        **creation_headers(202),
        **failures(
            "model_not_found",
            "file_not_found",
            "idempotency_key_reused",
            "model_not_ready",
            "quota_exceeded",
            "url_not_allowed",
        ),
    },
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
    return await _queued(services, request, job, claim)


@router.get(COLLECTION, summary="List batch jobs")
async def list_jobs(
    request: Request, principal: Reader, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[JobResource]:
    """Newest first."""
    check_cursor(query.starting_after, PREFIX)
    found, has_more = await page_by_id(principal.org, query, services.jobs)
    return Page[JobResource](data=await _resources_of(services, request, found), has_more=has_more)


@router.get(COLLECTION + "/{job_id}", summary="Get a batch job", responses=failures("job_not_found"))
async def get_job(request: Request, job_id: str, principal: Reader, services: Parts) -> JobResource:
    """How far the job is, and where its results are once it ended."""
    job = await _known_job(services, principal.org, job_id)
    return await _resource_of(services, request, job)


@router.post(
    COLLECTION + "/{job_id}/cancel",
    summary="Cancel a batch job",
    responses=failures("job_not_found", "job_not_cancelable"),
    openapi_extra=request_body(EmptyRequest, is_optional=True),
)
async def cancel_job(
    request: Request,
    job_id: str,
    principal: Writer,
    services: Parts,
    _: Annotated[EmptyRequest, Depends(json_body(EmptyRequest, is_optional=True))],
) -> JobResource:
    """Canceled at once; what was committed stays readable. Canceling again answers the same job."""
    job = await _known_job(services, principal.org, job_id)
    status = await services.jobs.finish(job, JobStatus.CANCELED)
    if status is None:
        raise PlatformError("job_not_found")
    if status is not JobStatus.CANCELED:
        raise PlatformError(
            "job_not_cancelable", f"The job is {status} already. Read its result with GET /jobs/{job.id}."
        )
    return await _resource_of(services, request, await _known_job(services, principal.org, job_id))


@router.post(
    COLLECTION + "/{job_id}/retry",
    status_code=202,
    summary="Retry the failed rows of a batch job",
    response_model=JobResource,
    responses={
        **creation_headers(202),
        **failures(
            "job_not_found",
            "idempotency_key_reused",
            "job_not_retryable",
            "nothing_to_retry",
            "quota_exceeded",
            "url_not_allowed",
        ),
    },
    openapi_extra=request_body(JobRetry, is_optional=True),
)
async def retry_job(
    request: Request,
    job_id: str,
    principal: Writer,
    services: Parts,
    body: Annotated[JobRetry, Depends(json_body(JobRetry, is_optional=True))],
) -> Response:
    """A job over the rows that failed in one that ended, alone, by the same version of the model.

    Its lines have the `index` and `line` that the rows have in the first job's input, so that they join its results.
    """
    claim = claim_of(request, principal, body)
    if (answer := await find_replay(services.store, claim)) is not None:
        return replayed(answer, status=202, collection=COLLECTION)
    parent = await _known_job(services, principal.org, job_id)
    _require_failed_rows(parent)
    return await _queued(services, request, _new_retry(services, parent, body), claim)


@router.get(
    COLLECTION + "/{job_id}/output",
    summary="Download the results",
    response_class=FileResponse,
    responses={**download(*MEDIA_TYPES.values(), headers=("ETag", PARTIAL)), **_DOWNLOAD_FAILURES},
    openapi_extra=_WITH_LINK,
)
async def get_output(job_id: str, org: OutputOwner, services: Parts) -> Response:
    """One line for each record that has a result, in the input's order.

    While the job is processing: what is committed so far, from the first record on, and `X-Fyre-Partial: true`.
    """
    return await open_download(services, await _known_job(services, org, job_id), DownloadKind.OUTPUT)


@router.get(
    COLLECTION + "/{job_id}/errors",
    summary="Download the errors",
    response_class=FileResponse,
    responses={**download(MEDIA_TYPES["jsonl"], headers=("ETag", PARTIAL)), **_DOWNLOAD_FAILURES},
    openapi_extra=_WITH_LINK,
)
async def get_errors(job_id: str, org: ErrorsOwner, services: Parts) -> Response:
    """One line for each record that failed, with its line in the input and the reason.

    While the job is processing: as far as the results go, and `X-Fyre-Partial: true`.
    """
    return await open_download(services, await _known_job(services, org, job_id), DownloadKind.ERRORS)


async def _new_job(services: Services, org: str, model_id: str, body: BatchCreate) -> BatchJob:
    artifact, spec = require_artifact(await known_model(services, org, model_id))
    await check_source(services, org, "input_url", body.input_url)
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


def _require_failed_rows(parent: BatchJob) -> None:
    """Raises unless the failed rows of the job are there."""
    if not is_terminal(JOB, parent.status):
        raise PlatformError(
            "job_not_retryable",
            f"The job is {parent.status}. Wait until GET /jobs/{parent.id} shows its end.",
        )
    if not parent.failed:
        raise PlatformError("nothing_to_retry")
    if parent.output is None and time.time() < (parent.finished or 0) + _PUT_ASIDE_S:
        raise PlatformError(
            "job_not_retryable",
            "The job ended just now; its failed rows are being put aside. Try again in a moment.",
        )
    if parent.output is None:
        raise PlatformError(
            "job_not_retryable",
            "The output of the job is not put together, and its failed rows with it: the disk has no room, or a file "
            "of the job is damaged. Ask the operator for more disk, or create a job over the input again with "
            f"POST /batch/{parent.model}.",
        )
    if not parent.output.get("failed_rows"):
        raise PlatformError(
            "job_not_retryable",
            "The failed rows could not be kept: the input was changed or removed, or the disk had no room for them. "
            f"Create a job over the input again with POST /batch/{parent.model}.",
        )


def _new_retry(services: Services, parent: BatchJob, body: JobRetry) -> BatchJob:
    if body.webhook is not None:
        check_address(services.settings, "webhook", body.webhook, Purpose.WEBHOOK)
    given = {
        name: getattr(body, name) for name in body.model_fields_set & {"webhook", "timeout_s", "metadata"}
    }
    child = BatchJob(
        id=new_id(PREFIX),
        org=parent.org,
        status=JobStatus.QUEUED,
        model=parent.model,
        artifact=parent.artifact,
        spec=parent.spec,
        input_url=parent.input_url,
        created=int(time.time()),
        output_format=body.output_format or parent.output_format,
        max_error_rate=body.max_error_rate,
        timeout_s=parent.timeout_s,
        webhook=parent.webhook,
        metadata=parent.metadata,
        retry_of=parent.id,
    )
    return replace(child, **given)


async def _queued(services: Services, request: Request, job: BatchJob, claim: Claim | None) -> Response:
    """The answer to the creation of a job, which is stored with it."""
    answer = (await _resource_of(services, request, job)).to_json()
    creation = await services.jobs.create(
        job,
        idempotency=claim.with_answer(answer) if claim else None,
        max_queued=services.settings.quotas.queued_jobs,
    )
    return created(creation, answer, status=202, collection=COLLECTION)


async def _known_job(services: Services, org: str, job_id: str) -> BatchJob:
    job = await services.jobs.get(org, job_id) if is_id(job_id, PREFIX) else None
    if job is None:
        raise PlatformError("job_not_found")
    return job


async def _resources_of(services: Services, request: Request, jobs: Sequence[BatchJob]) -> list[JobResource]:
    queued = [job.id for job in jobs if job.status is JobStatus.QUEUED]
    places = await services.queue.positions(jobs[0].org, queued) if queued else []
    positions = dict(zip(queued, places, strict=True))
    settings = services.settings
    url = settings.public_url or base_url(request.scope, is_tls=settings.is_tls_terminated)
    return [
        JobResource.from_record(
            job,
            links=await links_of(services, job, url),
            job_ttl_s=services.settings.batch.job_ttl_s,
            queue_position=positions.get(job.id),
        )
        for job in jobs
    ]


async def _resource_of(services: Services, request: Request, job: BatchJob) -> JobResource:
    (resource,) = await _resources_of(services, request, [job])
    return resource
