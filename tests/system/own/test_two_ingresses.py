"""Two ingress replicas share what must not double: rate limits, and the objects that idempotency keys make.

Their platform keeps its artifacts in a bucket, as one of many nodes does. `scripts/chaos deploy` runs on it, in short.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.behaviour.stage import PLANS
from scripts.trials.deploy import TWO_INGRESSES, conduct
from scripts.trials.faults.report import judge, rows
from tests.support.platform import RunningPlatform, deployed, finished, submit, until
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.system

WINDOW_S = 6
SMALL_PLAN = {"read": 40, "write": 40, "inference": 80}
INGRESS = "ray::ServeReplica:ingress:Ingress"
DIGITS = PROJECT_ROOT / "configs" / "demo_models" / "digits"


@pytest.fixture(scope="module")
def two_ingresses(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[RunningPlatform]:
    """A platform with two ingress replicas, a short rate window, the plan `small`, a bucket and no models."""
    folder = tmp_path_factory.mktemp("two_ingresses")
    s3.put("artifacts/other", b"")
    overrides = {
        **TWO_INGRESSES,
        "limits": {"rate_window_s": WINDOW_S},
        "artifacts": {"url": "s3://artifacts/store", "s3": s3.settings},
    }
    copy = RunningPlatform.in_folder(folder, overrides, {**PLANS, "small": SMALL_PLAN})
    try:
        copy.up("--no-demo")
        yield copy
    finally:
        copy.down()
    assert copy.processes() == []


def ingress_replicas(platform: RunningPlatform) -> list[psutil.Process]:
    """The processes that serve the API."""
    return platform.titled(INGRESS)


CALLERS = 64
ANSWERED_BEFORE_KILL = 4


@dataclass
class Callers:
    """Callers that begin together, and each of whom tries again until it has an answer.

    The victim is killed by the caller whose answer is the fourth: all 64 may be answered within a tenth of a second.
    """

    url: str
    key: str
    body: dict[str, Any]
    victim: int
    answered_before_kill: int = 0
    begin: threading.Barrier = field(default_factory=lambda: threading.Barrier(CALLERS + 1, timeout=120))
    killing: threading.Lock = field(default_factory=threading.Lock)
    answers: list[httpx.Response] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def call(self) -> None:
        """One caller: a connection of its own, made before the others begin."""
        with httpx.Client(base_url=self.url, auth=(self.key, ""), timeout=60, trust_env=False) as client:
            client.get("/healthz")
            self.begin.wait()
            deadline = time.monotonic() + 240
            while (answer := self._try(client)) is None:
                assert time.monotonic() < deadline, self.failures
                time.sleep(0.05)
            self.answers.append(answer)
            if len(self.answers) >= ANSWERED_BEFORE_KILL and self.killing.acquire(blocking=False):
                self.answered_before_kill = len(self.answers)
                os.kill(self.victim, signal.SIGKILL)

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


def is_answered(client: httpx.Client) -> bool:
    """Whether a read is answered."""
    try:
        return client.get("/jobs").is_success
    except httpx.TransportError:
        return False


def with_a_model(platform: RunningPlatform) -> str:
    """The key of a new organization without limits, which owns the model `digits`."""
    with platform.client() as operator:
        made = operator.post("/organizations", json={"name": "race", "plan": "unlimited"})
    assert made.status_code == 201, made.text
    key: str = made.json()["api_key"]["key"]
    with client_of(platform, key) as client:
        registered = client.post("/models", json={"id": "digits", "model_uri": DIGITS.as_uri()})
        assert registered.status_code == 201, registered.text
        until(
            lambda: client.get("/models/digits").json()["status"] == "ready", timeout_s=240, what="the model"
        )
    return key


def client_of(platform: RunningPlatform, key: str) -> httpx.Client:
    """A client with this key."""
    return httpx.Client(base_url=platform.url, auth=(key, ""), timeout=60, trust_env=False)


def test_simultaneous_calls_with_one_key_make_one_job_whatever_crashes(
    two_ingresses: RunningPlatform, tmp_path: Path
) -> None:
    """64 callers, an ingress replica killed with SIGKILL between their answers: all answers equal, one job."""
    platform = two_ingresses
    until(lambda: len(ingress_replicas(platform)) == 2, timeout_s=240, what="two ingress replicas")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": [0] * 64}) + "\n", "utf-8")
    key = with_a_model(platform)
    victim = ingress_replicas(platform)[0].pid
    callers = Callers(platform.url, key, {"input_url": rows.as_uri(), "idempotency_key": "one"}, victim)
    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(callers.call) for _ in range(CALLERS)]
        callers.begin.wait()
        for call in calls:
            call.result()
    assert ANSWERED_BEFORE_KILL <= callers.answered_before_kill < CALLERS, "the kill came too late to matter"
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
    # Until the killed one's place is taken a connection may be lost, as the callers above know.
    until(lambda: len(ingress_replicas(platform)) == 2, timeout_s=240, what="another replica in its place")
    with client_of(platform, key) as client:
        until(lambda: is_answered(client), timeout_s=240, what="an answer after the kill")
        assert [each["id"] for each in client.get("/jobs").json()["data"]] == [job["id"]]
        finished(client, job["id"])
        assert [each["id"] for each in client.get("/jobs").json()["data"]] == [job["id"]]


def test_replicas_and_jobs_find_a_model_in_the_bucket_alone(
    two_ingresses: RunningPlatform, tmp_path: Path
) -> None:
    """As on a node that has never seen it: its cache holds nothing."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": [0] * 64}) + "\n", "utf-8")
    cache = two_ingresses.home / "artifact-cache"
    with two_ingresses.client() as client:
        source = {"model_uri": DIGITS.as_uri(), "model_id": "kept", "region": "us-east-1"}
        first = deployed(client, source)
        assert first["status"] == "ready"
        sha256 = client.get("/models/kept").json()["sha256"]
        shutil.rmtree(cache / sha256)
        again = deployed(client, {"model_uri": "models://kept", "region": "us-east-1"})
        assert again["status"] == "ready", again["error"]
        assert (cache / sha256 / "model.onnx").is_file()
        shutil.rmtree(cache / sha256)
        assert finished(client, submit(client, "kept", rows.as_uri()))["progress"]["succeeded"] == 1
        assert (cache / sha256 / "model.onnx").is_file()
        for each in (first, again):
            client.delete(f"/deployments/{each['id']}").raise_for_status()
    assert list((two_ingresses.home / "artifacts").iterdir()) == []


