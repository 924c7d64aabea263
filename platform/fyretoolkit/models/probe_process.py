"""A probe (`probe.py`) as its owner sees it: started, ready after a while, asked once, ended with all that it left.

All are started by one thread that lives as long as the owner's process: the kernel ends a probe with the thread that
started it, and a thread of a pool may end at any time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import fyretoolkit
from fyretoolkit.core.errors import PlatformError

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
"""The imports of a probe, on a machine that is busy."""
MAX_ANSWER_BYTES = 8 << 20
_COMMAND = ("-P", "-m", "fyretoolkit.models.probe")
_CHUNK_BYTES = 65_536
_SHOWN_ERRORS_BYTES = 4096
_STARTER = ThreadPoolExecutor(1, "probe-starter")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a probe ended: its exit status, None if it was killed for the time it took; what it answered; its errors."""

    status: int | None
    answer: bytes
    errors: str


class ProbeProcess:
    """One probe. `end` it, whatever happens.

    It stands in an empty folder that is gone once it runs: nothing can be made there, and an owner that is killed
    leaves nothing behind.
    """

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self.child = _STARTER.submit(self._start).result()
            """The process itself, the first of a group of its own."""
            self._requests = stack.enter_context(cast("IO[bytes]", self.child.stdin))
            self._answers = stack.enter_context(cast("IO[bytes]", self.child.stdout))
            self._held = stack.pop_all()

    def _start(self) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryDirectory(prefix="fyre-inspect-") as folder:
            return subprocess.Popen(
                [sys.executable, *_COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether it can still be asked, as far as is known."""
        return self.child.poll() is None

    def ask(self, request: Mapping[str, object], timeout_s: float) -> Outcome:
        """Its answer to the request. It has `timeout_s` from when it is ready on.

        Raises:
            PlatformError: `internal_error`, it did not become ready: the model has nothing to do with it.
        """
        if self._read(time.monotonic() + START_TIMEOUT_S, most=1) != b"\n":
            logger.error("an inspecting process did not become ready: %s", self._last_error())
            raise PlatformError("internal_error", "The process that inspects models did not start.")
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(BrokenPipeError):  # its end says the same
            self._requests.write(json.dumps(request).encode())
        self._requests.close()
        answer = self._read(deadline, MAX_ANSWER_BYTES)
        try:
            status = self.child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Outcome(None, b"", "")
        return Outcome(status, answer, self._last_error())

    def _read(self, deadline: float, most: int) -> bytes:
        """What it writes until it closes its end, the deadline passes, or there is too much."""
        content = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while len(content) < most and selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(self._answers.fileno(), min(_CHUNK_BYTES, most - len(content)))
                if not chunk:
                    break
                content += chunk
        return content

    def _last_error(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _SHOWN_ERRORS_BYTES))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self) -> None:
        """Kill it and what it may have started, wait for its end. Again: nothing."""
        kill(self.child)
        self.child.wait()
        self._held.close()


def kill(child: subprocess.Popen[bytes]) -> None:
    """Its whole group, unless it has ended."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _environment(folder: str) -> dict[str, str]:
    """What Python needs to find our package; no secret, no proxy, no home of ours.

    One thread, also of the libraries: with more of them a process cannot move into a namespace.
    """
    return {
        "PYTHONPATH": str(Path(fyretoolkit.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "HOME": folder,
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "ORT_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
