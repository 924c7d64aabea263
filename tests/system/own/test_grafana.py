"""The dashboard and the alerts over a platform under load: every query finds something, and sums are right.

A platform of its own with two ingress replicas, since each shows its own numbers.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psutil
import pytest

from fyretoolkit.core.exposition import SERIES
from fyretoolkit.settings import DEMO_KEY
from tests.conftest import SHORTENED
from tests.support.platform import RunningPlatform, deployed, free_port, until
from tests.support.promql import (
    GRAFANA,
    Asked,
    Shown,
    alert_expressions,
    dashboard_expressions,
    parse_samples,
    selectors,
    targets_of,
)

pytestmark = pytest.mark.system

ASKED = [*dashboard_expressions(), *alert_expressions()]
OFTEN = {"RAY_metrics_report_interval_ms": "1000", "REPORTER_UPDATE_INTERVAL_MS": "1000"}
"""Ray takes its numbers every second instead of every 10; Prometheus scrapes as often."""
_FOUND_S = 240.0
_GONE_S = 240.0
_BY_PROMETHEUS = frozenset(("up",))
_TEXT = {"inputs": ["an utterly compelling film", "a complete waste of time"]}
_DIGIT = {"inputs": [[0, 0, 5, 13, 9, 1, 0, 0] * 8]}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with two ingress replicas."""
    overrides = {**SHORTENED, "ingress": {"replicas": 2}}
    plans = {"development": {"read": 1_000_000, "write": 1_000_000, "inference": 1_000_000}}
    copy = RunningPlatform.in_folder(tmp_path_factory.mktemp("watched"), overrides, plans)
    copy.environ.update(OFTEN)
    try:
        copy.up()
        yield copy
    finally:
        copy.down()


def _predict(platform: RunningPlatform, model: str, body: dict[str, Any], times: int) -> list[int]:
    """The statuses of so many predictions, each over a connection of its own: the proxy spreads them."""
    key = base64.b64encode(f"{DEMO_KEY}:".encode()).decode()
    statuses = []
    for _ in range(times):
        answer = httpx.post(
            f"{platform.url}/predict/{model}",
            json=body,
            headers={"authorization": f"Basic {key}"},
            timeout=60,
            trust_env=False,
        )
        statuses.append(answer.status_code)
    return statuses


@contextmanager
def _loaded(platform: RunningPlatform) -> Iterator[None]:
    """Predictions, wrong ones and other requests, until the block ends."""
    is_over = Event()

    def run() -> None:
        with platform.client() as client:
            while not is_over.wait(0.02):
                client.post("/predict/sentiment-v1", json=_TEXT)
                client.post("/predict/digits", json=_DIGIT)
                client.post("/predict/digits", json={"inputs": ["no digit"]})
                client.get("/deployments")

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _scrape(platform: RunningPlatform) -> list[Shown]:
    """What all exporters show now."""
    return [
        sample
        for target in targets_of(platform.home)
        for sample in parse_samples(httpx.get(f"http://{target}/metrics", trust_env=False).text)
    ]


def _sum(samples: list[Shown], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for sample in samples
        if sample.name == f"ray_{name}" and labels.items() <= sample.labels.items()
    )


def _unmatched(samples: list[Shown], asked: list[Asked]) -> list[str]:
    return [
        f"{each.where}: {selector}"
        for each in asked
        for selector in selectors(each.expr)
        if selector.name not in _BY_PROMETHEUS and not any(map(selector.matches, samples))
    ]


def test_every_prediction_is_counted_once_over_all_ingresses(watched: RunningPlatform) -> None:
    """By code, with as many latencies as answers; each process shows its own part."""
    assert set(_predict(watched, "sentiment-v2", _TEXT, 60)) == {200}
    assert set(_predict(watched, "sentiment-v2", {"inputs": [1]}, 7)) == {422}

    def shown() -> list[Shown] | None:
        samples = _scrape(watched)
        counted = _sum(samples, "fyre_predictions_total", model="sentiment-v2")
        assert counted <= 67
        return samples if counted == 67 else None

    samples = until(shown, timeout_s=_FOUND_S, what="all 67 predictions")
    of_model = {"model": "sentiment-v2"}
    assert _sum(samples, "fyre_predictions_total", code="ok", status="200", **of_model) == 60
    assert _sum(samples, "fyre_predictions_total", code="invalid_input", status="422", **of_model) == 7
    assert _sum(samples, "fyre_prediction_latency_ms_count", **of_model) == 60
    assert _sum(samples, "fyre_prediction_latency_ms_bucket", le="+Inf", **of_model) == 60
    assert _sum(samples, "fyre_prediction_inputs_total", **of_model) == 120
    processes = {
        sample.labels["WorkerId"]
        for sample in samples
        if sample.name == "ray_fyre_prediction_latency_ms_count" and of_model.items() <= sample.labels.items()
    }
    assert len(processes) == 2


