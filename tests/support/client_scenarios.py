"""What both clients must do, written once: as coroutines, of which `tests/support/clients.py` makes plain functions.

Each takes a client and `given`, by which it asks for what only the platform can do. Returns nothing: it asserts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fyretoolkit import AsyncClient
from fyretoolkit.client import (
    AuthenticationError,
    ConflictError,
    DeploymentFailedError,
    InvalidRequestError,
    NotFoundError,
    UnprocessableError,
)


async def models(client: AsyncClient, given: Any) -> None:
    """Registered, listed, read, archived; a page is iterated through all pages behind it."""
    made = [await client.models.create(id=f"mine-{number}", description="mine") for number in range(5)]
    assert [model.status for model in made] == ["training"] * 5
    page = await client.models.list(limit=2, status="training")
    assert (len(page.data), page.has_more) == (2, True)
    assert [model.id async for model in page] == [f"mine-{number}" for number in reversed(range(5))]
    assert [len(each.data) async for each in page.pages()] == [2, 2, 1]
    assert (await client.models.get("sentiment-v1")).status == "ready"
    assert (await client.models.archive("mine-0")).status == "archived"
    published = await client.models.publish("mine-1", given.model_path)
    assert published.source_uri is not None
    assert published.source_uri.startswith("fyre://files/")
    with pytest.raises(ConflictError) as refused:
        await client.models.create(id="mine-2")
    assert (refused.value.status, refused.value.code) == (409, "model_conflict")


async def predictions(client: AsyncClient, given: Any) -> None:
    """Texts, arrays of numpy, lists of arrays; items that do not fit by themselves; metadata comes back."""
    answer = await client.predict("sentiment-v1", ["good", "bad"], metadata={"user_id": "u1"})
    assert [result["label"] for result in answer.results] == ["positive", "negative"]
    assert (answer.model, answer.metadata) == ("sentiment-v1", {"user_id": "u1"})
    images = np.arange(2 * 64, dtype=np.float32).reshape(2, 64) % 17
    expected = (await client.predict("digits", images.tolist())).results
    transposed = np.asfortranarray(images)
    for inputs in (images, list(images), images.astype(">f8"), transposed, images[:, ::1]):
        assert (await client.predict("digits", inputs)).results == expected
    some = await client.predict("sentiment-v1", ["good", 3], on_error="continue", timeout_ms=4000)
    assert some.results[1]["error"]["code"] == "invalid_input"
    images[1, 0] = np.nan
    with pytest.raises(UnprocessableError) as refused:
        await client.predictions.create("digits", images)
    assert refused.value.code == "invalid_input"
    assert refused.value.details["errors"][0]["index"] == 1


async def files(client: AsyncClient, given: Any) -> None:
    """Sent from the disk or from memory, listed, read back, deleted."""
    path = given.folder / "rows.jsonl"
    path.write_bytes(b'{"text": "good"}\n' * 40_000)
    sent = await client.files.upload(path)
    small = await client.files.upload(b"text\ngood\n", filename="zwei Wörter.csv")
    assert (sent.filename, sent.size_bytes) == ("rows.jsonl", path.stat().st_size)
    assert [file.id async for file in await client.files.list(limit=1)] == [small.id, sent.id]
    assert await client.files.get(small.id) == small
    assert await client.files.content(small.id) == b"text\ngood\n"
    copy = await client.files.download(sent.id, given.folder / "copy.jsonl")
    assert copy.read_bytes() == path.read_bytes()
    assert [each.name for each in given.folder.glob("*.partial")] == []
    assert (await client.files.delete(sent.id)).deleted
    with pytest.raises(NotFoundError):
        await client.files.delete(sent.id)
    with pytest.raises(TypeError, match="filename"):
        await client.files.upload(b"x")


async def jobs(client: AsyncClient, given: Any) -> None:
    """A local file becomes the input by itself; a job is listed, read, and canceled."""
    path = given.folder / "rows.csv"
    path.write_text("text\ngood\n", "utf-8")
    job = await client.batch.create("sentiment-v1", input=path, metadata={"team": "a"}, max_error_rate=0.5)
    assert (job.status, job.metadata, job.is_ended) == ("queued", {"team": "a"}, False)
    assert await client.files.content(job.input_url.removeprefix("fyre://files/")) == path.read_bytes()
    other = await client.batch.create("sentiment-v1", "https://data.example/rows.jsonl", output_format="csv")
    assert [each.id async for each in await client.jobs.list(limit=1)] == [other.id, job.id]
    assert await job.refresh() == await client.jobs.get(job.id)
    seen = []
    canceled = await job.cancel()
    assert (await canceled.wait(progress=seen.append)).status == "canceled"
    assert [each.status for each in seen] == ["canceled"]
    assert [result async for result in canceled.iter_results()] == []
    with pytest.raises(FileNotFoundError):
        await client.batch.create("sentiment-v1", input=given.folder / "nowhere.csv")


async def one_key_one_job(client: AsyncClient, given: Any) -> None:
    """The caller's own idempotency key holds for the upload too, so that the same call gives the same job."""
    path = given.folder / "rows.csv"
    path.write_text("text\ngood\n", "utf-8")
    first = await client.batch.create("sentiment-v1", input=path, idempotency_key="monday")
    again = await client.batch.create("sentiment-v1", input=path, idempotency_key="monday")
    assert (again.id, again.input_url) == (first.id, first.input_url)
    assert len([each async for each in await client.files.list()]) == 1


