"""A job that its driver runs: one like any other, ended from either side, and the platform's when the driver dies."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from batch.access import find_organization
from batch.destinations import names_of
from batch.driver import drive
from batch.progress import Lines
from batch.run import exit_code, report
from batch.runner import Work
from batch.runs import Run, RunOverError
from batch.submission import SUBMISSION_FIELD, Wish, create_driven, submission_id
from batch.worker import ShardWorker
from fyretoolkit.control.demo import add_demo_key
from fyretoolkit.core.api_keys import new_key
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob, plan_runs
from fyretoolkit.core.lifecycles import JobStatus, ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.egress.urls import parse_url
from fyretoolkit.schemas.jobs import BatchCreate
from fyretoolkit.settings import DEMO_KEY
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.models import ModelStore
from tests.unit.batch.bench import ORG, SPEC, Bench

ROWS = b"".join(orjson.dumps({"text": "x" * (i % 5)}) + b"\n" for i in range(20))

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def stored(bench: Bench) -> AsyncIterator[tuple[Store, JobStore]]:
    """The store, with a model of the organization that is ready and one that is not."""
    store = bench.store()
    ready = Model(
        id="lengths", org=ORG, status=ModelStatus.READY, created=1, order="mdl_1", description="",
        artifact="0" * 64, size_bytes=1, source_uri="models://lengths", spec=SPEC.to_json(),
    )  # fmt: skip
    await ModelStore(store).register(ready)
    await ModelStore(store).register(
        replace(ready, id="later", order="mdl_2", status=ModelStatus.TRAINING, artifact=None, spec=None)
    )
    yield store, JobStore(store, 60)
    await store.close()


def wish(bench: Bench, content: bytes = ROWS, *, model: str = "lengths", **more: str) -> Wish:
    """What the command line asks for, over a file of these rows."""
    path = bench.folder / "rows.jsonl"
    path.write_bytes(content)
    body = BatchCreate(input_url=more.get("input_url", f"file://{path}"), metadata={"team": "a"})
    return Wish(model, body, more.get("destination"))


async def made(bench: Bench, store: Store, **more: str) -> BatchJob:
    """The job of a driver that has not begun yet."""
    return await create_driven(store, bench.settings, ORG, wish(bench, **more), driver="raysubmit_1")


def held(begun: threading.Event) -> Work:
    """Work that never ends by itself."""

    def work(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        begun.set()
        stop.wait()
        raise RunOverError

    return work


async def test_a_driver_runs_its_own_job(bench: Bench):
    """Processing from the first moment, by the driver's run alone; every row, exit code 0, what is printed."""
    out = io.StringIO()
    target = f"file://{bench.folder}/scores.jsonl"
    async with stored(bench) as (store, jobs):
        job = await made(bench, store, destination=target)
        assert (job.status, job.epoch, job.metadata) == (
            JobStatus.PROCESSING, 1, {"team": "a", SUBMISSION_FIELD: "raysubmit_1"},
        )  # fmt: skip
        assert [each.id for each in await jobs.open_jobs()] == [job.id]
        assert plan_runs([job], {}, await store.now_ms(), max_runs=5) == []
        ended = await drive(bench.settings, jobs, job, Lines(out), work=bench.inline())
        report(ended, Lines(out))
    assert (ended.status, ended.succeeded, exit_code(ended)) == (JobStatus.COMPLETED, 20, 0)
    lines = (bench.folder / "scores.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["result"] for line in lines] == [{"length": i % 5} for i in range(20)]
    assert bench.file(ended).read_bytes().splitlines() == lines
    said = out.getvalue().splitlines()
    assert said[-4:-3] == ["20 of 20 rows, 0 failed"]
    assert said[-2:] == [
        f"results: {target}",
        f"errors: {names_of(parse_url(target), is_partial=False).errors.shown}",
    ]


async def test_a_cancel_by_the_api_ends_the_driver(bench: Bench):
    """Its lease is refused; what was done stays, and the exit code says so."""
    begun = threading.Event()
    async with stored(bench) as (store, jobs):
        job = await made(bench, store)
        driver = asyncio.create_task(drive(bench.settings, jobs, job, Lines(io.StringIO()), work=held(begun)))
        assert await bench.in_thread(begun.wait, 60)
        assert await jobs.finish(job, JobStatus.CANCELED) is JobStatus.CANCELED
        ended = await asyncio.wait_for(driver, 60)
    assert (ended.status, exit_code(ended)) == (JobStatus.CANCELED, 4)


@pytest.mark.parametrize("is_over", [True, False])
async def test_parts_that_vanish_under_a_worker_end_a_run_that_is_over(bench: Bench, is_over: bool):
    """The job was canceled and freed while a shard was at work; under a run that goes on they are a defect."""
    failures: list[Exception] = []

    def freed(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        worker = ShardWorker(run, load=lambda _: bench.model, is_niced=False)
        try:
            worker.work(shards[0])
            if is_over:
                asyncio.run(cancel(run))
            shutil.rmtree(run.parts_folder)
            worker.work(shards[1])
        except (RunOverError, FileNotFoundError) as failure:
            failures.append(failure)
            raise RunOverError from failure
        finally:
            worker.close()

    async def cancel(run: Run) -> None:
        own = bench.store()
        await JobStore(own, 60).finish(await bench.read_job(job), JobStatus.CANCELED)
        await own.close()

    job = await bench.create_job(ROWS)
    await bench.run(job, work=freed)
    assert [type(failure) for failure in failures] == [RunOverError if is_over else FileNotFoundError]


async def test_a_signal_cancels_the_job(bench: Bench):
    """What `ray job stop` sends."""
    begun = threading.Event()
    out = io.StringIO()
    async with stored(bench) as (store, jobs):
        job = await made(bench, store)
        driver = asyncio.create_task(drive(bench.settings, jobs, job, Lines(out), work=held(begun)))
        assert await bench.in_thread(begun.wait, 60)
        os.kill(os.getpid(), signal.SIGTERM)
        ended = await asyncio.wait_for(driver, 60)
    assert ended.status is JobStatus.CANCELED
    assert f"{job.id} is canceled" in out.getvalue()


async def test_a_driver_whose_run_failed_watches_the_job_to_its_end(bench: Bench):
    """The platform takes it over; the exit code is still the job's."""

    def broken(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        raise OSError("the disk of this node is full")

    async with stored(bench) as (store, jobs):
        job = await made(bench, store)
        driver = asyncio.create_task(drive(bench.settings, jobs, job, Lines(io.StringIO()), work=broken))
        epoch = None
        while epoch is None:  # as the controller, once the lease has ended
            epoch = await jobs.claim_run(ORG, job.id, lease_s=10)
        await bench.run(job, epoch=epoch)
        ended = await asyncio.wait_for(driver, 60)
    assert (ended.status, ended.epoch, ended.succeeded) == (JobStatus.COMPLETED, 2, 20)


async def test_a_destination_that_fails_fails_the_job_and_loses_nothing(bench: Bench):
    """The folder is not there: the results are at output_url all the same."""
    async with stored(bench) as (store, jobs):
        job = await made(bench, store, destination=f"file://{bench.folder}/none/scores.jsonl")
        ended = await drive(bench.settings, jobs, job, Lines(io.StringIO()), work=bench.inline())
        out = io.StringIO()
        report(ended, Lines(out))
    assert (ended.status, ended.error and ended.error["code"]) == (JobStatus.FAILED, "output_unreachable")
    assert f"results: GET /jobs/{job.id}/output" in out.getvalue()
    assert len(bench.lines(ended)) == 20


async def test_results_that_lack_rows_have_another_name(bench: Bench):
    """All rows failed: no scores.jsonl appears, and the errors are told."""
    async with stored(bench) as (store, jobs):
        job = await create_driven(
            store,
            bench.settings,
            ORG,
            wish(bench, b"5\n6\n", destination=f"file://{bench.folder}/s.jsonl"),
            driver="d",
        )
        ended = await drive(bench.settings, jobs, job, Lines(io.StringIO()), work=bench.inline())
    assert (ended.status, exit_code(ended)) == (JobStatus.FAILED, 1)
    written = {path.name for path in bench.folder.iterdir()} - {"rows.jsonl"}
    assert written == {"s.partial.jsonl", "s.partial.errors.jsonl"}
    assert (bench.folder / "s.partial.errors.jsonl").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"model": "nothing"}, "model_not_found"),
        ({"model": "../x"}, "model_not_found"),
        ({"model": "later"}, "model_not_ready"),
        ({"input_url": "rows.jsonl"}, "url_not_allowed"),
        ({"input_url": "s3://closed/rows.jsonl"}, "url_not_allowed"),
        ({"input_url": "fyre://files/file_01M82FQ0A1B2C3D4E5F6G7H8J9"}, "file_not_found"),
        ({"destination": "file:///etc/scores.jsonl"}, "url_not_allowed"),
    ],
)
async def test_what_the_api_refuses_makes_no_job(bench: Bench, more: dict[str, str], code: str):
    """The same checks, before anything is written."""
    async with stored(bench) as (store, jobs):
        with pytest.raises(PlatformError) as caught:
            await made(bench, store, **more)
        assert caught.value.code == code
        assert await jobs.open_jobs() == []


