"""The model and the contract of every peer: `{"inputs": [...]}` → `{"results": [{"label", "probabilities"}, ...]}`.

Imported by the peers alone, in environments that hold their server, ONNX Runtime and numpy. BENCH_MODEL is the graph's
path, BENCH_DTYPE the type of its one input.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime

DTYPE = os.environ["BENCH_DTYPE"]
ITEM: Any = {"string": str, "float32": list[float], "int64": list[int]}[DTYPE]
"""What one element of `inputs` is."""


class ServedModel:
    """The graph on one thread, as a person who follows ONNX Runtime's tutorial would run it."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["BENCH_MODEL"]
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def predict(self, items: list[Any]) -> list[dict[str, Any]]:
        """A result for each item."""
        rows = np.asarray(items, dtype=object if DTYPE == "string" else DTYPE)
        if DTYPE == "string":
            rows = rows.reshape(-1, 1)
        labels, probabilities = self._session.run(["label", "probabilities"], {self._input: rows})
        return [
            {"label": label, "probabilities": row}
            for label, row in zip(labels.tolist(), probabilities.tolist(), strict=True)
        ]

    def predict_together(self, requests: list[list[Any]]) -> list[list[dict[str, Any]]]:
        """The results of several requests, in one inference."""
        results = iter(self.predict([item for items in requests for item in items]))
        return [[next(results) for _ in items] for items in requests]
