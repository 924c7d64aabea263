"""The demo models answer as the models they were exported from: files of answers by scikit-learn are the oracle."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.models.inspection import inspect
from fyretoolkit.models.package import files_in
from fyretoolkit.models.runner import ModelRunner, Prediction

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("sentiment-v1", "sentiment-v2", "digits", "breast-cancer")


@lru_cache(maxsize=len(NAMES))
def runner(name: str) -> ModelRunner:
    files = files_in(ROOT / "configs" / "demo_models" / name)
    return ModelRunner.load(files, inspect(files, 60))


def golden(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / "tests" / "golden" / f"{name}_golden.jsonl").open()]


def answers(name: str, items: list[Any]) -> list[dict[str, Any]]:
    outcomes = runner(name).predict(items)
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    return [dict(outcome.result) for outcome in outcomes if isinstance(outcome, Prediction)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sentiment(version: str) -> None:
    """100 glosses, together and one at a time."""
    rows = golden("sentiment")
    results = answers(f"sentiment-{version}", [row["text"] for row in rows])
    for row, result in zip(rows, results, strict=True):
        assert result["label"] == row[version]["label"]
        assert list(result["probabilities"].values()) == pytest.approx(
            row[version]["probabilities"], abs=1e-5
        )
    assert [answers(f"sentiment-{version}", [row["text"]])[0]["label"] for row in rows] == [
        result["label"] for result in results
    ]


def test_the_two_sentiment_models_differ() -> None:
    """v2 knows pairs of words: what canaries and rollbacks are shown with."""
    assert answers("sentiment-v1", ["not good"])[0]["label"] == "positive"
    assert answers("sentiment-v2", ["not good"])[0]["label"] == "negative"


def test_digits() -> None:
    """Labels are numbers, as the model's own."""
    rows = golden("digits")
    for row, result in zip(rows, answers("digits", [row["pixels"] for row in rows]), strict=True):
        assert result["label"] == row["label"]
        assert list(result["probabilities"].values()) == pytest.approx(row["probabilities"], abs=1e-5)
        assert list(result["probabilities"]) == [str(digit) for digit in range(10)]


def test_breast_cancer() -> None:
    """Named features, in an order of the caller's."""
    rows = golden("breast_cancer")
    items = [dict(reversed(row["features"].items())) for row in rows]
    for row, result in zip(rows, answers("breast-cancer", items), strict=True):
        assert result["label"] == row["label"]
        assert list(result["probabilities"].values()) == pytest.approx(row["probabilities"], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is_and_shows_an_example(name: str) -> None:
    """What the playground and the README print."""
    spec = runner(name).spec
    assert spec.id == name
    assert len(spec.description) > 40
    assert spec.outputs.labels
    assert answers(name, runner(name).example_items())
