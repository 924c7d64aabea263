"""GPUs as Ray counts them, on machines without one: placement, shares, failure, scaling. CUDA is its double."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gpus import placements
from tests.support.model_packages import write_package
from tests.support.onnx_graphs import half_scores, quotients
from tests.support.platform import RunningPlatform, deployed, finished, lines, submit, until

pytestmark = pytest.mark.system

TWO_GPUS_AND_DOUBLE = {"FYRE_TEST_GPUS": "2", "FYRE_TEST_PROVIDERS": "CUDAExecutionProvider"}
HALF_OF_16_GIB = "at most 7.50 GiB"


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform without models, with two GPUs and CUDA's double."""
    copy = RunningPlatform.in_folder(tmp_path_factory.mktemp("gpus"), {"deployments": {"place_timeout_s": 2}})
    copy.environ.update(TWO_GPUS_AND_DOUBLE)
    try:
        copy.up("--no-demo")
        yield copy
    finally:
        copy.down()
    assert copy.processes() == []


@pytest.fixture
def caller(gpus: RunningPlatform) -> Iterator[httpx.Client]:
    """A client; what it deployed is deleted."""
    with gpus.client() as client:
        yield client
        for each in client.get("/deployments", params={"limit": 100}).json()["data"]:
            client.delete(f"/deployments/{each['id']}")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a model of float16 lies."""
    path = tmp_path_factory.mktemp("model") / "half.onnx"
    path.write_bytes(half_scores())
    return path.as_uri()


def body(uri: str, **fields: Any) -> dict[str, Any]:
    """Of a deployment with half a GPU, which waits until those of an earlier test have left it."""
    return {"model_uri": uri, "region": "us-east-1", "num_gpus": 0.5, "max_wait_s": 300, **fields}


def await_ready(client: httpx.Client, deployment: str) -> None:
    """Return once it takes traffic; fail if it does."""

    def settled() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/deployments/{deployment}").json()
        return found if found["status"] in ("ready", "failed") else None

    found = until(settled, timeout_s=300, what=f"{deployment} ready")
    assert found["status"] == "ready", found


def predicted(client: httpx.Client) -> dict[str, Any]:
    """A prediction of the model of float16."""
    answer = client.post("/predict/half", json={"inputs": [[1.5, 0.25]]})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["results"] == [{"y": [3.0, 1.75]}]
    return found


def test_two_gpus_take_four_halves_and_no_fifth(
    gpus: RunningPlatform, caller: httpx.Client, half: str
) -> None:
    """Two on each, within its share of the memory. The fifth says why not; one that waits has the first free half."""
    ids = [caller.post("/deployments", json=body(half)).json()["id"] for _ in range(4)]
    for name in ids:
        await_ready(caller, name)
    found = [placement for name in ids for placement in placements(gpus, name)]
    assert Counter(visible for _, visible in found) == {"'0'": 2, "'1'": 2}
    assert all(HALF_OF_16_GIB in where and where.startswith("CUDAExecutionProvider") for where, _ in found)
    predicted(caller)
    refused = caller.post("/predict/half", json={"inputs": [[70_000, 0]]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_input")

    fifth = deployed(caller, body(half, max_wait_s=None))
    assert (fifth["status"], fifth["error"]["code"]) == ("failed", "no_capacity")
    details = fifth["error"]["details"]
    assert (details["asked"]["GPU"], details["free"]["GPU"]) == (0.5, 0)
    assert "0.5 GPU" in fifth["error"]["message"]

    patient = caller.post("/deployments", json=body(half)).json()["id"]
    until(
        lambda: caller.get(f"/deployments/{patient}").json()["stage"] == "starting",
        timeout_s=120,
        what="a deployment that waits for a GPU",
    )
    caller.delete(f"/deployments/{ids[0]}")
    await_ready(caller, patient)
    assert [visible for _, visible in placements(gpus, patient)] == [
        visible for _, visible in placements(gpus, ids[0])
    ]


def test_replicas_come_back_and_are_added_on_gpus(
    gpus: RunningPlatform, caller: httpx.Client, half: str
) -> None:
    """One that is killed, and a second one."""
    made = deployed(caller, body(half))
    assert made["status"] == "ready", made
    killed = gpus.kill(f"ray::ServeReplica:{made['id']}")

    def is_back() -> bool:
        pids = [process.pid for process in gpus.titled(f"ray::ServeReplica:{made['id']}")]
        ready = caller.get(f"/deployments/{made['id']}").json()["replicas"]["ready"]
        return ready == 1 and bool(pids) and killed not in pids

    until(is_back, timeout_s=240, what="a replica in the killed one's place")
    until(lambda: len(placements(gpus, made["id"])) == 2, timeout_s=60, what="its log")
    caller.patch(f"/deployments/{made['id']}", json={"replicas": 2})
    until(
        lambda: caller.get(f"/deployments/{made['id']}").json()["replicas"]["ready"] == 2,
        timeout_s=240,
        what="a second replica",
    )
    found = placements(gpus, made["id"])
    assert len(found) == 3
    assert all(where.startswith("CUDAExecutionProvider") for where, _ in found)
    assert {visible for _, visible in found} <= {"'0'", "'1'"}
    predicted(caller)


def test_who_asked_for_no_gpu_sees_none(gpus: RunningPlatform, caller: httpx.Client, half: str) -> None:
    """Though the machine has two."""
    made = deployed(caller, body(half, num_gpus=0))
    assert made["status"] == "ready", made
    assert placements(gpus, made["id"]) == [("CPUExecutionProvider", "''")]


def test_a_job_runs_on_gpus(caller: httpx.Client, tmp_path: Path) -> None:
    """Its workers hold them; the runner, which would begin the work itself, holds none."""
    write_package(tmp_path / "half-job", half_scores(), "resources: {num_gpus: 0.5}")
    register(caller, "half-job", tmp_path / "half-job")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f"[{number}, 0.5]\n" for number in range(100)), "utf-8")
    job = finished(caller, submit(caller, "half-job", rows.as_uri()))
    assert (job["status"], job["progress"]["succeeded"]) == ("completed", 100), job
    assert [line["result"]["y"] for line in lines(caller, job["output_url"])] == [
        [2.0 * number, number + 0.5] for number in range(100)
    ]


def test_gpus_and_cpus_give_the_same_bytes_though_a_row_kills(caller: httpx.Client, tmp_path: Path) -> None:
    """Three stages or one worker, and the process that predicts dies of one row in 100: it is the one error line."""
    rows = tmp_path / "divisors.jsonl"
    rows.write_text("".join(f"{-1 if number == 61 else number}\n" for number in range(1, 101)), "utf-8")
    outputs = []
    for name, manifest in ("divide", ""), ("divide-gpu", "resources: {num_gpus: 0.5}\n"):
        write_package(tmp_path / name, quotients(), f"example: 1\n{manifest}")
        register(caller, name, tmp_path / name)
        job = finished(caller, submit(caller, name, rows.as_uri()))
        assert (job["status"], job["progress"]["succeeded"]) == ("completed", 99), job
        outputs.append([caller.get(job[url]).content for url in ("output_url", "errors_url")])
    assert outputs[0] == outputs[1]
    error = json.loads(outputs[0][1])
    assert (error["index"], error["error"]["code"]) == (60, "row_crashed")


def register(client: httpx.Client, name: str, package: Path) -> None:
    """A model that jobs can use."""
    answer = client.post("/models", json={"id": name, "model_uri": package.as_uri()})
    assert answer.status_code == 201, answer.text
    until(lambda: client.get(f"/models/{name}").json()["status"] == "ready", timeout_s=240, what=name)