async def deployments(client: AsyncClient, given: Any) -> None:
    """Created, waited for with what happens to it on the way, changed, promoted, measured, deleted."""
    made = await client.deployments.create("models://digits", region="us-east-1", autoscaling=(1, 3))
    assert (made.status, made.autoscaling.max_replicas) == ("provisioning", 3)
    given.ready_soon(made.id)
    events = []
    ready = await made.wait_until_ready(timeout=30, progress=events.append)
    assert ready.status == "ready"
    assert [event.stage for event in events] == ["accepted", "ready"]
    assert [event.stage async for event in ready.follow()] == ["accepted", "ready"]
    changed = await client.deployments.change(ready.id, autoscaling=None, replicas=2, traffic=50)
    assert (changed.autoscaling, changed.replicas.desired, changed.traffic) == (None, 2, 50)
    assert (await ready.promote()).traffic == 100
    with pytest.raises(ConflictError) as alone:
        await ready.rollback()
    assert alone.value.code == "deployment_not_changeable"
    assert (await ready.scale(3)).replicas.desired == 3
    assert (await client.metrics.get(ready.id, period="5m")).metrics.requests.total == 0
    assert (await ready.metrics()).period == "1h"
    assert ready.id in [each.id async for each in await client.deployments.list()]
    assert (await ready.delete()).deleted
    with pytest.raises(DeploymentFailedError):
        await (await client.deployments.get(ready.id)).wait_until_ready()


async def a_deployment_that_fails(client: AsyncClient, given: Any) -> None:
    """What happened is shown, then its own error is raised."""
    made = await client.deployments.create("models://digits", region="us-east-1")
    given.fails_soon(made.id)
    events = []
    with pytest.raises(DeploymentFailedError) as failed:
        await made.wait_until_ready(timeout=30, progress=events.append)
    assert (failed.value.code, failed.value.deployment_id) == ("no_capacity", made.id)
    assert [event.stage for event in events] == ["accepted", "failed"]


async def keys_and_organizations(client: AsyncClient, given: Any) -> None:
    """A key is shown once and works; an organization comes with its first key."""
    made = await client.api_keys.create("ci", scopes=["read"], expires_in_s=600)
    assert made.key not in repr(made)
    assert (await client.api_keys.get(made.id)).scopes == ["read"]
    rotated = await client.api_keys.rotate(made.id, overlap_s=0)
    assert made.id in [each.id async for each in await client.api_keys.list()]
    assert (await client.api_keys.revoke(rotated.id)).status == "revoked"
    theirs = await client.organizations.create("Theirs", plan="pro")
    assert (await client.organizations.change(theirs.id, name="Others")).name == "Others"
    assert (await client.organizations.get(theirs.id)).plan == "pro"
    assert theirs.id in [each.id async for each in await client.organizations.list()]
    async with AsyncClient(theirs.api_key.key, base_url=given.url) as others:
        assert [each.id async for each in await others.jobs.list()] == []
        assert theirs.api_key.key.rsplit("_", 1)[1] not in repr(others)


