"""The inspecting child: what it learns of good models, and how bad ones end."""

from __future__ import annotations

import random
import time
from pathlib import Path

import psutil
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import inspection
from fyretoolkit.models.inspection import inspect
from tests.support import onnx_graphs
from tests.support.model_packages import word_tokenizer, write_package

GRAPH = onnx_graphs.echo("float32", ["N", 2])
TIMEOUT_S = 60.0


def failure(
    folder: Path, graph: bytes, manifest: str | None = None, timeout_s: float = TIMEOUT_S
) -> PlatformError:
    files = write_package(folder, graph, manifest)
    with pytest.raises(PlatformError) as caught:
        inspect(files, timeout_s)
    return caught.value


def test_a_bare_model_gets_its_signature_and_defaults(tmp_path: Path) -> None:
    """Read from the graph alone."""
    spec = inspect(write_package(tmp_path, GRAPH), TIMEOUT_S)
    assert spec.kind == "tensor"
    assert spec.signature.inputs[0].shape == (None, 2)
    assert spec.max_batch_size == 64


def test_zip_map_classes_become_the_labels(tmp_path: Path) -> None:
    """skl2onnx's default export; the runtime sorts the classes."""
    spec = inspect(write_package(tmp_path, onnx_graphs.zip_map()), TIMEOUT_S)
    assert spec.outputs.labels == ("a", "b")


def test_a_graph_that_takes_one_row_is_not_batched(tmp_path: Path) -> None:
    """Its open batch axis promised more."""
    assert inspect(write_package(tmp_path, onnx_graphs.one_row_only()), TIMEOUT_S).max_batch_size == 1


@pytest.mark.parametrize(("manifest", "size"), [(None, 1), ("max_batch_size: 16", 16)])
def test_a_graph_whose_answers_depend_on_company_is_not_batched(
    tmp_path: Path, manifest: str | None, size: int
) -> None:
    """Nor by a batch job, which knows only the spec; unless its owner says so."""
    spec = inspect(write_package(tmp_path, onnx_graphs.minus_batch_mean(), manifest), TIMEOUT_S)
    assert (spec.max_batch_size, spec.is_batch_size_chosen) == (size, manifest is not None)


def test_a_size_that_the_graph_cannot_take_is_not_its_owners_choice(tmp_path: Path) -> None:
    """One row, though the manifest says 16: a replica will say why."""
    spec = inspect(write_package(tmp_path, onnx_graphs.one_row_only(), "max_batch_size: 16"), TIMEOUT_S)
    assert (spec.max_batch_size, spec.is_batch_size_chosen) == (1, False)


def test_a_tokenizer_is_part_of_the_first_inference(tmp_path: Path) -> None:
    """A text goes in."""
    spec = inspect(write_package(tmp_path, onnx_graphs.token_sum(), None, word_tokenizer()), TIMEOUT_S)
    assert spec.kind == "text"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world", b"\0" * 100, random.Random(1).randbytes(4096), GRAPH[:-7], GRAPH[: len(GRAPH) // 2],
     b"\x08\x09", b"\x18\0\0\0ORTM" + GRAPH, b"PK\x03\x04" + bytes(50)],
    ids=["empty", "words", "zeros", "random", "cut", "half", "no-graph", "ort-format", "zip"],
)  # fmt: skip
def test_what_is_not_onnx_is_refused_before_a_child_starts(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cheap to say, and nothing native reads it."""
    monkeypatch.setattr(inspection, "_run_child", lambda *_, **__: pytest.fail("a child was started"))
    assert failure(tmp_path, content).code == "invalid_onnx"


def test_a_file_that_only_looks_like_onnx_is_invalid(tmp_path: Path) -> None:
    """A well-formed message with a broken graph inside."""
    graph = bytearray(GRAPH)
    position = graph.index(b"Identity")
    graph[position - 1] = 200
    assert failure(tmp_path, bytes(graph)).code == "invalid_onnx"


@pytest.mark.parametrize(
    ("operator", "domain"), [("NoSuchOperator", ""), ("Magic", "com.example"), ("Nope", "com.microsoft")]
)
def test_an_unknown_operator_is_named(tmp_path: Path, operator: str, domain: str) -> None:
    """Whatever its domain."""
    error = failure(tmp_path, onnx_graphs.unknown_operator(operator, domain))
    assert error.code == "unsupported_operator"
    assert operator in error.message


def test_a_model_without_end_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """Neither the load nor the run can be asked to stop."""
    before = time.monotonic()
    assert failure(tmp_path, onnx_graphs.endless(), timeout_s=4).code == "load_timeout"
    assert time.monotonic() - before < 8


def test_a_model_that_eats_memory_fails_alone(tmp_path: Path) -> None:
    """2^44 floats: an error in the child, nothing in this process."""
    assert failure(tmp_path, onnx_graphs.hungry()).code in {
        "warmup_failed",
        "invalid_onnx",
        "artifact_too_large",
    }


def test_a_first_inference_that_fails_is_a_failed_warm_up(tmp_path: Path) -> None:
    """The example is in the signature's range, but not in the table's."""
    error = failure(tmp_path, onnx_graphs.lookup(), "example: 99")
    assert error.code == "warmup_failed"
    assert str(tmp_path) not in error.message


def test_an_example_that_does_not_fit_is_the_manifests_fault(tmp_path: Path) -> None:
    """With the path into it."""
    error = failure(tmp_path, GRAPH, "example: [1, null]")
    assert error.code == "invalid_manifest"
    assert "example[1]" in error.message


def test_a_manifest_that_disagrees_is_a_mismatch(tmp_path: Path) -> None:
    """Codes cross the process border."""
    assert failure(tmp_path, GRAPH, "inputs: {kind: text}").code == "signature_mismatch"


def test_a_child_that_crashes_is_an_invalid_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segmentation fault in the loader is an answer, not an accident."""
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(inspection, "_COMMAND", ("-c", crash))
    error = failure(tmp_path, GRAPH)
    assert error.code == "invalid_onnx"
    assert "SIGSEGV" in error.message


def test_the_child_sees_nothing_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret from the environment, and an empty folder to stand in."""
    monkeypatch.setenv("FYRE_REDIS_URL", "redis://secret")
    show = "import json, os, sys; sys.stderr.write(json.dumps([sorted(os.environ), os.listdir()]) + '\\n'); sys.exit(3)"
    monkeypatch.setattr(inspection, "_COMMAND", ("-c", show))
    message = failure(tmp_path, GRAPH).message
    assert "FYRE" not in message
    assert "[]]" in message


def test_no_child_and_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After success and after a deadline."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = {child.pid for child in psutil.Process().children()}
    inspect(write_package(tmp_path / "a", GRAPH), TIMEOUT_S)
    failure(tmp_path / "b", onnx_graphs.endless(), timeout_s=1)
    assert list(scratch.iterdir()) == []
    assert {child.pid for child in psutil.Process().children()} <= before
