# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnxruntime>=1.31,<2", "scikit-learn==1.9.*", "skl2onnx==1.20.*"]
# ///
"""A scikit-learn pipeline as a package for FyreToolkit.

    uv run scripts/examples/scikit_learn_model.py /tmp/iris

Irises are told apart by four measurements, which callers send by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

# What the graph cannot say: which column is which measurement. The example is the platform's first inference.
MANIFEST = """\
id: iris
description: Iris species from four measurements in cm (scikit-learn, Fisher's data).
inputs:
  kind: features
  features: [sepal_length, sepal_width, petal_length, petal_width]
outputs:
  labels: [setosa, versicolor, virginica]
example: {sepal_length: 5.1, sepal_width: 3.5, petal_length: 1.4, petal_width: 0.2}
"""


def train() -> tuple[Pipeline, np.ndarray]:
    """The fitted pipeline, and rows that it was not fitted on."""
    flowers = load_iris()
    rows = flowers.data.astype(np.float32)  # as the graph computes, and as the platform sends them
    names = flowers.target_names[flowers.target]
    fit_rows, other_rows, fit_names, other_names = train_test_split(rows, names, random_state=0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(fit_rows, fit_names)
    print(f"accuracy {pipeline.score(other_rows, other_names):.3f} on {len(other_rows)} rows not trained on")
    return pipeline, other_rows


def write_package(folder: Path, pipeline: Pipeline, rows: np.ndarray) -> None:
    """model.onnx and model.yaml. `rows` shows the exporter the input's type; the number of rows stays open."""
    # zipmap: a plain array of probabilities instead of a dictionary a row.
    graph = to_onnx(pipeline, rows[:1], name="iris", options={"zipmap": False})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "model.yaml").write_text(MANIFEST, "utf-8")


def check(folder: Path, pipeline: Pipeline, rows: np.ndarray) -> None:
    """Asks the exported graph what scikit-learn was asked, and compares."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {session.get_inputs()[0].name: rows})
    np.testing.assert_array_equal(labels, pipeline.predict(rows))
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(rows), rtol=0, atol=1e-5)
    print(f"the graph answers {len(rows)} rows as scikit-learn does, to 0.00001")


def main() -> None:
    """Trains, exports, compares, and says how to go on."""
    folder = Path(sys.argv[1])
    pipeline, rows = train()
    write_package(folder, pipeline, rows)
    check(folder, pipeline, rows)
    print(f"Next:\n  fyre deploy {folder} --region us-east-1")
    print("""  fyre predict iris '{"sepal_length":5,"sepal_width":3,"petal_length":1,"petal_width":0.2}'""")


if __name__ == "__main__":
    main()
