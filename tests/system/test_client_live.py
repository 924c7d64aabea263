"""The Python client on the running platform: each thing that people come for, once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fyretoolkit import AsyncClient, Client
from fyretoolkit.client import DeploymentFailedError, NotFoundError
from fyretoolkit.settings import DEMO_KEY
from tests.support.conformance import REGION
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.onnx_graphs import lookup
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system

ROWS = 3_000
"""A few shards."""


@pytest.fixture
def anyio_backend() -> str:
    """The client runs on asyncio."""
    return "asyncio"


@pytest.fixture
def fyre(platform: RunningPlatform) -> Iterator[Client]:
    """A client with the demo key."""
    with Client(DEMO_KEY, base_url=platform.url) as client:
        yield client


def test_arrays_are_predicted(fyre: Client) -> None:
    """As the lists in them would be; and the limits of the answers are read."""
    images = np.arange(3 * 64, dtype=np.float32).reshape(3, 64) % 17
    answer = fyre.predict("digits", images, metadata={"user_id": "u1"})
    assert [result["label"] for result in answer.results] == [
        result["label"] for result in fyre.predict("digits", images.tolist()).results
    ]
    assert (answer.metadata, answer.usage.batch_size) == ({"user_id": "u1"}, 3)


def test_a_local_file_becomes_a_table(fyre: Client, tmp_path: Path) -> None:
    """Results are read while the job runs, in the order of the rows; then waited for, as a table and as a file."""
    path = tmp_path / "rows.csv"
    lines = [f"row-{number},a film that is number {number} of its kind\n" for number in range(ROWS)]
    path.write_text("".join(["id,text\n", *lines, "empty\n"]), "utf-8")
    job = fyre.batch.create("sentiment-v1", input=path, metadata={"team": "live"})
    indices = [result.index for result in job.iter_results()]
    assert indices == list(range(ROWS))
    seen: list[int] = []
    job = job.wait(timeout=300, progress=lambda now: seen.append(now.progress.processed))
    assert (job.status, job.progress.succeeded, job.progress.failed, seen[-1]) == (
        "completed",
        ROWS,
        1,
        ROWS + 1,
    )
    assert [(error.index, error.line, error.code) for error in job.errors()] == [
        (ROWS, ROWS + 2, "invalid_row")
    ]
    table = job.to_arrow()
    assert table.num_rows == ROWS
    assert table["id"].to_pylist()[-1] == f"row-{ROWS - 1}"
    assert set(table["label"].to_pylist()) <= {"positive", "negative"}
    child = job.retry().wait(timeout=300)
    assert (child.retry_of, child.status, child.progress.total) == (job.id, "failed", 1)
    listed = [each.id for each in islice(fyre.jobs.list(limit=1), 2)]
    assert listed == [child.id, job.id]


def test_a_deployment_from_its_first_stage_to_its_end(fyre: Client, tmp_path: Path) -> None:
    """A model from the disk; its stages in their order, an answer, gone."""
    path = tmp_path / "live-table.onnx"
    path.write_bytes(lookup())
    deployment = fyre.deployments.create(path, region=REGION)
    stages: list[str] = []
    deployment = deployment.wait_until_ready(timeout=300, progress=lambda event: stages.append(event.stage))
    try:
        known = ["accepted", "fetching", "inspecting", "starting", "warming", "ready"]
        assert stages == [stage for stage in known if stage in stages]
        assert {"accepted", "ready"} < set(stages)
        assert fyre.predict(deployment.model, [2]).results == [{"value": 20.0}]
        assert deployment.metrics(period="5m").metrics.requests.total in (0, 1)
        assert deployment.id in [each.id for each in fyre.deployments.list()]
    finally:
        assert deployment.delete().deleted
    with pytest.raises(NotFoundError):
        fyre.deployments.change(deployment.id, replicas=2)


def test_a_deployment_that_cannot_be_says_why(fyre: Client) -> None:
    failing = fyre.deployments.create("file:///not-here/model.onnx", region=REGION)
    with pytest.raises(DeploymentFailedError) as failed:
        failing.wait_until_ready(timeout=300)
    failing.delete()
    assert (failed.value.code, failed.value.deployment_id) == ("artifact_not_found", failing.id)


def test_the_nodes_are_listed(fyre: Client) -> None:
    assert any(node.head and node.alive and node.cpus.total >= 1 for node in fyre.nodes.list())


@pytest.mark.anyio
async def test_what_is_made_behind_a_lost_answer_is_made_once(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """A job, a model, and its publication: the platform carries each out, and the connection ends without an answer."""
    path = tmp_path / "table.onnx"
    path.write_bytes(lookup())
    name = f"lost-{secrets.token_hex(6)}"
    async with (
        fault_proxy(platform.url) as proxy,
        AsyncClient(DEMO_KEY, base_url=proxy.url) as client,
    ):
        proxy.next(Fault.DROP_AFTER)
        job = await client.batch.create("digits", "file:///not-here/rows.csv", metadata={"name": name})
        assert len(proxy.seen) == 2
        page = await client.jobs.list(limit=100)
        assert [each.id for each in page.data if each.metadata == {"name": name}] == [job.id]
        proxy.next(Fault.DROP_AFTER)
        assert (await client.models.create(id=name)).status == "training"
        proxy.next(Fault.DROP_AFTER, Fault.DROP_AFTER)
        published = await client.models.publish(name, path)
        assert (published.id, len(proxy.seen)) == (name, 4)
        assert published.source_uri is not None
        files = [file.id for file in (await client.files.list(limit=5)).data if file.filename == path.name]
        assert published.source_uri == f"fyre://files/{files[0]}"
