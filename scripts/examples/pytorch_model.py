# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnxruntime>=1.31,<2", "onnxscript==0.7.*", "torch==2.13.*"]
# ///
"""A PyTorch network as a package for FyreToolkit.

    uv run scripts/examples/pytorch_model.py /tmp/next-hour

The next hour of a daily curve from the last 24, which callers send as a list. `uv run` brings a PyTorch; to use one
that is installed, run it with `python`, with onnxscript and onnxruntime beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

# Nothing is said of the output, so a result is {"forecast": 2.1}, under the graph's own name.
MANIFEST = """\
id: next-hour
description: The next hour of a daily curve from the last 24 hours (PyTorch).
inputs:
  kind: tensor
  name: hours
example: [2, 1, 1, 0, 0, 1, 2, 4, 6, 8, 9, 10, 10, 10, 9, 8, 8, 9, 9, 8, 6, 5, 4, 3]
"""


def curves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Days with a peak somewhere, some noise: `(count, 24)` hours and `(count, 1)` the one after them."""
    random = np.random.default_rng(0)
    hour, start = np.arange(25), random.uniform(0, 24, (count, 1))
    height = random.uniform(2, 6, (count, 1))
    values = height * (1 + np.sin((hour + start) * 2 * np.pi / 24)) + random.normal(0, 0.1, (count, 25))
    return values[:, :24].astype(np.float32), values[:, 24:].astype(np.float32)


def train_and_export(hours: np.ndarray, following: np.ndarray, path: Path) -> np.ndarray:
    """Trains for a second; writes the graph, its number of rows open; gives PyTorch's own answers to `hours`."""
    import torch  # not above: the tests read the rest of this file where there is no PyTorch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(24, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    inputs, targets = torch.from_numpy(hours), torch.from_numpy(following)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(inputs), targets).backward()
        optimizer.step()
    network.eval()  # else dropout and batch normalization go on as in training
    torch.onnx.export(
        network, (inputs[:2],), path, dynamo=True, input_names=["hours"], output_names=["forecast"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        external_data=False,  # else the weights are a second file, which the platform does not read
    )  # fmt: skip
    answers: np.ndarray = network(inputs).detach().numpy()
    return answers


def check(path: Path, hours: np.ndarray, expected: np.ndarray) -> None:
    """Asks the exported graph what PyTorch was asked, and compares."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["forecast"], {"hours": hours})[0], expected, rtol=0, atol=1e-4)
    print(f"the graph answers {len(hours)} rows as PyTorch does, to 0.0001")


def main() -> None:
    """Trains, exports, compares, and says how to go on."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    hours, following = curves(500)
    expected = train_and_export(hours, following, folder / "model.onnx")
    check(folder / "model.onnx", hours, expected)
    (folder / "model.yaml").write_text(MANIFEST, "utf-8")
    print(f"Next:\n  fyre deploy {folder} --region us-east-1")
    print("  fyre predict next-hour '[2,1,1,0,0,1,2,4,6,8,9,10,10,10,9,8,8,9,9,8,6,5,4,3]'")


if __name__ == "__main__":
    main()
