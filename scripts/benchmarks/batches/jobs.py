"""A job on a running platform, measured from outside by what it leaves: its log, its status, its processes' memory."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from batch.joblog import read_events
from scripts.benchmarks.behaviour.stage import NotReadyError
from tests.support.platform import RunningPlatform, submit

_LOOK_S = 0.25
"""A question costs some milliseconds of what is measured."""
_SAMPLE_S = 0.25
_COMMITTED = "shard_committed"


@dataclass(frozen=True, slots=True)
class Commit:
    """One shard."""

    at: float
    pid: int
    rows: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One job."""

    posted_at: float
    seconds: float
    """From POST to the answer that says it is completed, asked every 250 ms."""
    commits: Sequence[Commit]
    output: Path
    peak_bytes: int
    """The most memory of its processes together (PSS: pages that several share are counted once); 0: not sampled."""
    processes: int

    @property
    def first_commit_s(self) -> float:
        """From POST."""
        return min(commit.at for commit in self.commits) - self.posted_at

    @property
    def steady_rate(self) -> float:
        """See `steady_rate`."""
        return steady_rate(self.commits)


def steady_rate(commits: Sequence[Commit]) -> float:
    """The workers' own rates, summed: rows a second, from when the last worker committed its first shard to each's end.

    It is counted as the plain processes' is, each of which has its own end too: who has nothing left is not at work.
    """
    firsts: dict[int, float] = {}
    lasts: dict[int, float] = {}
    for commit in commits:
        firsts[commit.pid] = min(commit.at, firsts.get(commit.pid, commit.at))
        lasts[commit.pid] = max(commit.at, lasts.get(commit.pid, commit.at))
    began_at = max(firsts.values())
    rows = Counter[int]()
    for commit in commits:
        if commit.at > began_at:
            rows[commit.pid] += commit.rows
    return sum(count / (lasts[pid] - began_at) for pid, count in rows.items())


def run_job(
    platform: RunningPlatform, client: httpx.Client, model: str, source: Path, *, samples_memory: bool = False
) -> Measured:
    """Submit, wait until it has ended, read what it left. To sample memory takes a tenth of a core.

    Raises:
        NotReadyError: it did not complete.
    """
    posted_at = time.time()
    job_id = submit(client, model, source.as_uri())
    folder = platform.home / "jobs" / job_id
    peak, sampled_at, processes = 0, 0.0, 0
    while not (job := client.get(f"/jobs/{job_id}").json())["finished"]:
        if samples_memory and time.monotonic() - sampled_at > _SAMPLE_S and folder.exists():
            sampled_at = time.monotonic()
            found = _processes(folder)
            peak, processes = max(peak, sum(map(_pss_bytes, found))), max(processes, len(found))
        time.sleep(_LOOK_S)
    seconds = time.time() - posted_at
    if job["status"] != "completed":
        raise NotReadyError(f"the job over {source.name} is {job['status']}: {job['error']}")
    events = [event for event in read_events(folder) if event["event"] == _COMMITTED]
    output = next(folder.glob("output-*.jsonl"))
    return Measured(posted_at, seconds, list(map(_commit, events)), output, peak, processes)


def _commit(event: Mapping[str, Any]) -> Commit:
    return Commit(event["at"], event["pid"], event["succeeded"] + event["failed"])


def _processes(folder: Path) -> set[int]:
    """Those that wrote in the job's log, with their children: runner, hands, pool, models that are isolated."""
    found: set[int] = set()
    for pid in {int(str(event["pid"])) for event in read_events(folder)}:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found |= {pid, *(child.pid for child in process.children(recursive=True))}
    return found


def _pss_bytes(pid: int) -> int:
    """0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))


def drop_output(measured: Measured) -> None:
    """Gigabytes of it are in nobody's way."""
    with suppress(FileNotFoundError):
        os.truncate(measured.output, 0)
