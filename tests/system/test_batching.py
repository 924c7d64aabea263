"""Batching that earns its place, on the running platform."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.onnx_graphs import echo, minus_batch_mean
from tests.support.platform import deployed
from tests.support.sentences import sentence

pytestmark = pytest.mark.system


@sentence("deploy-33")
def test_a_model_whose_answers_depend_on_company_answers_every_row_as_if_alone(
    client: httpx.Client, tmp_path: Path
) -> None:
    """Found at its warm-up; rows of one request and of many at once get what one alone gets."""
    path = tmp_path / "company.onnx"
    path.write_bytes(minus_batch_mean(shape=["N", 1]))
    ready = deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1"})
    assert ready["status"] == "ready", ready["error"]
    batching = ready["batching"]
    assert (batching["max_batch_size"], batching["reason"]) == (1, "depends_on_company")
    assert batching["max_difference"] > 0.001
    assert batching["rows_per_s"]["1"] > 0

    def ask(number: int) -> dict[str, Any]:
        answer: dict[str, Any] = client.post(
            "/predict/company", json={"inputs": [number, -2 * number]}
        ).json()
        return answer

    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(ask, range(64)))
    assert [answer["results"] for answer in answers] == [[{"y": 0.0}, {"y": 0.0}]] * 64
    assert {answer["usage"]["batch_size"] for answer in answers} == {1}
    client.delete(f"/deployments/{ready['id']}")


@sentence("deploy-33")
def test_a_harmless_model_is_batched(client: httpx.Client, tmp_path: Path) -> None:
    """By what its replica measured."""
    path = tmp_path / "harmless.onnx"
    path.write_bytes(echo("float32", ["N", 3]))
    ready = deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1"})
    batching = ready["batching"]
    assert (batching["reason"], batching["max_difference"]) == ("measured", 0.0)
    assert batching["max_batch_size"] >= 8
    assert list(batching["rows_per_s"])[:2] == ["1", "2"]
    client.delete(f"/deployments/{ready['id']}")