WINDOWS = 3
CLIENTS = 8
PAUSE_S = 0.2
"""Between two tries of a client that is over the limit: eight of them ask forty times a second."""
USABLE = {"read": 0.98, "write": 0.98, "inference": 0.95}

Send = Callable[[httpx.Client], httpx.Response]
SENDS: dict[str, Send] = {
    "read": lambda client: client.get("/models"),
    "write": lambda client: client.delete("/deployments/dep_unknown"),
    "inference": lambda client: client.post("/predict/digits", json={"inputs": [[0.0] * 64]}),
}
ADMITTED = {"read": 200, "write": 404, "inference": 200}


@dataclass(frozen=True, slots=True)
class Try:
    """One request; it was admitted or refused at some moment between `sent` and `answered`."""

    sent: float
    answered: float
    status: int


def hammer(client: httpx.Client, send: Send, start: threading.Barrier) -> list[Try]:
    """One caller that asks again and again for three windows."""
    tries = []
    start.wait()
    deadline = time.monotonic() + WINDOWS * WINDOW_S
    while (sent := time.monotonic()) < deadline:
        answer = send(client)
        tries.append(Try(sent, time.monotonic(), answer.status_code))
        if answer.status_code == 429:
            assert {"retry-after", "x-ratelimit-reset"} <= set(answer.headers)
            time.sleep(PAUSE_S)
    return tries


