"""The guide of the client's README, run as it stands."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from fyretoolkit.client import retries
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT
from tests.support.api_bench import Bench
from tests.support.batch_jobs import commit, complete
from tests.support.http_server import serve_over_http

pytestmark = pytest.mark.anyio

README = PROJECT_ROOT / "platform" / "fyretoolkit" / "client" / "README.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


async def _carry_out(bench: Bench, is_over: asyncio.Event) -> None:
    """What runner and controller do, as far as the guide needs it: jobs are run, deployments become ready."""
    done = set()
    while not is_over.is_set():
        for job in (await bench.request("GET", "/jobs")).json()["data"]:
            if job["id"] not in done:
                done.add(job["id"])
                await bench.services.jobs.claim_run(DEMO_ORG, job["id"], lease_s=60)
                await commit(bench, job["id"], 0)
                await complete(bench, job["id"])
        for each in (await bench.request("GET", "/deployments")).json()["data"]:
            deployment = await bench.services.deployments.get(DEMO_ORG, each["id"])
            if deployment is not None and deployment.status is DeploymentStatus.PROVISIONING:
                await bench.services.deployments.transition(
                    deployment, DeploymentStatus.READY, stage=Stage.READY, message="It answers."
                )
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _beside(bench: Bench) -> AsyncIterator[None]:
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_carry_out(bench, is_over))
        try:
            yield
        finally:
            is_over.set()


def _received(receive: Callable[[bytes, dict[str, str]], int], secret: str) -> list[int]:
    """What the guide's receiver answers to a webhook that is signed, and to one that is not."""
    progress = '{"processed": 1, "total": 1, "succeeded": 1, "failed": 0}'
    job = (
        f'{{"id": "job_1", "status": "completed", "model": "m", "progress": {progress}, "output_url": "u", '
        '"errors_url": null, "error": null, "partial": false, "input_url": null}'
    )
    body = f'{{"type": "batch.completed", "timestamp": "2026-01-01T00:00:00Z", "data": {job}}}'
    now = time.time()
    return [
        receive(
            body.encode(),
            {
                "Webhook-Id": "msg_1",
                "Webhook-Timestamp": str(int(now)),
                "Webhook-Signature": f"v1,{signature}",
            },
        )
        for signature in (_signature(secret, "msg_1", int(now), body), base64.b64encode(b"x" * 32).decode())
    ]


def _signature(secret: str, message_id: str, at: int, body: str) -> str:
    return Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body).removeprefix("v1,")


async def test_every_block_of_the_guide_runs(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one program, in their order; none of another language is left out."""
    blocks = _BLOCK.findall(README.read_text("utf-8"))
    assert {language for language, _ in blocks} == {"python"}
    await bench.deploy("sentiment-v1")
    await bench.deploy("digits")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retries, "POLL_FIRST_S", 0.01)
    monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
    program: dict[str, Any] = {"__name__": "guide"}
    async with serve_over_http(bench.app) as url, _beside(bench):
        monkeypatch.setenv("FYRE_BASE_URL", url)
        for _, block in blocks:
            await asyncio.to_thread(exec, compile(block, str(README), "exec"), program)
        assert _received(program["receive"], program["secret"]) == [204, 400]
        program["client"].close()
    printed = capsys.readouterr().out
    assert "['positive', 'negative']" in printed
    assert "0 row-0 {'label': 'positive', 'score': 0.0}" in printed
    assert "completed 2 1" in printed
    assert "model_not_found req_" in printed
    assert program["table"].num_rows == 2
