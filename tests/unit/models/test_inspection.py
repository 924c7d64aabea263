"""The inspecting child: what it learns of good models, and how bad ones end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import inspection, probe_process
from fyretoolkit.models.inspection import Inspector, inspect
from fyretoolkit.models.landlock import landlock_version
from fyretoolkit.settings import PROJECT_ROOT
from tests.support import onnx_graphs
from tests.support.model_packages import word_tokenizer, write_package
from tests.support.namespaces import are_namespaces_permitted
from tests.support.platform import until

GRAPH = onnx_graphs.echo("float32", ["N", 2])
TIMEOUT_S = 60.0


def failure(
    folder: Path, graph: bytes, manifest: str | None = None, timeout_s: float = TIMEOUT_S
) -> PlatformError:
    files = write_package(folder, graph, manifest)
    with pytest.raises(PlatformError) as caught:
        inspect(files, timeout_s)
    return caught.value


def replace_probe(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Children are ready as probes are, read their request, then run this."""
    ready = "import sys; print(flush=True); sys.stdin.read(); "
    monkeypatch.setattr(probe_process, "_COMMAND", ("-c", ready + code))


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
     b"\x08\x09", b"\x18\0\0\0ORTM" + GRAPH, b"PK\x03\x04" + bytes(50), b"\n<!DOCTYPE html>", b"\x80\x04K\x01."],
    ids=["empty", "words", "zeros", "random", "cut", "half", "no-graph", "ort-format", "zip", "page", "pickle"],
)  # fmt: skip
def test_what_is_not_onnx_is_refused_before_a_child_starts(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cheap to say, and nothing native reads it."""
    monkeypatch.setattr(inspection, "ProbeProcess", lambda: pytest.fail("a child was started"))
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
    assert time.monotonic() - before < 60


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
    replace_probe(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    error = failure(tmp_path, GRAPH)
    assert error.code == "invalid_onnx"
    assert "SIGSEGV" in error.message


def test_the_child_sees_nothing_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret from the environment, and an empty folder to stand in."""
    monkeypatch.setenv("FYRE_REDIS_URL", "redis://secret")
    show = "import json, os; sys.stderr.write(json.dumps([sorted(os.environ), os.listdir()]) + '\\n'); sys.exit(3)"
    replace_probe(monkeypatch, show)
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


def test_a_child_that_stands_by_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner may be killed at any time."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    probe = probe_process.ProbeProcess()
    try:
        assert list(tmp_path.iterdir()) == []
    finally:
        probe.end()


@pytest.mark.parametrize(
    "answer",
    ["[1]", "{}", "not JSON", "[" * 100_000, '{"missing": [], "spec": {"id": 1}}', '{"missing": [], "error": {}}',
     '{"missing": ["\\n lie"], "error": 7}', '{"missing": 1, "spec": {}}'],
    ids=["list", "nothing", "words", "deep", "spec", "error", "lie", "number"],
)  # fmt: skip
def test_what_a_taken_over_child_says_is_not_believed(
    tmp_path: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that runs code of its own in there can write what it likes, and gets an error."""
    replace_probe(monkeypatch, f"sys.stdout.write({answer!r})")
    assert failure(tmp_path, GRAPH).code == "invalid_onnx"


def test_fences_that_are_missing_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, however many models are inspected without them; what is no fence is not repeated."""
    answer = {"missing": ["landlock", "\n forged"], "error": {"code": "invalid_onnx", "message": "x"}}
    replace_probe(monkeypatch, f"sys.stdout.write({json.dumps(answer)!r})")
    inspection._note_missing.cache_clear()
    for _ in range(2):
        assert failure(tmp_path, GRAPH).message == "x"
    (record,) = caplog.records
    assert "landlock" in record.message
    assert "forged" not in record.message


def test_no_fence_is_missing_where_the_system_has_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model is loaded and run with all of them around it."""
    if landlock_version() == 0 or not are_namespaces_permitted():
        # Then the test above says what is told of it; there is nothing here that could be whole.
        pytest.skip("the kernel has no Landlock, or namespaces are not permitted here")
    inspection._note_missing.cache_clear()
    inspect(write_package(tmp_path, onnx_graphs.token_sum(), None, word_tokenizer()), TIMEOUT_S)
    assert caplog.records == []


def test_an_endless_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a bound, not when memory is full."""
    replace_probe(monkeypatch, "exec('while True: sys.stdout.write(65536 * chr(120))')")
    assert failure(tmp_path, GRAPH, timeout_s=2).code in {"load_timeout", "invalid_onnx"}


def test_a_child_that_does_not_start_is_not_the_models_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation is the platform's error."""
    monkeypatch.setattr(probe_process, "_COMMAND", ("-c", "import no_such_module"))
    assert failure(tmp_path, GRAPH).code == "internal_error"


def children() -> set[int]:
    """The processes that this one has, those that ended and were not looked after included."""
    return {child.pid for child in psutil.Process().children()}


def test_a_child_is_ready_ahead_and_used_once(tmp_path: Path) -> None:
    """Each inspection has the one that waited, and another waits after it; none is left at the end."""
    before = children()
    inspector = Inspector()
    inspector.make_ready()
    files = write_package(tmp_path, GRAPH)
    seen = []
    for _ in range(3):
        (waiting,) = children() - before
        seen.append(waiting)
        assert inspector.inspect(files, TIMEOUT_S).kind == "tensor"
        assert waiting not in children()
    assert len(set(seen)) == 3
    inspector.close()
    assert children() <= before
    inspector.make_ready()
    assert children() <= before, "closed is closed"


def test_what_waits_ends_with_its_owner(tmp_path: Path) -> None:
    """Nobody has to close it."""
    before = children()
    inspector = Inspector()
    inspector.make_ready()
    assert len(children() - before) == 1
    del inspector
    assert children() <= before


def test_a_waiting_child_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """The system took it when memory was short: the next inspection starts its own."""
    before = children()
    inspector = Inspector()
    inspector.make_ready()
    (waiting,) = children() - before
    psutil.Process(waiting).kill()
    until(lambda: psutil.Process(waiting).status() == psutil.STATUS_ZOMBIE, timeout_s=60, what="its end")
    assert inspector.inspect(write_package(tmp_path, GRAPH), TIMEOUT_S).kind == "tensor"
    inspector.close()
    assert children() <= before


@pytest.mark.parametrize("graph", [GRAPH, onnx_graphs.endless()], ids=["waiting", "busy"])
def test_children_die_with_their_owner(tmp_path: Path, graph: bytes) -> None:
    """`kill -9` of the controller: neither who waits nor who runs a stranger's loop stays."""
    write_package(tmp_path, graph)
    code = (
        "import sys, time; from pathlib import Path; from fyretoolkit.models.inspection import Inspector;"
        "from fyretoolkit.models.package import files_in; one = Inspector(); one.make_ready();"
        "print(flush=True); one.inspect(files_in(Path(sys.argv[1])), 1000); time.sleep(1000)"
    )
    environment = {"PYTHONPATH": str(PROJECT_ROOT / "platform")}
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    process = psutil.Process(owner.pid)

    def busy() -> psutil.Process | None:
        """The child once it is past its imports: it waits for a request, or has run for long."""
        for child in process.children():
            if sum(child.cpu_times()[:2]) > 2 or (
                graph == GRAPH and child.status() == psutil.STATUS_SLEEPING
            ):
                return child
        return None

    child = until(busy, timeout_s=60, what="a child")
    owner.kill()
    owner.wait()
    until(lambda: not child.is_running(), timeout_s=60, what="the child's end")
