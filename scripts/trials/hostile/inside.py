"""The real application, runner and controller's preparation in production mode, given hostile URLs.

Run in a world of its own (`world.entered`) by `python -m scripts.trials.hostile.inside FOLDER`, with the URLs to try as
JSON on its standard input; an outcome is one JSON line. Ray is left out: nothing of what fetches needs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batch.runner import BatchRunner
from batch.runs import Run
from fyretoolkit.control import deployments as reconciling
from fyretoolkit.control.preparation import Preparer
from fyretoolkit.control.webhooks import WebhookSender
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.serving.exposition import NoGauges
from fyretoolkit.settings import load_settings
from fyretoolkit.store.deliveries import DeliveryStore
from fyretoolkit.store.embedded import EmbeddedRedis
from scripts.trials.hostile.catalogue import PUBLIC, HostileUrl
from scripts.trials.hostile.outcomes import REFUSED, Field, Outcome
from scripts.trials.hostile.world import World
from tests.support.api_bench import Bench, open_bench, until
from tests.support.reconciling import FakeServe

_ORG = "org_hostile"
_PATIENCE_S = 60.0
_REFUSAL = "The URL may not be used"
"""How the message of the code begins: an attempt keeps nothing else of it."""
_INNOCENT = f"https://{PUBLIC}/rows.jsonl"


class Victim:
    """A platform in production mode that is given URLs."""

    def __init__(self, bench: Bench, world: World, key: str, controller_epoch: int) -> None:
        self._bench = bench
        self._world = world
        self._key = key
        self._settings = bench.services.settings
        self._deliveries = DeliveryStore(bench.services.store)
        self._sender = WebhookSender(self._settings, bench.services.store, NoGauges())
        preparer = Preparer(self._settings, bench.services.models, bench.services.files)
        self._reconciler = reconciling.DeploymentReconciler(
            self._settings, bench.services.deployments, preparer, epoch=controller_epoch
        )

    async def tried(self, hostile: HostileUrl, field: Field) -> Outcome:
        """What becomes of a URL in a field, and what was connected to meanwhile."""
        self._world.begin_anew()
        forbidden, unseen = len(self._world.forbidden), self._unseen
        status, code = await self._ended(hostile.url, field)
        return Outcome(
            hostile.kind,
            hostile.url,
            hostile.is_told,
            field,
            status,
            code,
            self._world.forbidden[forbidden:],
            self._settled_unseen() - unseen,
        )

    @property
    def _unseen(self) -> int:
        return self._world.tried - len(self._world.connections)

    def _settled_unseen(self) -> int:
        """Once every connection that a listener took has been noted."""
        deadline = time.monotonic() + 1
        while self._unseen and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._unseen

    async def _ended(self, url: str, field: Field) -> tuple[int, str]:
        match field:
            case Field.INPUT:
                answer = await self._post("/batch/digits", {"input_url": url})
                is_accepted, end = answer.status_code == 202, self._run_job
            case Field.WEBHOOK:
                answer = await self._post("/batch/digits", {"input_url": _INNOCENT, "webhook": url})
                is_accepted, end = answer.status_code == 202, self._deliver
            case Field.MODEL:
                body = {"model_uri": url, "region": "us-east-1", "model_id": f"m-{time.time_ns()}"}
                answer = await self._post("/deployments", body)
                is_accepted, end = answer.status_code == 201, self._prepare
        if not is_accepted:
            return answer.status_code, str(answer.json()["error"]["code"])
        return answer.status_code, await end(answer.json()["id"])

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        return await self._bench.request("POST", path, key=self._key, json=body)

    async def _run_job(self, job_id: str) -> str:
        """One run of the job, up to where it would need a model; the code that it failed with."""
        await asyncio.wait_for(BatchRunner(self._settings, _ORG, job_id, work=_no_work).run(), _PATIENCE_S)
        job = await self._bench.services.jobs.get(_ORG, job_id)
        return str(job.error["code"]) if job and job.error else f"{job.status if job else 'gone'}"

    async def _prepare(self, deployment_id: str) -> str:
        """The controller's rounds until the deployment has failed; the code that it failed with."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                await self._reconciler.tick()
                found = await self._bench.services.deployments.get(_ORG, deployment_id)
                if found is None or found.status is not DeploymentStatus.PROVISIONING:
                    break
                await asyncio.sleep(0.01)
        return str(found.error["code"]) if found and found.error else f"{found.status if found else 'gone'}"

    async def _deliver(self, job_id: str) -> str:
        """The job's end, and the first attempt to tell it; the code of its refusal, or the status of its answer."""
        assert await self._run_job(job_id) == "input_not_found"
        (delivery,) = await self._deliveries.page(_ORG, job_id, 1)
        await self._sender.look()

        async def is_attempted() -> bool:
            return bool(await self._deliveries.attempts(_ORG, delivery.id))

        await until(is_attempted, _PATIENCE_S)
        attempt = (await self._deliveries.attempts(_ORG, delivery.id))[0]
        error = attempt.error or ""
        return REFUSED if error.startswith(_REFUSAL) else error or str(attempt.status_code)


def _no_work(_run: Run, _shards: Sequence[int], _stop: threading.Event) -> None:
    raise AssertionError("an input that came from where none may come from")


async def _main(folder: Path, tries: Sequence[HostileUrl]) -> None:
    with EmbeddedRedis(folder) as redis:
        settings = load_settings(
            {"FYRE_HOME": str(folder / "home"), "FYRE_REDIS_URL": redis.url, "FYRE_MODE": "production"}
        )
        world = World(folder)
        os.environ["SSL_CERT_FILE"] = str(world.certificate)
        reconciling.serve_driver = FakeServe()  # type: ignore[assignment]
        async with open_bench(settings) as bench:
            await bench.add_model("digits")
            key = await bench.add_key(_ORG)
            victim = Victim(bench, world, key, await bench.services.deployments.new_controller_epoch())
            for hostile in tries:
                for field in Field:
                    print(json.dumps(asdict(await victim.tried(hostile, field))), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), [HostileUrl(**each) for each in json.load(sys.stdin)]))
