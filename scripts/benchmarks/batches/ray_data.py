"""The textbook way to the same lines: `ray.data.read_json`, `map_batches` of a class with the model, `write_json`.

    python -m scripts.benchmarks.batches.ray_data MODEL INPUT FOLDER FIELD LABELS

is a driver with a Ray of its own, of all the machine's cores: on the platform's, replicas hold so much that the task
that reads, which wants a core, would never begin. It prints the seconds from `read_json` to the return of `write_json`,
as JSON; the start of Ray is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import ray

_ACTORS = 2
_ACTOR_CPUS = 0.5
"""As many workers as a job has by default, with the same share each."""


class Predictor:
    """A session in the constructor."""

    def __init__(self, model: str, field: str, labels: list[object]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._field = field
        self._labels = [str(label) for label in labels]

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """A column for each field of an answer."""
        rows = np.stack(batch[self._field]).astype(np.float32)
        label, probabilities = self._session.run(["label", "probabilities"], {self._input: rows})
        columns = {f"probability_{name}": probabilities[:, at] for at, name in enumerate(self._labels)}
        return {"id": batch["id"], "label": label, "score": probabilities.max(axis=1), **columns}


def main(model: str, source: str, folder: str, field: str, labels: list[object]) -> None:
    """Read, predict, write; see the module."""
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    began_at = time.monotonic()
    rows = ray.data.read_json(source, lines=True)
    answers = rows.map_batches(
        Predictor,
        fn_constructor_args=(model, field, labels),
        batch_size=1024,
        compute=ray.data.ActorPoolStrategy(size=_ACTORS),
        num_cpus=_ACTOR_CPUS,
    )
    answers.write_json(folder)
    print(json.dumps({"seconds": time.monotonic() - began_at}), flush=True)


if __name__ == "__main__":
    _model, _source, _folder, _field, _labels = sys.argv[1:]
    main(_model, _source, _folder, _field, json.loads(_labels))
