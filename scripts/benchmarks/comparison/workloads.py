"""The three models that systems are compared by, what is sent to them, and what ONNX Runtime alone answers.

A workload is a model package, the bodies that clients send in turn, and the right answer to each, computed row by row.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.comparison.transformer import token_rows, transformer

TOLERANCE = 1e-6
"""Of a probability."""

_GOLDEN = PROJECT_ROOT / "tests" / "golden"
_DEMO_MODELS = PROJECT_ROOT / "configs" / "demo_models"
_SENTENCES_A_REQUEST = 16
_TRANSFORMER_YAML = """\
id: transformer
description: Random weights in the shape of a small sentence encoder.
inputs:
  kind: tensor
  name: input_ids
outputs:
  label: label
  probabilities: probabilities
"""


class WrongAnswerError(Exception):
    """A system answered otherwise than ONNX Runtime does."""


@dataclass(frozen=True)
class Workload:
    """One model under one kind of request."""

    name: str
    package: Path
    dtype: str  # of the graph's one input
    requests: Sequence[Sequence[Any]]
    stretch: float = 1.0
    """A measurement takes so many times the usual: slow models answer in bursts."""
    max_connections: int = 1 << 16
    """More would wait longer than a measurement takes."""

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.package / "model.onnx"

    @property
    def rows(self) -> int:
        """In each request."""
        return len(self.requests[0])

    @property
    def bodies(self) -> list[bytes]:
        """Of the requests."""
        return [json.dumps({"inputs": items}).encode() for items in self.requests]

    def array(self, items: Sequence[Any]) -> np.ndarray:
        """Items as the graph takes them."""
        if self.dtype == "string":
            return np.asarray(items, dtype=object).reshape(-1, 1)
        return np.asarray(items, dtype=self.dtype)

    def open_session(self) -> onnxruntime.InferenceSession:
        """The graph on one thread of the CPU."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self.graph), options, providers=["CPUExecutionProvider"])


class Reference:
    """The right answers: each row run alone."""

    def __init__(self, workload: Workload) -> None:
        session = workload.open_session()
        name = session.get_inputs()[0].name
        self._answers = []
        for items in workload.requests:
            rows = [session.run(["label", "probabilities"], {name: workload.array([item])}) for item in items]
            labels = [label.tolist()[0] for label, _ in rows]
            self._answers.append((labels, np.concatenate([row for _, row in rows])))

    def check(self, number: int, content: bytes) -> None:
        """Compare an answer to request `number` of the workload; probabilities may stand by class name.

        Raises:
            WrongAnswerError: labels differ, or probabilities by more than `TOLERANCE`.
        """
        labels, probabilities = self._answers[number]
        try:
            results = json.loads(content)["results"]
            found = [result["label"] for result in results]
            rows = [_row(result["probabilities"]) for result in results]
        except (ValueError, KeyError, TypeError) as error:
            raise WrongAnswerError(f"no results in {content[:200]!r}") from error
        if found != labels:
            raise WrongAnswerError(f"request {number}: labels {found}, not {labels}")
        gap = float(np.abs(np.array(rows) - probabilities).max())
        if not gap <= TOLERANCE:
            raise WrongAnswerError(f"request {number}: a probability is {gap:.2g} off")


def _row(probabilities: dict[str, float] | list[float]) -> list[float]:
    return list(probabilities.values()) if isinstance(probabilities, dict) else probabilities


def _digits(_folder: Path) -> Workload:
    """One picture a request: what is measured is everything around the model."""
    lines = (_GOLDEN / "digits_golden.jsonl").read_text("utf-8").splitlines()
    requests = [[json.loads(line)["pixels"]] for line in lines]
    return Workload("digits", _DEMO_MODELS / "digits", "float32", requests)


def _sentiment(_folder: Path) -> Workload:
    """16 sentences a request, from WordNet's glosses: the model costs most."""
    with gzip.open(_GOLDEN / "wordnet_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    count = len(texts) // _SENTENCES_A_REQUEST
    requests = [texts[number::count][:_SENTENCES_A_REQUEST] for number in range(count)]
    return Workload("sentiment-v1", _DEMO_MODELS / "sentiment-v1", "string", requests, stretch=1.5)


def _transformer(folder: Path) -> Workload:
    """One text of 128 tokens a request: the model is all."""
    package = folder / "transformer"
    package.mkdir()
    (package / "model.onnx").write_bytes(transformer())
    (package / "model.yaml").write_text(_TRANSFORMER_YAML, "utf-8")
    requests = [[row] for row in token_rows(32)]
    return Workload("transformer", package, "int64", requests, stretch=4.0, max_connections=64)


WORKLOADS: dict[str, Callable[[Path], Workload]] = {
    "digits": _digits,
    "sentiment-v1": _sentiment,
    "transformer": _transformer,
}
"""Each makes its workload, with files of its own in the folder it is given."""