def most_within(tries: list[Try], window_s: float) -> int:
    """The most tries that any window of this length holds from end to end."""
    return max(
        sum(first.sent <= each.sent and each.answered < first.sent + window_s for each in tries)
        for first in tries
    )


def test_the_limit_is_never_passed_and_nearly_all_of_it_is_usable(
    two_ingresses: RunningPlatform,
) -> None:
    """Eight clients a category, all categories at once, for three windows.

    When a request was counted is not seen from outside, only that it was between its being sent and its answer. So two
    bounds are asserted that hold for every possible moment in between. Never above: requests that lie in a window from
    end to end were certainly counted within it, so that they exceed the limit proves that the limit was passed; a
    limit that is kept cannot fail this, and what it overlooks is the length of a request at either end of a window
    (milliseconds of six seconds). Usable: answers that came within three windows of the first request were counted
    within them; three windows have room for three times the limit.
    """
    platform = two_ingresses
    until(lambda: len(ingress_replicas(platform)) == 2, timeout_s=240, what="two ingress replicas")
    with caller_on_small_plan(platform) as client, ThreadPoolExecutor(CLIENTS * len(SENDS)) as pool:
        start = threading.Barrier(CLIENTS * len(SENDS), timeout=120)
        running = {
            category: [pool.submit(hammer, client, send, start) for _ in range(CLIENTS)]
            for category, send in SENDS.items()
        }
        tries = {
            category: [each for one in callers for each in one.result()]
            for category, callers in running.items()
        }
    for category, made in tries.items():
        limit = SMALL_PLAN[category]
        assert {each.status for each in made} == {ADMITTED[category], 429}, category
        admitted = [each for each in made if each.status != 429]
        assert most_within(admitted, WINDOW_S) <= limit, category
        deadline = min(each.sent for each in made) + WINDOWS * WINDOW_S
        in_time = sum(each.answered <= deadline for each in admitted)
        assert in_time >= USABLE[category] * WINDOWS * limit, (category, in_time)


@contextmanager
def caller_on_small_plan(platform: RunningPlatform) -> Iterator[httpx.Client]:
    """A client whose key has used nothing of its limit, of an organization with one ready model."""
    with platform.client() as operator:
        made = operator.post("/organizations", json={"name": "hammers", "plan": "unlimited"}).json()
        owner = httpx.BasicAuth(made["api_key"]["key"], "")
        with httpx.Client(base_url=platform.url, auth=owner, timeout=60, trust_env=False) as client:
            body = {"model_uri": DIGITS.as_uri(), "model_id": "digits", "region": "us-east-1"}
            serving = deployed(client, body)
            assert serving["status"] == "ready"
            changed = operator.patch(f"/organizations/{made['id']}", json={"plan": "small"})
            assert changed.json()["plan"] == "small", changed.text
            fresh = client.post("/api_keys", json={"name": "fresh"}).json()  # no replica remembers it
            client.auth = httpx.BasicAuth(fresh["key"], "")
            yield client
            client.auth = owner
            until(
                lambda: client.delete(f"/deployments/{serving['id']}").status_code == 200,
                timeout_s=240,
                what="a window in which its deployment may be deleted",
            )


def test_kills_lose_no_deployment_and_hardly_a_prediction(two_ingresses: RunningPlatform) -> None:
    """Controllers, a model replica and an ingress replica killed, some of them during a deploy.

    Deploys finish, each key has its one deployment, what is deleted stays so, and no answer is wrong.
    """
    trial = conduct(two_ingresses, rounds=1)
    with two_ingresses.client() as client:
        for each in client.get("/deployments").json()["data"]:
            client.delete(f"/deployments/{each['id']}").raise_for_status()
    assert len({kill.victim.kind for kill in trial.kills}) == 4
    assert any(row.mid_deploy for row in rows(trial))
    assert [finding.what for finding in judge(trial) if not finding.is_met] == []