async def test_the_key_decides_the_organization(bench: Bench):
    """Its own, if it may write; the demo organization without one, in development mode alone."""
    production = bench.settings.model_copy(update={"mode": "production"})
    async with stored(bench) as (store, _):
        await add_demo_key(store)
        writer, record = new_key("org_a", "ci", [Scope.WRITE], created=1)
        reader, other = new_key("org_a", "ci", [Scope.READ], created=1)
        late, old = new_key("org_a", "ci", [Scope.WRITE], created=1, lifetime_s=1)
        for each in (record, other, replace(old, expires_at=int(time.time()) - 1)):
            await ApiKeyStore(store).add(each)
        for settings in (bench.settings, production):
            assert await find_organization(store, settings, writer) == "org_a"
        for key in (None, "", DEMO_KEY):
            assert await find_organization(store, bench.settings, key) == DEMO_ORG
        refused = {
            "invalid_api_key": [f"{writer}x", "sk_live_none_x", "nonsense", late],
            "insufficient_scope": [reader],
        }
        for code, keys in refused.items():
            for key in keys:
                with pytest.raises(PlatformError, match=code):
                    await find_organization(store, bench.settings, key)
        for key in (None, DEMO_KEY):
            with pytest.raises(PlatformError, match="invalid_api_key"):
                await find_organization(store, production, key)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (
            '{"metadata": {"job_submission_id": "raysubmit_x", "job_name": "n"}, "runtime_env": {}}',
            "raysubmit_x",
        ),
        ('{"runtime_env": {}}', None),
        ("not json", None),
        (None, None),
    ],
)
def test_the_submission_is_what_ray_tells_its_driver(config: str | None, found: str | None):
    """In one variable, as JSON."""
    environ = {} if config is None else {"RAY_JOB_CONFIG_JSON_ENV_VAR": config}
    assert submission_id(environ) == found
