"""The driver of `bare_serve`, as seen from the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform

_ENDS_WITHIN_S = 30.0


class BareServe:
    """A process that deploys and deletes as it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read()

    def deploy(self, name: str, graph: Path) -> float:
        """Seconds from the call of `serve.run` to its return."""
        return float(self._ask({"name": name, "graph": str(graph)})["seconds"])

    def delete(self, name: str) -> None:
        """Free the application; returns when it is gone."""
        self._ask({"name": name})

    def _ask(self, order: dict[str, str]) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # all else is Serve's own talk
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"the driver of the bare serve.run ended with {self._process.wait()}")


@contextmanager
def bare_serve(platform: RunningPlatform) -> Iterator[BareServe]:
    """A driver on the Ray of a running platform."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.deploys.bare_serve"],
        cwd=PROJECT_ROOT,
        env=environment_of(platform),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield BareServe(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment_of(platform: RunningPlatform) -> dict[str, str]:
    """What every process of the platform has: Ray and Serve read most of their settings from there."""
    (gcs,) = platform.titled("gcs_server")
    return {**gcs.environ(), "PYTHONPATH": os.environ["PYTHONPATH"]}
