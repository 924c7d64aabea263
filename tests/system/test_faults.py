"""`kill -9` in the middle, and a restart of everything: nothing accepted is lost, nothing is done twice.

`scripts/chaos scale` is among them, and `scripts/chaos batch` in short.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import RunState, read_state
from scripts.trials import scale
from scripts.trials.batch import Trial
from scripts.trials.faults.blows import Blow, Kind
from scripts.trials.faults.kills import CONTROLLER, is_controller_back
from scripts.trials.faults.recovery import judge, judge_reach
from tests.support.onnx_graphs import lookup
from tests.support.platform import RunningPlatform, deployed, finished, lines, submit, until
from tests.support.sentences import sentence
from tests.support.serve_rest import ServeRest

pytestmark = pytest.mark.system


FEW_BLOWS = (
    Blow(Kind.CONTROLLER, "claim.after"),
    Blow(Kind.RUNNER, "part.aside", 2),
    Blow(Kind.REDIS, "commit.before", is_held=True),
    Blow(Kind.RUNNER, "commit.after"),
    Blow(Kind.REDIS, "finish.before", is_held=True),
)


@pytest.fixture(scope="module")
def trial(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A job of some hundred shards has run undisturbed: the next blow is armed long before its end."""
    return Trial(platform, tmp_path_factory.mktemp("rows"), copies=16)


