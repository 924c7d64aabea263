"""Replicas by load on the running platform: to zero, and back for the first of many callers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform, deployed, until
from tests.support.sentences import sentence

pytestmark = pytest.mark.system

DIGITS = PROJECT_ROOT / "configs" / "demo_models" / "digits"
GOLDEN = PROJECT_ROOT / "tests" / "golden" / "digits_golden.jsonl"


@pytest.fixture(scope="module")
def sleeper(platform: RunningPlatform) -> Iterator[dict[str, Any]]:
    """A deployment of the digits model, as `sleepy`, that may have no replica."""
    body = {
        "model_uri": DIGITS.as_uri(),
        "model_id": "sleepy",
        "region": "us-east-1",
        "autoscaling": {"min_replicas": 0, "max_replicas": 2},
    }
    with platform.client() as client:
        made = deployed(client, body)
        yield made
        client.delete(f"/deployments/{made['id']}")


def slept(client: httpx.Client, platform: RunningPlatform, name: str) -> dict[str, Any]:
    """The deployment once it has no replica; it is ready all the while."""

    def is_asleep() -> dict[str, Any] | None:
        shown: dict[str, Any] = client.get(f"/deployments/{name}").json()
        assert shown["status"] == "ready", shown["events"]
        is_so = shown["replicas"] == {"desired": 0, "ready": 0} and not platform.titled(shown["application"])
        return shown if is_so else None

    return until(is_asleep, timeout_s=240, what="no replica")


@sentence("deploy-34", "predict-25")
def test_one_replica_is_started_for_many_callers(
    client: httpx.Client, platform: RunningPlatform, sleeper: dict[str, Any]
) -> None:
    """It starts with one, has none after its calm time, and one again for 50 calls at once.

    Each of them gets its own answer. The deployment is ready throughout.
    """
    name = sleeper["id"]
    assert (sleeper["status"], sleeper["replicas"]) == ("ready", {"desired": 1, "ready": 1})
    slept(client, platform, name)
    rows = [json.loads(line) for line in GOLDEN.read_text("utf-8").splitlines()]
    is_over = Event()

    def watched() -> tuple[set[int], set[str]]:
        """The replicas that were there, and the states that were shown."""
        replicas: set[int] = set()
        states: set[str] = set()
        is_last = False
        while not is_last:
            is_last = is_over.wait(0.2)
            shown = client.get(f"/deployments/{name}").json()
            replicas |= {each.pid for each in platform.titled(shown["application"])}
            states.add(shown["status"])
        return replicas, states

    def predict(row: dict[str, Any]) -> tuple[int, object]:
        body = {"inputs": [row["pixels"]], "options": {"timeout_ms": 60_000}}
        answer = client.post("/predict/sleepy", json=body, timeout=90)
        return answer.status_code, answer.json().get("results", answer.json())

    with ThreadPoolExecutor(len(rows) + 1) as threads:
        watching = threads.submit(watched)
        try:
            answers = list(threads.map(predict, rows))
            until(
                lambda: client.get(f"/deployments/{name}").json()["replicas"] == {"desired": 1, "ready": 1},
                timeout_s=120,
                what="one replica shown",
            )
        finally:
            is_over.set()
        replicas, states = watching.result()
    assert [status for status, _ in answers] == [200] * len(rows), answers
    labels = [results[0]["label"] for _, results in answers]  # type: ignore[index]
    assert labels == [row["label"] for row in rows]
    assert len(replicas) == 1
    assert states == {"ready"}


@sentence("predict-25")
def test_who_cannot_wait_for_the_first_replica_is_sent_away(
    client: httpx.Client, platform: RunningPlatform, sleeper: dict[str, Any]
) -> None:
    """503 at its deadline, with when to come back; it wakes the deployment for whoever comes next."""
    slept(client, platform, sleeper["id"])
    row = json.loads(GOLDEN.read_text("utf-8").splitlines()[0])
    body = {"inputs": [row["pixels"]], "options": {"timeout_ms": 10}}

    def sent_away() -> httpx.Response | None:
        """None from an ingress whose routing table, up to a second old, still has the replica that ended."""
        answer = client.post("/predict/sleepy", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) in (
            (503, "unavailable"),
            (504, "deadline_exceeded"),
        )
        return answer if answer.status_code == 503 else None

    hasty = until(sent_away, timeout_s=60, what="a table that knows that it sleeps")
    assert int(hasty.headers["retry-after"]) >= 1
    body["options"] = {"timeout_ms": 60_000}
    patient = client.post("/predict/sleepy", json=body, timeout=90)
    assert (patient.status_code, patient.json()["results"][0]["label"]) == (200, row["label"])
