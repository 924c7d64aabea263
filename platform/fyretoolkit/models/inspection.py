"""The first look inside a model: in a child process that may crash, hang or eat memory without harm to anyone.

Loading an ONNX file runs a large C++ parser and optimizer over a stranger's bytes; a 2 kB file can keep it busy for
ever, and a session cannot be told to stop. So a probe in a sandbox (`probe.py`, `sandbox.py`) scans the bytes, loads
the model, resolves its spec and runs one example; only JSON comes back, and is believed to be nothing more. In-process
loading with a timeout was rejected: a thread cannot be killed. Source: docs/SAFETY, findings F1, F10 and F12.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import threading
import weakref
from functools import lru_cache
from typing import Any

from fyretoolkit.core.errors import CATALOGUE, PlatformError
from fyretoolkit.models.onnx_file import check_onnx_file
from fyretoolkit.models.package import PackageFiles
from fyretoolkit.models.probe_process import Outcome, ProbeProcess, kill
from fyretoolkit.models.sandbox import Fence
from fyretoolkit.models.spec import ModelSpec

logger = logging.getLogger(__name__)

BASE_MEMORY_BYTES = 768 << 20
"""What a probe may map beside what it has at its start, and what the model's own size asks for."""
_MEMORY_PER_MODEL_BYTE = 4
_CPU_SLACK_S = 1.0
_SHOWN_ERROR = 300
_SHOWN_MESSAGE = 1000


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
                kill(self._child)

    def watch(self, child: subprocess.Popen[bytes]) -> None:
        """From now on `set` means this child."""
        with self._lock:
            self._child = child
            if self._is_set:
                kill(child)


class Inspector:
    """Inspects packages, from any thread, each with a probe of its own; after the first one is always ready ahead.

    What is ready ends with this object, or when the process does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: list[ProbeProcess] = []
        self.close = weakref.finalize(self, _end_all, self._ready)
        """End what is ready. An inspection that is under way goes on; nothing is kept ready after it."""

    def inspect(self, files: PackageFiles, timeout_s: float, interrupt: Interrupt | None = None) -> ModelSpec:
        """As `inspect`, sooner."""
        check_onnx_file(files.onnx)
        probe = self._take() or ProbeProcess()
        try:
            return _inspect_with(probe, files, timeout_s, interrupt)
        finally:
            self.make_ready()

    def make_ready(self) -> None:
        """Start a probe, unless one is there. Returns at once: it gets ready meanwhile."""
        with self._lock:
            if self._ready or not self.close.alive:
                return
            try:
                self._ready.append(ProbeProcess())
            except OSError:  # no process, file or room left: the next inspection will tell whom it concerns
                logger.exception("no process could be started ahead")

    def _take(self) -> ProbeProcess | None:
        with self._lock:
            probe = self._ready.pop() if self._ready else None
        if probe is None or probe.is_running():
            return probe
        probe.end()
        return None


def inspect(files: PackageFiles, timeout_s: float, interrupt: Interrupt | None = None) -> ModelSpec:
    """The spec of a package whose model loads and answers its own example, found in a probe of its own.

    Blocks for at most about `timeout_s`, and until the probe has started. Interrupted, it ends at once with an error
    that means nothing.

    Raises:
        PlatformError: `invalid_onnx`, `unsupported_operator`, `artifact_too_large`, `signature_mismatch`,
            `invalid_manifest`, `invalid_package`, `load_timeout` or `warmup_failed`; `internal_error` if the probe
            did not start.
    """
    check_onnx_file(files.onnx)
    return _inspect_with(ProbeProcess(), files, timeout_s, interrupt)


def _inspect_with(
    probe: ProbeProcess, files: PackageFiles, timeout_s: float, interrupt: Interrupt | None
) -> ModelSpec:
    try:
        if interrupt:
            interrupt.watch(probe.child)
        return _read_outcome(probe.ask(_request(files, timeout_s), timeout_s), timeout_s)
    finally:
        probe.end()


def _end_all(probes: list[ProbeProcess]) -> None:
    while probes:
        probes.pop().end()


def _request(files: PackageFiles, timeout_s: float) -> dict[str, object]:
    return {
        "onnx": str(files.onnx.resolve()),
        "manifest": str(files.manifest_path.resolve()) if files.manifest_path else None,
        "tokenizer": str(files.tokenizer.resolve()) if files.tokenizer else None,
        "cpu_s": timeout_s + _CPU_SLACK_S,
        "memory_bytes": BASE_MEMORY_BYTES + _MEMORY_PER_MODEL_BYTE * files.onnx.stat().st_size,
    }


def _read_outcome(outcome: Outcome, timeout_s: float) -> ModelSpec:
    if outcome.status in (None, -signal.SIGXCPU):
        raise PlatformError(
            "load_timeout",
            f"The model did not load and answer once within {timeout_s:g} s. "
            "Use a smaller model, or raise deployments.inspect_timeout_s.",
        )
    if outcome.status != 0 or not outcome.answer:
        raise PlatformError("invalid_onnx", _how_it_ended(outcome))
    try:
        answer: dict[str, Any] = json.loads(outcome.answer)
        _note_missing(tuple(fence for fence in Fence if fence in answer["missing"]))
        if "spec" in answer:
            return ModelSpec.from_json(answer["spec"])
        code, message = str(answer["error"]["code"]), str(answer["error"]["message"])[:_SHOWN_MESSAGE]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        # A model that took its probe over may write what it likes.
        raise PlatformError("invalid_onnx", "The model disturbed its inspection.") from None
    raise PlatformError(code if code in CATALOGUE else "invalid_onnx", message)


def _how_it_ended(outcome: Outcome) -> str:
    status = outcome.status or 0
    if status < 0:
        return f"The model crashed the loader ({signal.Signals(-status).name}). Export it again, or make it smaller."
    return f"The loader ended without an answer: {outcome.errors[:_SHOWN_ERROR] or f'status {status}'}"


@lru_cache
def _note_missing(fences: tuple[Fence, ...]) -> None:
    """Once for each set of them: the next inspections say the same."""
    if fences:
        logger.warning(
            "this system does not have, or does not permit, %s: models are inspected without",
            ", ".join(fences),
        )
