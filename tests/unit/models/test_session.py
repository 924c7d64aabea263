"""ONNX Runtime's sessions: inputs bound to a device, by the same path on the CPU's memory, and threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import cuda, provider_double
from fyretoolkit.models.session import Cuda, Placement, Session, open_session
from tests.support import onnx_graphs

GIB = 1 << 30


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


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's double in its place."""
    monkeypatch.setenv(provider_double.SWITCH, cuda.PROVIDER)
    monkeypatch.delenv("FYRE_MODE", raising=False)


def saved(folder: Path, graph: bytes) -> Path:
    """The graph as a file."""
    path = folder / "m.onnx"
    path.write_bytes(graph)
    return path


@pytest.mark.usefixtures("doubled")
@pytest.mark.parametrize(
    ("num_gpus", "limit_bytes"),
    [(0.5, 7.5 * GIB), (0.25, 3.5 * GIB), (0.03125, GIB / 4), (1.0, None), (2.0, None)],
)
def test_a_session_stays_within_its_share_of_a_gpu(
    num_gpus: float, limit_bytes: float | None, tmp_path: Path
) -> None:
    """16 GiB: the share less 512 MiB beside the arena, at least half of it; who has it whole has no limit."""
    path = saved(tmp_path, onnx_graphs.half_scores())
    session = open_session(path, num_gpus=num_gpus, device_id=2)
    assert session._inner.get_providers() == [cuda.PROVIDER, "CPUExecutionProvider"]
    asked = session._inner.get_provider_options()[cuda.PROVIDER]
    assert asked.pop("gpu_mem_limit", None) == (None if limit_bytes is None else str(int(limit_bytes)))
    assert asked == {
        "device_id": "2",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }
    assert session.placement == Placement(cuda.PROVIDER, 2, limit_bytes, {cuda.PROVIDER: 1})
    halves = np.array([[1.5, 0.25]], np.float16)
    assert session.run({"x": halves})["y"].tolist() == [[3.0, 1.75]]


@pytest.mark.usefixtures("doubled")
def test_a_memory_that_nobody_knows_has_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is another one's, or does not say."""
    monkeypatch.setattr(provider_double.CudaDouble, "total_bytes", lambda *_: None)
    session = open_session(saved(tmp_path, onnx_graphs.half_scores()), num_gpus=0.5)
    assert session.placement.limit_bytes is None
    assert str(session.placement) == f"{cuda.PROVIDER}, device 0; operators: 1 on {cuda.PROVIDER}"


def test_without_a_gpu_in_the_order_the_double_is_not_asked(tmp_path: Path, doubled: None) -> None:
    """The switch changes nothing for a model of the CPU."""
    placement = open_session(saved(tmp_path, onnx_graphs.half_scores())).placement
    assert (placement, str(placement)) == (Placement(), "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"FYRE_TEST_PROVIDERS": ""}, False),
        ({"FYRE_TEST_PROVIDERS": "CUDAExecutionProvider"}, True),
        ({"FYRE_TEST_PROVIDERS": "CUDAExecutionProvider", "FYRE_MODE": "development"}, True),
        ({"FYRE_TEST_PROVIDERS": "CUDAExecutionProvider", "FYRE_MODE": "production"}, False),
    ],
)
def test_production_has_no_double(environ: dict[str, str], is_on: bool) -> None:
    """Such a platform does not start; a process that meets the switch all the same uses the GPU or fails."""
    assert provider_double.is_on(environ) is is_on


def test_nothing_runs_a_model_again_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's Python part would do so, at the opening and after a failed run."""
    asked: list[dict[str, object]] = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *_, **given: asked.append(given) or real(*_, **given)
    )
    opened = Cuda().open(saved(tmp_path, onnx_graphs.half_scores()), None, ["CPUExecutionProvider"])
    assert [each["enable_fallback"] for each in asked] == [0]
    assert opened._enable_fallback is False


@pytest.mark.usefixtures("doubled")
def test_a_model_that_cuda_would_not_touch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it would run on the CPU, beside a GPU that is held and idle."""
    real = onnxruntime.InferenceSession.get_provider_graph_assignment_info
    monkeypatch.setattr(provider_double.DoubledSession, "get_provider_graph_assignment_info", real)
    with pytest.raises(PlatformError, match="CUDA knows none of the model's operators") as caught:
        open_session(saved(tmp_path, onnx_graphs.half_scores()), num_gpus=1)
    assert caught.value.code == "gpu_unavailable"


@pytest.mark.usefixtures("doubled")
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1", "gpu_unavailable"),
        ("CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED", "gpu_unavailable"),
        ("CUDA failure 2: out of memory ; GPU=0", "artifact_too_large"),
        ("Available memory of 512 is smaller than requested bytes of 4096", "artifact_too_large"),
        ("NOT_IMPLEMENTED : Could not find an implementation for Odd(1) in CUDA", "unsupported_operator"),
        ("Protobuf parsing failed", "invalid_onnx"),
    ],
)
def test_what_keeps_a_model_from_a_gpu_has_a_code(
    said: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU, the share of its memory, or the model."""

    def refuse(*_: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(provider_double.CudaDouble, "open", refuse)
    with pytest.raises(PlatformError) as caught:
        open_session(saved(tmp_path, b""), num_gpus=0.5)
    assert caught.value.code == code


_LOSES_ITS_GPU = """
import sys, numpy
from fyretoolkit.models import provider_double
from fyretoolkit.models.session import open_session

def fail(*_):
    raise RuntimeError(sys.argv[2])

provider_double.DoubledSession.run_with_iobinding = fail
session = open_session(__import__("pathlib").Path(sys.argv[1]), num_gpus=0.5)
try:
    session.run({"x": numpy.zeros((1, 2), numpy.float16)})
except Exception as error:
    print(error.code)
"""


@pytest.mark.parametrize(
    ("said", "code", "printed"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", 1, ""),
        ("CUDA failure 2: out of memory ; GPU=0", 0, "row_failed\n"),
        ("Non-zero status code returned while running Conv node.", 0, "row_failed\n"),
    ],
)
def test_a_process_ends_with_its_gpu(said: str, code: int, printed: str, tmp_path: Path) -> None:
    """After some failures CUDA answers every call of the process with the same: another one takes its place."""
    path = saved(tmp_path, onnx_graphs.half_scores())
    environ = {**os.environ, provider_double.SWITCH: cuda.PROVIDER, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _LOSES_ITS_GPU, str(path), said],
        env=environ, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, printed), done.stderr


def test_threads_are_those_of_one_inference(tmp_path: Path) -> None:
    """As asked for, whatever the machine has."""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_graphs.echo("float32", ["N"]))
    options = open_session(path, threads=3)._inner.get_session_options()
    assert options.intra_op_num_threads == 3
