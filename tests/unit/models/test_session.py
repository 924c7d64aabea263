"""ONNX Runtime's sessions: inputs bound to a device, by the same path on the CPU's memory, and threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import session as module
from fyretoolkit.models.session import Session, open_session
from tests.support import onnx_graphs


def bound(graph: bytes) -> Session:
    """A session whose inputs are brought to a device first, here the CPU."""
    return Session(onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]), ("cpu", 0))


@pytest.mark.parametrize("dtype", sorted(set(onnx_graphs.TYPES) - {"string"}))
def test_bound_inputs_give_what_plain_ones_give(dtype: str) -> None:
    """Half precision and booleans as well; a slice that is not contiguous too."""
    rows = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1]]).astype(dtype)
    outputs = bound(onnx_graphs.echo(dtype, ["N", 2])).run({"x": rows[1:, ::2]})
    assert outputs["y"].dtype == rows.dtype
    assert outputs["y"].tolist() == rows[1:, ::2].tolist()


def test_inputs_are_brought_to_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, before the run."""
    made: list[tuple[str, int]] = []
    real = onnxruntime.OrtValue.ortvalue_from_numpy

    def remembered(array: np.ndarray, device: str, device_id: int) -> object:
        made.append((device, device_id))
        return real(array)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", staticmethod(remembered))
    graph = onnx_graphs.echo_columns({"a": "float32", "b": "int64"})
    session = Session(onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]), ("cuda", 3))
    outputs = session.run({"a": np.array([1.5], np.float32), "b": np.array([2])})
    assert (outputs["a_out"].tolist(), outputs["b_out"].tolist()) == ([1.5], [2])
    assert made == [("cuda", 3), ("cuda", 3)]


def test_texts_are_not_bound() -> None:
    """They have no form on a device, and ONNX Runtime refuses to make one."""
    texts = np.array(["a", "ü"], object)
    assert bound(onnx_graphs.echo("string", ["N"])).run({"x": texts})["y"].tolist() == ["a", "ü"]


def test_class_maps_are_read_from_a_bound_run() -> None:
    """Outputs that are no tensors."""
    session = bound(onnx_graphs.zip_map())
    outputs = session.run({"x": np.array([[0.25, 0.75]], np.float32)})
    assert outputs["output_probability"].tolist() == [[0.75, 0.25]]
    assert session.class_names["output_probability"] == ["a", "b"]


def test_a_row_that_fails_is_told_alike() -> None:
    """Bound or not."""
    graph = onnx_graphs.lookup()
    plain = Session(onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]))
    messages = []
    for session in (plain, bound(graph)):
        with pytest.raises(PlatformError) as caught:
            session.run({"index": np.array([99])})
        assert caught.value.code == "row_failed"
        messages.append(caught.value.message)
    assert messages[0] == messages[1]
    assert "out of data bounds" in messages[0]


def test_a_gpu_is_asked_for_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider gets the device, and the session binds to it. The runtime is a stand-in: no GPU is here."""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_graphs.echo("float32", ["N"]))
    asked: list[object] = []

    class Inner(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: object, providers: list[object]) -> None:
            asked.extend(providers)
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    monkeypatch.setattr(module, "_require_cuda", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Inner)
    session = open_session(path, num_gpus=0.5, device_id=2)
    assert asked == [("CUDAExecutionProvider", {"device_id": 2}), "CPUExecutionProvider"]
    assert session._bound_to == ("cuda", 2)


def test_threads_are_those_of_one_inference(tmp_path: Path) -> None:
    """As asked for, whatever the machine has."""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_graphs.echo("float32", ["N"]))
    options = open_session(path, threads=3)._inner.get_session_options()
    assert options.intra_op_num_threads == 3
