"""Jobs over uploaded files: how data comes to a platform that reads nobody's disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from batch.runs import Run
from batch.worker import ShardWorker
from fyretoolkit.control.preparation import Prepared, Preparer
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, JobStatus, Stage
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.models import ModelStore
from tests.support.onnx_graphs import lookup
from tests.unit.batch.bench import ORG, Bench, run_inline

pytestmark = pytest.mark.anyio


@pytest.fixture
def production(bench: Bench) -> Bench:
    """The bench in production mode: no file:// and no loopback."""
    return replace(bench, settings=bench.settings.model_copy(update={"mode": "production"}))


async def prepare(bench: Bench, uri: str) -> Prepared:
    """What the controller makes of a deployment of an upload."""
    wanted = Deployment(
        id=new_id("dep"), org=ORG, status=DeploymentStatus.PROVISIONING, stage=Stage.FETCHING, model="lookup",
        model_uri=uri, region="us-east-1", created=1, updated=1, stage_at=1.0,
    )  # fmt: skip
    store = bench.store()
    prepared = await Preparer(bench.settings, ModelStore(store), FileStore(store)).prepare(wanted)
    await store.close()
    return prepared


def work_with_the_real_model(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
    run_inline(ShardWorker(run, is_niced=False), shards, stop)


async def test_an_uploaded_model_runs_over_an_uploaded_csv(production: Bench) -> None:
    """From two uploads to results: the real preparation, the real model, the real run."""
    model = await production.upload(lookup(), "lookup.onnx")
    rows = await production.upload(b"id,index\na,3\nb,0\nc,9\n", "rows.csv")
    prepared = await prepare(production, f"fyre://files/{model.id}")
    job = await production.create_job_over(
        f"fyre://files/{rows.id}", artifact=prepared.artifact, spec=prepared.spec.to_json()
    )
    job = await production.run(job, work=work_with_the_real_model)
    assert (job.status, job.succeeded, job.failed) == (JobStatus.COMPLETED, 2, 1)
    results = [(line["id"], line["result"]) for line in production.lines(job)]
    assert results == [("a", {"value": 30.0}), ("b", {"value": 0.0})]
    assert [line["id"] for line in production.lines(job, "errors")] == ["c"]


async def test_a_job_that_has_its_input_outlives_the_upload(production: Bench) -> None:
    """A run dies after it has staged the file; the next one needs the upload no more."""
    rows = await production.upload(b'{"text": "ab"}\n', "rows.jsonl")
    job = await production.create_job_over(f"fyre://files/{rows.id}")

    def die(*_: object) -> None:
        (production.settings.files_dir / rows.id).unlink()
        raise OSError("the run is killed here")

    with pytest.raises(OSError, match="killed"):
        await production.run(job, work=die)
    store = production.store()
    await FileStore(store).delete(ORG, rows.id)
    await store.redis.hset(f"fyre:org:{ORG}:job:{job.id}", "lease_until", "0")
    await store.close()
    job = await production.run(job)
    assert (job.status, job.succeeded) == (JobStatus.COMPLETED, 1)


@pytest.mark.parametrize("case", ["deleted", "foreign"])
async def test_a_job_without_its_input_fails_and_says_so(production: Bench, case: str) -> None:
    """Deleted before the job began; or, though the API lets none through, another organization's."""
    org = "org_other" if case == "foreign" else ORG
    rows = await production.upload(b"text\na\n", "rows.csv", org=org)
    job = await production.create_job_over(f"fyre://files/{rows.id}")
    if case == "deleted":
        store = production.store()
        await FileStore(store).delete(ORG, rows.id)
        await store.close()
    job = await production.run(job)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "input_not_found"
    assert "Upload it again" in str(job.error["message"])


@pytest.mark.parametrize(("name", "kept"), [("rows.csv", 1), ("rows.jsonl", 0)])
async def test_the_name_of_the_upload_decides_the_format(production: Bench, name: str, kept: int) -> None:
    """The same bytes are a CSV row or a line that is no JSON."""
    rows = await production.upload(b"text\n12\n", name)
    job = await production.run(await production.create_job_over(f"fyre://files/{rows.id}"))
    assert job.succeeded == kept
