"""A job that a driver makes and runs itself: the checks of `POST /batch`, then a record that is processing from its
first moment.

It never waits in the platform's queue: Ray started its driver, and two queues would hold it twice. Once it runs it
counts among the running jobs. The record names the Ray submission, so the controller leaves the run to its driver as
long as the lease holds; when it ends, the driver is dead or hangs, and the platform goes on with the job behind the
last commit, as with any run. Rejected: failing the job then, which would throw away what a retry has to do again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from batch.destinations import check_destination
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import file_id_of
from fyretoolkit.core.ids import is_slug, new_id
from fyretoolkit.core.jobs import DRIVER_EPOCH, PREFIX, BatchJob
from fyretoolkit.core.lifecycles import JobStatus, ModelStatus
from fyretoolkit.egress.urls import check_url, policy_from
from fyretoolkit.schemas.jobs import BatchCreate
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.models import ModelStore

SUBMISSION_FIELD = "ray_submission_id"
"""Where the job's metadata name the Ray submission."""
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a driver is asked to do."""

    model: str
    body: BatchCreate
    """Checked by the API's own schema."""
    destination: str | None = None


def submission_id(environ: Mapping[str, str]) -> str | None:
    """The Ray submission that this process is the driver of; None: nobody submitted it.

    Source: ray/dashboard/modules/job/job_supervisor.py, `_get_driver_env_vars`.
    """
    try:
        found = orjson.loads(environ.get(_JOB_CONFIG) or "{}")["metadata"]["job_submission_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return str(found)


async def create_driven(store: Store, settings: Settings, org: str, wish: Wish, *, driver: str) -> BatchJob:
    """Write the job of a driver, with the first lease of its run.

    Raises:
        PlatformError: `model_not_found`, `model_not_ready`, `url_not_allowed`, `file_not_found`, `unavailable`.
    """
    artifact, spec = await find_model(store, org, wish.model)
    await _check_input(store, settings, org, wish.body.input_url)
    if wish.destination is not None:
        check_destination(wish.destination, settings)
    now_ms = await store.now_ms()
    job = BatchJob(
        id=new_id(PREFIX),
        org=org,
        status=JobStatus.PROCESSING,
        model=wish.model,
        artifact=artifact,
        spec=spec,
        input_url=wish.body.input_url,
        created=int(time.time()),
        started=int(time.time()),
        output_format=wish.body.output_format,
        max_error_rate=wish.body.max_error_rate,
        timeout_s=wish.body.timeout_s,
        metadata={**(wish.body.metadata or {}), SUBMISSION_FIELD: driver},
        epoch=DRIVER_EPOCH,
        runs=1,
        seen_ms=now_ms,
        lease_until=now_ms + int(settings.batch.lease_s * 1000),
        driver=driver,
        destination=wish.destination,
    )
    await JobStore(store, settings.batch.job_ttl_s).create(job)
    return job


async def find_model(store: Store, org: str, model_id: str) -> tuple[str, Mapping[str, object]]:
    """(artifact, spec) of the organization's or a public model.

    Raises:
        PlatformError: `model_not_found`, `model_not_ready`, `unavailable`.
    """
    model = await ModelStore(store).get(org, model_id) if is_slug(model_id) else None
    if model is None:
        raise PlatformError(
            "model_not_found", f"There is no model {model_id[:100]!r}. List them with GET /models."
        )
    if model.status is not ModelStatus.READY or model.artifact is None or model.spec is None:
        raise PlatformError("model_not_ready", f"Model {model.id} is {model.status}, not ready.")
    return model.artifact, model.spec


async def _check_input(store: Store, settings: Settings, org: str, url: str) -> None:
    file_id = file_id_of(url)
    if file_id is None:
        check_url(url, policy_from(settings))
    elif await FileStore(store).get(org, file_id) is None:
        raise PlatformError("file_not_found")
