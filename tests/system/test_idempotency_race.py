"""One idempotency key, many callers at the same moment, two ingress replicas, one of them killed: one job."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform, finished, until

pytestmark = pytest.mark.system

CALLERS = 64
ANSWERED_BEFORE_KILL = 4
INGRESS = "ray::ServeReplica:ingress:Ingress"


def ingress_replicas(platform: RunningPlatform) -> list[psutil.Process]:
    """The processes that serve the API."""
    found = []
    for process in platform.processes():
        try:
            if " ".join(process.cmdline()).startswith(INGRESS):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@dataclass
class Callers:
    """Callers that begin together, and each of whom tries again until it has an answer."""

    url: str
    key: str
    body: dict[str, Any]
    begin: threading.Barrier = field(default_factory=lambda: threading.Barrier(CALLERS + 1))
    answers: list[httpx.Response] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def call(self) -> None:
        """One caller: a connection of its own, made before the others begin."""
        with httpx.Client(base_url=self.url, auth=(self.key, ""), timeout=30, trust_env=False) as client:
            client.get("/healthz")
            self.begin.wait()
            deadline = time.monotonic() + 60
            while (answer := self._try(client)) is None:
                assert time.monotonic() < deadline, self.failures
                time.sleep(0.05)
            self.answers.append(answer)

    def _try(self, client: httpx.Client) -> httpx.Response | None:
        """The answer, if it is one: a lost connection and a 5xx say nothing about what happened."""
        try:
            answer = client.post("/batch/digits", json=self.body)
        except httpx.TransportError as error:
            self.failures.append(type(error).__name__)
            return None
        if answer.status_code >= 500:
            self.failures.append(str(answer.status_code))
            return None
        return answer


def with_a_model(platform: RunningPlatform) -> str:
    """The key of a new organization without limits, which owns the model `digits`."""
    with platform.client() as operator:
        made = operator.post("/organizations", json={"name": "race", "plan": "unlimited"})
    assert made.status_code == 201, made.text
    key: str = made.json()["api_key"]["key"]
    package = PROJECT_ROOT / "configs" / "demo_models" / "digits"
    with client_of(platform, key) as client:
        registered = client.post("/models", json={"id": "digits", "model_uri": package.as_uri()})
        assert registered.status_code == 201, registered.text
        until(
            lambda: client.get("/models/digits").json()["status"] == "ready", timeout_s=60, what="the model"
        )
    return key


def client_of(platform: RunningPlatform, key: str) -> httpx.Client:
    """A client with this key."""
    return httpx.Client(base_url=platform.url, auth=(key, ""), timeout=30, trust_env=False)


def test_simultaneous_calls_with_one_key_make_one_job_whatever_crashes(
    two_ingress_platform: RunningPlatform, tmp_path: Path
) -> None:
    """64 callers, an ingress replica killed with SIGKILL between their answers: all answers equal, one job."""
    platform = two_ingress_platform
    until(lambda: len(ingress_replicas(platform)) == 2, timeout_s=60, what="two ingress replicas")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": [0] * 64}) + "\n", "utf-8")
    key = with_a_model(platform)
    callers = Callers(platform.url, key, {"input_url": rows.as_uri(), "idempotency_key": "one"})
    victim = ingress_replicas(platform)[0].pid
    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(callers.call) for _ in range(CALLERS)]
        callers.begin.wait()
        until(lambda: len(callers.answers) >= ANSWERED_BEFORE_KILL, timeout_s=60, what="the first answers")
        os.kill(victim, signal.SIGKILL)
        answered_before_kill = len(callers.answers)
        for call in calls:
            call.result()
    assert answered_before_kill < CALLERS, "the kill came too late to matter"
    assert len(callers.answers) == CALLERS
    first = callers.answers[0]
    assert first.status_code == 202
    job = first.json()
    assert first.headers["location"] == f"/jobs/{job['id']}"
    for answer in callers.answers:
        assert (answer.status_code, answer.content, answer.headers["location"]) == (
            first.status_code,
            first.content,
            first.headers["location"],
        )
    created = [each for each in callers.answers if each.headers.get("idempotent-replayed") != "true"]
    assert len(created) <= 1, "the answer that created the job may have been lost; two cannot have"
    with client_of(platform, key) as client:
        assert [each["id"] for each in client.get("/jobs").json()["data"]] == [job["id"]]
        finished(client, job["id"])
        assert [each["id"] for each in client.get("/jobs").json()["data"]] == [job["id"]]
    until(lambda: len(ingress_replicas(platform)) == 2, timeout_s=60, what="another replica in its place")
