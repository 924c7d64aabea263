"""Real-time predictions through HAProxy, ingress and replica: the answers of the original models."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from fyretoolkit.settings import PROJECT_ROOT

pytestmark = pytest.mark.system

GOLDEN = PROJECT_ROOT / "tests" / "golden"


def golden(name: str) -> list[dict[str, Any]]:
    """The lines of a golden file."""
    return [json.loads(line) for line in (GOLDEN / f"{name}_golden.jsonl").read_text("utf-8").splitlines()]


def predict(client: httpx.Client, model: str, inputs: list[Any]) -> list[dict[str, Any]]:
    """The results of one call."""
    answer = client.post(f"/predict/{model}", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert len(results) == len(inputs)
    return results


def test_the_call_of_the_readme(client: httpx.Client) -> None:
    """Two sentences: one positive, one negative, and a request id."""
    answer = client.post(
        "/predict/sentiment-v1",
        json={"inputs": ["an utterly compelling film", "a complete waste of time"]},
    )
    assert [result["label"] for result in answer.json()["results"]] == ["positive", "negative"]
    assert len(answer.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sentiment_golden(client: httpx.Client, version: str) -> None:
    """100 glosses: labels equal, probabilities within 1e-5 of ONNX Runtime run one row at a time."""
    rows = golden("sentiment")
    results = predict(client, f"sentiment-{version}", [row["text"] for row in rows])
    for row, result in zip(rows, results, strict=True):
        expected = row[version]
        assert result["label"] == expected["label"]
        got = [result["probabilities"]["negative"], result["probabilities"]["positive"]]
        assert got == pytest.approx(expected["probabilities"], abs=1e-5)


def test_digits_golden(client: httpx.Client) -> None:
    """50 digits, as scikit-learn sees them."""
    rows = golden("digits")
    for row, result in zip(rows, predict(client, "digits", [row["pixels"] for row in rows]), strict=True):
        assert result["label"] == row["label"]
        assert probabilities(result) == pytest.approx(row["probabilities"], abs=1e-5)


def test_breast_cancer_golden(client: httpx.Client) -> None:
    """50 rows of 30 named features."""
    rows = golden("breast_cancer")
    results = predict(client, "breast-cancer", [row["features"] for row in rows])
    for row, result in zip(rows, results, strict=True):
        assert result["label"] == row["label"]
        assert probabilities(result) == pytest.approx(row["probabilities"], abs=1e-5)


def probabilities(result: dict[str, Any]) -> list[float]:
    """The probabilities of a result, in the order of the classes."""
    given = result["probabilities"]
    return list(given.values()) if isinstance(given, dict) else given


def test_a_bad_row_is_named(client: httpx.Client) -> None:
    """422 with index and path; the same call with on_error=continue answers its neighbour."""
    good = golden("breast_cancer")[0]["features"]
    bad = {**good, "mean_radius": "wide"}
    refused = client.post("/predict/breast-cancer", json={"inputs": [good, bad]})
    assert refused.status_code == 422
    assert "inputs[1].mean_radius" in refused.json()["error"]["message"]
    body = {"inputs": [good, bad], "options": {"on_error": "continue"}}
    first, second = client.post("/predict/breast-cancer", json=body).json()["results"]
    assert "label" in first
    assert second["error"]["code"] == "invalid_input"