def job_log(platform: RunningPlatform, job_id: str) -> list[dict[str, Any]]:
    """The events of a job, from its log."""
    text = (platform.home / "jobs" / job_id / "log.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def output_digest(client: httpx.Client, job: dict[str, Any]) -> str:
    """The sha256 of a job's output."""
    return hashlib.sha256(client.get(job["output_url"]).content).hexdigest()


@sentence("jobs-6")
def test_kills_change_no_byte(platform: RunningPlatform, trial: Trial) -> None:
    """`scripts/chaos batch` in short: output and errors of an undisturbed run, and no committed shard runs again."""
    job = trial.disturbed(FEW_BLOWS)
    findings = [*judge([job]), *judge_reach([job], len(FEW_BLOWS))]
    assert [finding.what for finding in findings if not finding.is_met] == []
    log = job_log(platform, job.id)
    assert max(event["epoch"] for event in log) >= 3, "two runs were killed, the third did the rest"


def test_workers_survive_the_loss_of_one(
    client: httpx.Client, platform: RunningPlatform, glosses: Path, tmp_path: Path
) -> None:
    """A job long enough for a second worker, which is killed: every row once, in order, with its answer."""
    copies = 100
    path = tmp_path / "long.jsonl"
    path.write_bytes(glosses.read_bytes() * copies)
    name = submit(client, "sentiment-v1", path.as_uri())

    def pids() -> set[int]:
        log = platform.home / "jobs" / name / "log.jsonl"
        return {event["pid"] for event in job_log(platform, name)} if log.exists() else set()

    until(lambda: len(pids()) >= 2, timeout_s=240, what="a worker beside the runner")
    platform.kill("batch.hands")
    job = finished(client, name, timeout_s=600)
    assert job["status"] == "completed"
    rows = lines(client, job["output_url"])
    assert [row["index"] for row in rows] == list(range(2942 * copies))
    assert sum(row["result"]["label"] == "positive" for row in rows) == 1191 * copies


def kill_redis(platform: RunningPlatform) -> None:
    """`kill -9` its one server."""
    (server,) = platform.titled("valkey-server") + platform.titled("redis-server")
    server.kill()


def test_redis_killed_loses_nothing_that_was_accepted(
    client: httpx.Client, platform: RunningPlatform, glosses: Path
) -> None:
    """The supervisor starts Redis again; a job accepted just before is there and completes."""
    name = submit(client, "sentiment-v1", glosses.as_uri())
    kill_redis(platform)
    until(
        lambda: client.get(f"/jobs/{name}").status_code == 200,
        timeout_s=120,
        what="the API reads Redis again",
    )
    assert finished(client, name)["status"] == "completed"


@sentence("metrics-11")
def test_counts_survive_kills(client: httpx.Client, platform: RunningPlatform, tmp_path: Path) -> None:
    """Replica, ingress and Redis killed one after another: what was counted stays, and counting goes on.

    Of a deployment that nobody else asks: counts of what other tests asked may still be on their way.
    """
    path = tmp_path / "counted.onnx"
    path.write_bytes(lookup())
    made = deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1"})
    assert made["status"] == "ready", made["error"]
    name, application = made["id"], made["application"]

    def total() -> int | None:
        try:
            answer = client.get(f"/metrics/{name}", params={"period": "24h"})
        except httpx.TransportError:
            return None  # its connection ended with the ingress
        return int(answer.json()["metrics"]["requests"]["total"]) if answer.status_code == 200 else None

    def predicted() -> bool:
        try:
            return client.post("/predict/counted", json={"inputs": [1]}).status_code == 200
        except httpx.TransportError:
            return False

    assert total() == 0
    assert all(predicted() for _ in range(20))
    until(lambda: total() == 20, timeout_s=60, what="20 predictions counted")
    kills: list[tuple[str, Callable[[], object]]] = [
        ("replica", lambda: platform.kill(f"ray::ServeReplica:{application}")),
        ("ingress", lambda: platform.kill("ray::ServeReplica:ingress")),
        ("Redis", lambda: kill_redis(platform)),
    ]
    for killed, kill in kills:
        kill()
        until(lambda: (total() or 0) >= 20, timeout_s=120, what=f"the counts without {killed}")
        counted = total() or 0
        until(predicted, timeout_s=240, what=f"a prediction after {killed}")
        until(lambda seen=counted: (total() or 0) > seen, timeout_s=60, what="counting on")  # type: ignore[misc]
    client.delete(f"/deployments/{name}").raise_for_status()


def _only(platform: RunningPlatform, title: str) -> psutil.Process | None:
    """The process of this title, once there is one: a test before may have ended another."""
    found = platform.titled(title)
    return found[0] if len(found) == 1 else None


@pytest.mark.parametrize("title", [CONTROLLER, "ray::WebhookActor"])
def test_an_actor_that_is_asked_to_end_ends_and_is_replaced(platform: RunningPlatform, title: str) -> None:
    """SIGTERM, as of a daemon that watches memory. It stayed, answered nobody and was not replaced."""
    asked = until(lambda: _only(platform, title), timeout_s=120, what=f"the one {title}")
    asked.terminate()

    def is_replaced() -> bool:
        others = [process for process in platform.titled(title) if process != asked]
        is_ready = is_controller_back(platform, asked.pid) if title == CONTROLLER else True
        return bool(others) and not asked.is_running() and is_ready

    until(is_replaced, timeout_s=120, what=f"another {title}")


def test_rays_dashboard_is_replaced_and_nobody_notices(
    client: httpx.Client, platform: RunningPlatform
) -> None:
    """Ray itself gives up the node for it. Here predictions go on and it answers an operator again."""
    before = state_of(platform)
    platform.kill("ray/dashboard/dashboard.py")

    def is_back() -> bool:
        answer = client.post("/predict/digits", json={"inputs": [[0] * 64]})
        assert answer.status_code == 200, answer.text
        with ServeRest(platform) as rest:
            return rest.applications() is not None

    until(is_back, timeout_s=240, what="the dashboard")
    assert state_of(platform).ray_restarts == before.ray_restarts


def test_ray_is_started_again_when_an_agent_of_its_raylet_dies(platform: RunningPlatform) -> None:
    """The raylet follows it with exit code 0, which Ray takes for somebody's wish: nothing ran, called ready."""
    before = state_of(platform)
    platform.kill("ray::RuntimeEnvAgent")

    def is_back() -> bool:
        state = state_of(platform)
        return state.ray_restarts > before.ray_restarts and state.status == "ready"

    until(is_back, timeout_s=600, what="another Ray")
    with platform.client() as client:
        until(
            lambda: client.post("/predict/digits", json={"inputs": [[0] * 64]}).status_code == 200,
            timeout_s=240,
            what="predictions",
        )


def state_of(platform: RunningPlatform) -> RunState:
    """What its supervisor says."""
    state = read_state(Home(platform.home))
    assert state is not None
    return state


def test_what_an_operator_scaled_in_serve_stays_scaled(platform: RunningPlatform) -> None:
    """Two replicas through Serve's REST endpoint, our controller killed: the same two, and our API says so."""
    assert [finding.what for finding in scale.conduct(platform) if not finding.is_met] == []


def test_down_and_up_keep_everything(
    client: httpx.Client, platform: RunningPlatform, trial: Trial, glosses: Path
) -> None:
    """Jobs, models and deployments are there after a restart, outputs readable, predictions answered.

    It comes in the middle of a job, which goes on behind its last commit.
    """
    job = finished(client, submit(client, "sentiment-v1", glosses.as_uri()))
    before = output_digest(client, job)
    models = client.get("/models").json()["data"]
    assert [finding.what for finding in judge([trial.restarted()]) if not finding.is_met] == []
    assert client.get(f"/jobs/{job['id']}").json()["status"] == "completed"
    assert output_digest(client, job) == before
    assert [each["id"] for each in client.get("/models").json()["data"]] == [each["id"] for each in models]
    answer = client.post("/predict/sentiment-v1", json={"inputs": ["a fine film"]})
    assert answer.status_code == 200, answer.text
