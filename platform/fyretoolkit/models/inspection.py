"""The first look inside a model: in a child process that may crash, hang or eat memory without harm to anyone.

Loading an ONNX file runs a large C++ parser and optimizer over a stranger's bytes; a 2 kB file can keep it busy for
ever, and a session cannot be told to stop. So a child with bounded CPU, memory and file size, an empty environment and
an empty working folder loads the model, resolves its spec and runs one example; only JSON comes back. In-process
loading with a timeout was rejected: a thread cannot be killed. Source: docs/SAFETY, findings F1 and F10.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import fyretoolkit
from fyretoolkit.core.errors import CATALOGUE, PlatformError
from fyretoolkit.models.manifest import read_manifest
from fyretoolkit.models.onnx_file import check_onnx_file
from fyretoolkit.models.package import PackageFiles
from fyretoolkit.models.spec import ModelSpec

BASE_MEMORY_BYTES = 4 << 30
"""Address space of the child beside what the model's own size asks for; ONNX Runtime alone maps about 0.4 GiB."""
_MEMORY_PER_MODEL_BYTE = 4
_COMMAND = ("-m", "fyretoolkit.models.inspection")
_MAX_RESULT_BYTES = 8 << 20
_SHOWN_STDERR = 300


class Interrupt:
    """Ends an inspection from another thread: its child is killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_set = False

    def set(self) -> None:
        """End it now, or as soon as it begins."""
        with self._lock:
            self._is_set = True
            if self._child is not None:
                _kill(self._child)

    def watch(self, child: subprocess.Popen[bytes]) -> None:
        """From now on `set` means this child."""
        with self._lock:
            self._child = child
            if self._is_set:
                _kill(child)


def inspect(files: PackageFiles, timeout_s: float, interrupt: Interrupt | None = None) -> ModelSpec:
    """The spec of a package whose model loads and answers its own example. Blocks for at most about `timeout_s`.

    Interrupted, it ends at once with an error that means nothing.

    Raises:
        PlatformError: `invalid_onnx`, `unsupported_operator`, `signature_mismatch`, `invalid_manifest`,
            `invalid_package`, `load_timeout` or `warmup_failed`.
    """
    check_onnx_file(files.onnx)
    request = {
        "onnx": str(files.onnx.resolve()),
        "manifest": str(files.manifest_path.resolve()) if files.manifest_path else None,
        "tokenizer": str(files.tokenizer.resolve()) if files.tokenizer else None,
        "cpu_s": math.ceil(timeout_s) + 1,
        "memory_bytes": BASE_MEMORY_BYTES + _MEMORY_PER_MODEL_BYTE * files.onnx.stat().st_size,
    }
    with (
        tempfile.TemporaryDirectory(prefix="fyre-inspect-") as folder,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        status = _run_child(request, folder, output, errors, timeout_s, interrupt or Interrupt())
        return _read_answer(status, output, errors, timeout_s)


def _run_child(
    request: Mapping[str, object],
    folder: str,
    output: IO[bytes],
    errors: IO[bytes],
    timeout_s: float,
    interrupt: Interrupt,
) -> int | None:
    """The child's exit status; None if it was killed at the deadline."""
    child = subprocess.Popen(
        [sys.executable, *_COMMAND],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=errors,
        cwd=folder,
        env=_child_environment(folder),
        start_new_session=True,
    )
    interrupt.watch(child)
    try:
        child.communicate(json.dumps(request).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(child)
        child.wait()
    return child.returncode


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The child and what it may have started, unless it has ended."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _child_environment(folder: str) -> dict[str, str]:
    """What Python needs to find our package; no secret, no proxy, no home of ours."""
    package_root = Path(fyretoolkit.__file__).parents[1]
    return {
        "PYTHONPATH": str(package_root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "HOME": folder,
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "ORT_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _read_answer(status: int | None, output: IO[bytes], errors: IO[bytes], timeout_s: float) -> ModelSpec:
    if status in (None, -signal.SIGXCPU):
        raise PlatformError(
            "load_timeout",
            f"The model did not load and answer once within {timeout_s:g} s. Use a smaller model.",
        )
    output.seek(0)
    content = output.read(_MAX_RESULT_BYTES)
    if status != 0 or not content:
        raise PlatformError("invalid_onnx", _how_it_ended(status or 0, errors))
    answer: dict[str, Any] = json.loads(content)
    if "spec" in answer:
        return ModelSpec.from_json(answer["spec"])
    code = answer["error"]["code"]
    raise PlatformError(code if code in CATALOGUE else "invalid_onnx", answer["error"]["message"])


def _how_it_ended(status: int, errors: IO[bytes]) -> str:
    if status < 0:
        return f"The model crashed the loader ({signal.Signals(-status).name}). Export it again, or make it smaller."
    errors.seek(0)
    lines = errors.read(_MAX_RESULT_BYTES).decode("utf-8", "replace").strip().splitlines()
    return f"The loader ended without an answer: {lines[-1][:_SHOWN_STDERR] if lines else f'status {status}'}"


def _main() -> None:
    """The child: a request on stdin, one JSON answer on what was stdout."""
    request = json.load(sys.stdin)
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native code prints must not mix with the answer
    _bound_this_process(request["cpu_s"], request["memory_bytes"])
    try:
        answer: dict[str, object] = {"spec": _inspect_here(request).to_json()}
    except PlatformError as error:
        answer = {"error": {"code": error.code, "message": error.message}}
    except MemoryError:
        message = "The model needs more memory to load than is allowed. Use a smaller model."
        answer = {"error": {"code": "artifact_too_large", "message": message}}
    json.dump(answer, answer_to)
    answer_to.flush()


def _bound_this_process(cpu_s: int, memory_bytes: int) -> None:
    for what, value in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, _MAX_RESULT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (bound, bound))


def _inspect_here(request: dict[str, Any]) -> ModelSpec:
    from fyretoolkit.models.runner import read_tokenizer
    from fyretoolkit.models.session import open_session
    from fyretoolkit.models.spec import resolve
    from fyretoolkit.models.warmup import settle

    manifest = read_manifest(Path(request["manifest"])) if request["manifest"] else None
    tokenizer = read_tokenizer(Path(request["tokenizer"]) if request["tokenizer"] else None)
    session = open_session(Path(request["onnx"]))
    spec = resolve(manifest, session.signature, has_tokenizer=tokenizer is not None)
    return settle(session, spec, tokenizer)


if __name__ == "__main__":
    _main()