async def nodes(client: AsyncClient, given: Any) -> None:
    """The machines below, page by page."""
    page = await client.nodes.list(limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    found = [node async for node in page]
    assert [node.id for node in found] == [node.id for node in reversed(given.nodes)]
    assert (found[0].cpus.total, found[0].cpus.free, found[0].alive) == (2, 1.5, True)


async def webhooks(client: AsyncClient, given: Any) -> None:
    """What became of a webhook, and the secret that signs it."""
    job = await client.batch.create("digits", "https://data.example/x.csv", webhook="https://hooks.example/x")
    await job.cancel()
    (delivery,) = (await job.deliveries()).data
    assert (delivery.job, delivery.type, delivery.attempts) == (job.id, "batch.canceled", [])
    assert (await client.deliveries.redeliver(job.id, delivery.id)).id == delivery.id
    secret = await client.webhooks.secret()
    rotated = await client.webhooks.rotate_secret(overlap_s=60)
    assert rotated.secret not in (secret.secret, repr(rotated))
    assert [each.created for each in rotated.replaced] == [secret.created]


async def refusals(client: AsyncClient, given: Any) -> None:
    """A wrong key and a malformed request are typed, with what the platform says of them."""
    async with AsyncClient("sk_live_no_no", base_url=given.url) as stranger:
        with pytest.raises(AuthenticationError) as unknown:
            await stranger.models.list()
    assert (unknown.value.code, unknown.value.attempts) == ("invalid_api_key", 1)
    assert unknown.value.request_id.startswith("req_")
    with pytest.raises(InvalidRequestError) as malformed:
        await client.models.list(limit=1000)
    assert malformed.value.details["fields"][0]["path"] == "limit"
    with pytest.raises(NotFoundError):
        await client.jobs.get("../models")
    with pytest.raises(ValueError, match="not an id"):
        await client.jobs.get("..")
    with pytest.raises(TypeError, match="list"):
        await client.predict("sentiment-v1", "good")


async def results_while_it_runs(client: AsyncClient, given: Any) -> None:
    """Rows come in order as they are committed, across the end of the job; then as a table, and as a file."""
    job = await client.jobs.get(given.job_id)
    indices = []
    async for result in job.iter_results():
        indices.append(result.index)
        assert (result.id, result.result["label"]) == (f"row-{result.index}", "positive")
        if len(indices) in (2, 4):
            given.commit_next()
        if len(indices) == 6:
            given.complete()
    assert indices == [0, 2, 3, 5, 6, 8]
    assert [(error.index, error.code) async for error in job.errors()] == [
        (1, "invalid_row"),
        (4, "invalid_row"),
        (7, "invalid_row"),
    ]
    ended = await job.wait()
    assert (ended.status, ended.progress.processed) == ("completed", 9)
    table = await ended.to_arrow()
    assert table.column_names == ["index", "id", "label", "score"]
    assert table["index"].to_pylist() == indices
    frame = await ended.to_pandas()
    assert (list(frame.columns), len(frame)) == (["index", "id", "label", "score"], 6)
    saved = await ended.download(given.folder / "results.jsonl")
    assert saved.read_bytes().count(b"\n") == 6
    assert (await ended.download_errors(given.folder / "errors.jsonl")).read_bytes().count(b"\n") == 3


async def waited_for(client: AsyncClient, given: Any) -> None:
    """The end of a job that had not ended when it was read."""
    running = (await client.jobs.get(given["job_id"])).model_copy(update={"status": "processing"})
    assert (await running.wait(timeout=50)).status == "canceled"


async def downloaded(client: AsyncClient, given: Any) -> None:
    """The results of a job as a file."""
    await (await client.jobs.get(given["job_id"])).download(given["saved"])