def test_every_query_finds_something_under_load(watched: RunningPlatform) -> None:
    """Each name with its labels, of every panel, variable and alert; and everything of ours is shown."""
    with _loaded(watched):

        def missing() -> list[str]:
            samples = _scrape(watched)
            names = {sample.name for sample in samples}
            return [
                *_unmatched(samples, ASKED),
                *(name for name in SERIES if f"ray_{name}" not in names),
            ]

        try:
            until(lambda: not missing(), timeout_s=_FOUND_S, what="data for every query")
        except AssertionError as error:
            raise AssertionError(missing()) from error


def test_exporters_listen_on_loopback_alone(watched: RunningPlatform) -> None:
    """Nobody elsewhere reads whose models there are."""
    ports = {int(target.rpartition(":")[2]) for target in targets_of(watched.home)}
    addresses = {
        connection.laddr.ip
        for process in watched.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }
    assert addresses == {"127.0.0.1"}
    assert len(ports) == 2


def test_a_deleted_deployment_vanishes(watched: RunningPlatform) -> None:
    """Of our series within half a minute; Ray keeps some of its own."""
    body = {
        "model_uri": (GRAFANA.parent / "demo_models" / "digits" / "model.onnx").as_uri(),
        "model_id": "fleeting",
        "region": "us-east-1",
    }
    with watched.client() as client:
        name = deployed(client, body)["id"]
        assert set(_predict(watched, "fleeting", _DIGIT, 4)) == {200}

        def ours() -> list[Shown]:
            return [
                sample
                for sample in _scrape(watched)
                if sample.name.startswith("ray_fyre_") and sample.labels.get("deployment") == name
            ]

        until(
            lambda: {"ray_fyre_predictions_total", "ray_fyre_replica_busy_ratio"} <= {s.name for s in ours()},
            timeout_s=_FOUND_S,
            what="its series",
        )
        assert client.delete(f"/deployments/{name}").status_code in (200, 202, 204)
        until(lambda: not ours(), timeout_s=_GONE_S, what="the end of its series")


@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="install Debian's prometheus to run it, as .ci/run does"
)
def test_prometheus_answers_every_query(watched: RunningPlatform, tmp_path: Path) -> None:
    """With our configuration, but for the home and the intervals; each query gives a number, and no alert stays."""
    with _loaded(watched), _prometheus(watched, tmp_path) as prometheus:
        pending = [(asked.where, expr) for asked in ASKED for expr in asked.measured]

        def answered() -> bool:
            pending[:] = [(where, expr) for where, expr in pending if not _has_number(prometheus, expr)]
            return not pending

        try:
            until(answered, timeout_s=_FOUND_S, what="an answer to every query")
        except AssertionError as error:
            raise AssertionError(pending) from error
        rules = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
        assert health == {asked.where: "ok" for asked in alert_expressions()}
        # One for what is absent is pending from before its first scrape to the next evaluation.
        until(
            lambda: prometheus.get("/api/v1/alerts").json()["data"]["alerts"] == [],
            timeout_s=_FOUND_S,
            what="no alert, pending or firing",
        )


@contextmanager
def _prometheus(platform: RunningPlatform, folder: Path) -> Iterator[httpx.Client]:
    """A Prometheus over the platform, ended afterwards."""
    shutil.copy(GRAFANA / "alerts.yml", folder)
    text = (GRAFANA / "prometheus.yml").read_text("utf-8")
    config = folder / "prometheus.yml"
    for ours, here in (("../../.fyre/", f"{platform.home}/"), ("_interval: 10s", "_interval: 1s")):
        assert ours in text
        text = text.replace(ours, here)
    config.write_text(text, "utf-8")
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with closing(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)) as client:
            until(
                lambda: _is_ready(client), timeout_s=120, what=(folder / "prometheus.log").read_text("utf-8")
            )
            yield client
    finally:
        running.terminate()
        running.wait(60)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _has_number(client: httpx.Client, expr: str) -> bool:
    answer = client.get("/api/v1/query", params={"query": expr}).json()
    assert answer["status"] == "success", json.dumps(answer)
    return any(result["value"][1] != "NaN" for result in answer["data"]["result"])
