"""Senders and a store alone: jobs end by the call that a runner ends them with, many a second, and no Ray is there.

Two senders run as they do on a platform, each a process that is started anew when it dies, as Ray would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.schemas.deliveries import DeliveryResource
from fyretoolkit.schemas.jobs import JobResource
from fyretoolkit.settings import PROJECT_ROOT
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deliveries import DeliveryStore
from fyretoolkit.store.embedded import EmbeddedRedis
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.webhook_secrets import WebhookSecretStore
from tests.support.platform import until

T = TypeVar("T")

_ORG = "org_trial"
_TTL_S = 86_400
_POLL_S = 0.05
_SENDERS = 2


class BareStage:
    """The store, and two senders that are started anew."""

    def __init__(self, redis_url: str, environ: Mapping[str, str]) -> None:
        self._redis_url = redis_url
        self._environ = environ
        self._is_over = threading.Event()
        self._senders = [self._start() for _ in range(_SENDERS)]
        self._watch = threading.Thread(target=self._keep_alive)
        self._watch.start()

    def await_senders(self) -> None:
        """Until all of them listen, as they do on a platform that is ready."""

        async def count(store: Store) -> int:
            ((_, listeners),) = await store.redis.pubsub_numsub(keys.CHANGES_CHANNEL)
            return int(listeners)

        until(lambda: self._ask(count) >= _SENDERS, timeout_s=60, what="senders that listen")

    @property
    def secret(self) -> str:
        """What the webhooks of the trial's organization are signed with."""
        return self._ask(lambda store: WebhookSecretStore(store).get(_ORG)).secret

    def end_job(self, webhook: str) -> str:
        """The id of a job with this webhook that has completed."""
        job = BatchJob(
            id=new_id("job"),
            org=_ORG,
            status=JobStatus.QUEUED,
            model="sentiment-v1",
            artifact="0" * 64,
            spec={},
            input_url="https://data.example.com/rows.jsonl",
            created=int(time.time()),
            webhook=webhook,
            succeeded=2,
        )

        async def end(store: Store) -> None:
            jobs = JobStore(store, _TTL_S)
            await jobs.create(job)
            epoch = await jobs.claim_run(_ORG, job.id, lease_s=60)
            await jobs.finish(job, JobStatus.COMPLETED, epoch=epoch)

        self._ask(end)
        return job.id

    def job(self, job_id: str) -> dict[str, Any]:
        """As the API would show it."""
        job = self._ask(lambda store: JobStore(store, _TTL_S).get(_ORG, job_id))
        assert job is not None
        return JobResource.from_record(job, links={}, job_ttl_s=_TTL_S).model_dump(mode="json")

    def delivery(self, job_id: str) -> dict[str, Any]:
        """The one of a job, as the API would show it."""

        async def find(store: Store) -> DeliveryResource:
            deliveries = DeliveryStore(store)
            (found,) = await deliveries.page(_ORG, job_id, 2)
            return DeliveryResource.from_record(found, await deliveries.attempts(_ORG, found.id))

        return self._ask(find).model_dump(mode="json")

    def kill(self, number: int) -> str:
        """`kill -9` one of the senders; what it is called."""
        victim = self._senders[number % _SENDERS]
        victim.send_signal(signal.SIGKILL)
        until(lambda: self._senders[number % _SENDERS] is not victim, timeout_s=60, what="a new sender")
        return f"sender {number % _SENDERS}"

    def close(self) -> None:
        """End the senders."""
        self._is_over.set()
        self._watch.join()
        for sender in self._senders:
            sender.kill()
            sender.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "scripts.trials.senders.process"]
        return subprocess.Popen(command, env={**self._environ}, cwd=PROJECT_ROOT)

    def _keep_alive(self) -> None:
        while not self._is_over.wait(_POLL_S):
            for number, sender in enumerate(self._senders):
                if sender.poll() is not None:
                    self._senders[number] = self._start()

    def _ask(self, question: Callable[[Store], Awaitable[T]]) -> T:
        async def ask() -> T:
            store = Store(self._redis_url)
            try:
                return await question(store)
            finally:
                await store.close()

        return asyncio.run(ask())


@contextmanager
def bare_stage(webhooks: Mapping[str, object]) -> Iterator[BareStage]:
    """A stage in a folder of its own; `webhooks` changes that section of the configuration."""
    with tempfile.TemporaryDirectory(prefix="fw-") as name, EmbeddedRedis(Path(name)) as redis:
        config = Path(name) / "platform.yaml"
        config.write_text(yaml.safe_dump({"webhooks": dict(webhooks)}), "utf-8")
        environ = {
            **os.environ,
            "PYTHONPATH": f"{PROJECT_ROOT / 'platform'}:{PROJECT_ROOT}",
            "FYRE_HOME": name,
            "FYRE_REDIS_URL": redis.url,
            "FYRE_CONFIG": str(config),
        }
        stage = BareStage(redis.url, environ)
        try:
            stage.await_senders()
            yield stage
        finally:
            stage.close()
