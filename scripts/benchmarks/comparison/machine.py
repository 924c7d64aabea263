"""The machine and the versions that figures were taken with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import psutil

_BUSY = 0.15


def describe_machine() -> list[str]:
    """A line for each thing that a reader needs to judge the figures."""
    memory_gib = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "fastapi", "uvicorn", "numpy"))
    return [
        f"CPU: {_cpu_model()}, {os.cpu_count()} cores; {memory_gib:.0f} GiB memory",
        f"System: {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"Packages: onnxruntime {onnxruntime.__version__}, {packages}",
    ]


def busy_share(seconds: float = 1.0) -> float:
    """How much of all cores is in use now, 0 to 1: on a busy machine no figure means much."""
    return float(psutil.cpu_percent(interval=seconds)) / 100


def busy_note(share: float) -> str | None:
    """What to say of a machine that is not quiet."""
    if share < _BUSY:
        return None
    return f"The machine was not quiet when this began: {share:.0%} of its cores were in use by others."


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
