"""Memory and open files of a platform's processes over time, and whether they stay as they are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from types import TracebackType
from typing import Self

import numpy as np
import psutil

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import read_state
from scripts.benchmarks.behaviour.stage import Finding
from tests.support.platform import RunningPlatform

TOLERANCE = 0.05
_ONE_FILE = 1.0
"""Not a leak: one file more in all this time, though it may be more than 5% of a process's few."""
_TITLE_CHARS = 60
_MIB = 1 << 20


@dataclass(slots=True)
class Series:
    """One process: its title and what was seen of it, oldest first."""

    pid: int
    title: str
    rss_bytes: list[int] = field(default_factory=list)
    private_bytes: list[int] = field(default_factory=list)
    """Of that, what is no page of a file: what can leak. The system drops pages of programs and reads them again."""
    files: list[int] = field(default_factory=list)
    """Open descriptors."""
    has_ended: bool = False


class Watch:
    """Samples every process that a platform has at the beginning, until the block ends; by a thread of its own."""

    def __init__(
        self, platform: RunningPlatform, *, titled: tuple[str, ...] = (), every_s: float = 1.0
    ) -> None:
        """`titled`: only processes whose title contains one of these; none: all, the supervisor too."""
        found = [
            each for each in _processes(platform) if not titled or any(part in each[1] for part in titled)
        ]
        self.series = [Series(process.pid, title) for process, title in found]
        self._processes = [process for process, _ in found]
        self._every_s = every_s
        self._is_over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for series, process in zip(self.series, self._processes, strict=True):
                _sample(series, process)
            if self._is_over.wait(self._every_s):
                return


def _processes(platform: RunningPlatform) -> list[tuple[psutil.Process, str]]:
    state = read_state(Home(platform.home))
    found = []
    for process in [*([psutil.Process(state.pid)] if state else []), *platform.processes()]:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found.append((process, _title(process)))
    return found


def _title(process: psutil.Process) -> str:
    """Ray's processes set one; of others the program with its first arguments, without their folders."""
    words = process.cmdline() or [process.name()]
    return " ".join(word.rpartition("/")[2] for word in words if word)[:_TITLE_CHARS]


def _sample(series: Series, process: psutil.Process) -> None:
    try:
        with process.oneshot():
            memory, files = process.memory_info(), process.num_fds()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        series.has_ended = True
        return
    series.rss_bytes.append(memory.rss)
    series.private_bytes.append(memory.rss - memory.shared)
    series.files.append(files)


def cpu_s(platform: RunningPlatform, part: str) -> float:
    """CPU time so far of the live processes whose title contains `part`."""
    return sum(sum(process.cpu_times()[:2]) for process in platform.titled(part))


def growth(samples: list[int]) -> tuple[float, float]:
    """The mean of the second tenth of the samples, and that of the last; the first tenth is getting started."""
    tenth = max(1, len(samples) // 10)
    values = np.array(samples, dtype=np.float64)
    return float(values[tenth : 2 * tenth].mean()), float(values[-tenth:].mean())


def is_flat(samples: list[int], *, slack: float = 0.0) -> bool:
    """Whether it ends within 5%, or `slack`, above where it began. What shrinks leaks nothing: the system may take
    pages that a process has not used for long.
    """
    before, after = growth(samples)
    return after - before <= max(before * TOLERANCE, slack)


def growth_ratio(series: Series) -> float:
    """How many times the memory of the second tenth of the time a process held in the last; 0 if it ended at once."""
    return _ratio(series.rss_bytes) if len(series.rss_bytes) >= 2 else 0.0


def describe(series: Series) -> str:
    """One line: what a process held in the second tenth of the time and in the last."""
    if len(series.rss_bytes) < 2:
        return f"ended at once: {series.title}"
    before, after = growth(series.rss_bytes)
    own_before, own_after = growth(series.private_bytes)
    files_before, files_after = growth(series.files)
    return (
        f"{before / _MIB:6.1f} → {after / _MIB:6.1f} MiB ({(after / before - 1) * 100:+5.1f}%), no file's "
        f"{own_before / _MIB:6.1f} → {own_after / _MIB:6.1f} MiB, "
        f"{files_before:5.1f} → {files_after:5.1f} files: {series.title}"
    )


def judge_flatness(watched: list[Series]) -> list[Finding]:
    """One finding for memory and one for open files, each with the process that grew most; and who has ended.

    Memory is flat where the whole is, or where what is no page of a file is.
    """
    lived = [series for series in watched if len(series.rss_bytes) >= 2]
    ended = [series.title for series in watched if series.has_ended]
    by_memory = max(lived, key=lambda series: min(_ratio(series.rss_bytes), _ratio(series.private_bytes)))
    by_files = max(lived, key=lambda series: _ratio(series.files))
    before, after = (mean / _MIB for mean in growth(by_memory.rss_bytes))
    own_before, own_after = (mean / _MIB for mean in growth(by_memory.private_bytes))
    memory = (
        f"memory of {len(lived)} processes flat (+5% at most): most {before:.1f} → {after:.1f} MiB, "
        f"{own_before:.1f} → {own_after:.1f} of them no file's"
    )
    before_files, after_files = growth(by_files.files)
    files = f"open files of them flat (+5% or one at most): most {before_files:.1f} → {after_files:.1f}"
    return [
        Finding(
            f"{memory} ({by_memory.title})",
            all(is_flat(series.rss_bytes) or is_flat(series.private_bytes) for series in lived),
        ),
        Finding(
            f"{files} ({by_files.title})", all(is_flat(series.files, slack=_ONE_FILE) for series in lived)
        ),
        Finding(f"no process ended: {ended or 'none'}", not ended),
    ]


def _ratio(samples: list[int]) -> float:
    before, after = growth(samples)
    return after / before if before else float(after > 0)
