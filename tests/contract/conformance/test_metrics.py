"""Metrics: exact counts, honest percentiles, soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.conformance import REGION, Caller, Organization, error_of, fields_of
from tests.support.onnx_graphs import lookup
from tests.support.platform import until
from tests.support.sentences import sentence

PERIODS = {"5m": 300, "1h": 3600, "24h": 86_400, "7d": 7 * 86_400}
QUANTILES = ["p50", "p90", "p95", "p99"]
LAG_S = 2
SLACK_S = 15  # a look takes time on a busy machine

Usages = list[dict[str, Any]]


@pytest.fixture(scope="module")
def measured(org: Organization) -> Iterator[tuple[dict[str, Any], Usages, dict[str, Any]]]:
    """A deployment, the usage of its 20 good predictions beside 3 bad ones, and its metrics after them."""
    caller = org.caller
    made = caller.settled_deployment(model_uri=caller.upload(lookup(), "measured.onnx"))
    assert made["status"] == "ready", made
    usages = [caller.post("/predict/measured", {"inputs": [0, 1]}).json()["usage"] for _ in range(20)]
    for _ in range(3):
        assert caller.post("/predict/measured", {"inputs": ["x"]}).status_code == 422
    answered = time.monotonic()

    def counted() -> dict[str, Any] | None:
        found = caller.read(f"/metrics/{made['id']}")
        return found if found["metrics"]["requests"]["total"] >= 23 else None

    metrics = until(counted, timeout_s=60, what="23 predictions counted")
    metrics["lag_s"] = time.monotonic() - answered
    yield made, usages, metrics
    caller.delete(f"/deployments/{made['id']}")


@sentence("metrics-1")
def test_the_answer(measured: tuple[dict[str, Any], Usages, dict[str, Any]]) -> None:
    """Every field, down to the leaves."""
    deployment, _, found = measured
    assert found.keys() - {"lag_s"} == {"deployment_id", "object", "period", "start", "end", "metrics"}
    assert (found["deployment_id"], found["object"]) == (deployment["id"], "metrics")
    assert found["metrics"].keys() == {"requests", "latency", "errors", "throughput", "series"}


@sentence("metrics-2")
def test_periods(caller: Caller, deployment: dict[str, Any]) -> None:
    """Four of them, one hour by default; another one is a mistake."""
    path = f"/metrics/{deployment['id']}"
    assert caller.read(path)["period"] == "1h"
    for period, seconds in PERIODS.items():
        found = caller.read(path, params={"period": period})
        assert (found["period"], found["end"] - found["start"]) == (period, seconds)
        assert abs(found["end"] - time.time()) <= 60
    for period in ("2h", "", "1H"):
        assert fields_of(caller.get(path, params={"period": period})) == ["period"]


@sentence("metrics-3", "metrics-5")
def test_counts_are_exact(measured: tuple[dict[str, Any], Usages, dict[str, Any]]) -> None:
    """20 succeeded, 3 did not fit."""
    requests, errors = (measured[2]["metrics"][name] for name in ("requests", "errors"))
    assert requests.keys() == {"total", "succeeded", "failed", "rejected", "canceled", "per_second"}
    assert (requests["total"], requests["succeeded"], requests["canceled"]) == (23, 20, 0)
    assert requests["failed"] + requests["rejected"] == 3
    assert requests["per_second"] > 0
    assert errors.keys() == {"rate", "by_code"}
    assert errors["by_code"] == {"invalid_input": 3}
    assert 0 <= errors["rate"] <= 1


@sentence("metrics-4")
def test_latencies(measured: tuple[dict[str, Any], Usages, dict[str, Any]]) -> None:
    """In milliseconds, ordered, for the whole and for its parts."""
    latency = measured[2]["metrics"]["latency"]
    assert latency.keys() == {"total", "queue", "compute"}
    for each in latency.values():
        assert each.keys() == {"mean", "max", *QUANTILES}
        values = [each[name] for name in QUANTILES]
        assert values == sorted(values)
        assert 0 <= values[0] <= values[-1] <= each["max"] * 1.01
    assert latency["compute"]["max"] <= latency["total"]["max"]


@sentence("metrics-9")
def test_percentiles_are_those_of_the_answers(
    measured: tuple[dict[str, Any], Usages, dict[str, Any]],
) -> None:
    """Within 1% of what the answers themselves said that the model took."""
    _, usages, found = measured
    spent = sorted(usage["compute_ms"] for usage in usages)
    compute = found["metrics"]["latency"]["compute"]
    assert spent[9] * 0.99 - 0.001 <= compute["p50"] <= spent[10] * 1.01 + 0.001
    assert compute["max"] == pytest.approx(spent[-1], rel=0.011, abs=0.001)
    assert compute["mean"] == pytest.approx(sum(spent) / len(spent), rel=0.011, abs=0.001)


@sentence("metrics-6")
def test_throughput(measured: tuple[dict[str, Any], Usages, dict[str, Any]]) -> None:
    """Two inputs a prediction."""
    throughput = measured[2]["metrics"]["throughput"]
    assert throughput.keys() == {"inputs", "inputs_per_second", "mean_batch_size"}
    assert throughput["inputs"] == 40
    assert throughput["inputs_per_second"] > 0
    assert throughput["mean_batch_size"] >= 2


@sentence("metrics-7")
def test_the_series(measured: tuple[dict[str, Any], Usages, dict[str, Any]]) -> None:
    """Buckets from old to new that add up."""
    found = measured[2]
    series = found["metrics"]["series"]
    assert all(each.keys() == {"start", "requests", "failed", "p50", "p99"} for each in series)
    starts = [each["start"] for each in series]
    assert starts == sorted(set(starts))
    assert sum(each["requests"] for each in series) == 23
    assert series[-1]["start"] <= found["end"]


@sentence("metrics-8")
def test_no_traffic(fresh: Organization) -> None:
    """Zeros and nulls, no division by nothing."""
    made = fresh.caller.settled_deployment(model_uri="file:///not-here/a.onnx", region=REGION)
    metrics = fresh.caller.read(f"/metrics/{made['id']}")["metrics"]
    assert set(metrics["requests"].values()) == {0}
    assert metrics["errors"] == {"rate": 0, "by_code": {}}
    for each in metrics["latency"].values():
        assert {each[name] for name in QUANTILES} == {None}
    assert metrics["throughput"]["inputs"] == 0


@sentence("metrics-10")
def test_the_lag(measured: tuple[dict[str, Any], Usages, dict[str, Any]]) -> None:
    """Counted within 2 s of the answer."""
    assert measured[2]["lag_s"] <= LAG_S + SLACK_S


@sentence("metrics-12")
def test_a_public_deployment(caller: Caller, fresh: Organization) -> None:
    """Readable by everyone."""
    (name,) = caller.read("/models/digits")["deployments"]
    assert fresh.caller.read(f"/metrics/{name}")["deployment_id"] == name


@sentence("metrics-12")
def test_a_deleted_deployment(fresh: Organization) -> None:
    """Its numbers outlive it."""
    made = fresh.caller.settled_deployment(model_uri="file:///not-here/a.onnx", region=REGION)
    fresh.caller.delete(f"/deployments/{made['id']}")
    gone = f"/deployments/{made['id']}"
    until(lambda: fresh.caller.get(gone).status_code == 404, timeout_s=120, what="the deployment gone")
    assert fresh.caller.read(f"/metrics/{made['id']}")["deployment_id"] == made["id"]


@sentence("metrics-13")
def test_an_unknown_deployment(other: Organization, deployment: dict[str, Any]) -> None:
    """Or a foreign one."""
    for name in ("dep_01ARZ3NDEKTSV4RRFFQ69G5FAV", deployment["id"], "nonsense"):
        error_of(other.caller.get(f"/metrics/{name}"), 404, "deployment_not_found")
