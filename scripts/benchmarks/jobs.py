"""Jobs of ten rows, from POST to `completed`: one after another without a pause, and one at a time with a pause.

Without a pause the process that had the last one gets the next; behind a pause the one that stands by does. Also told:
what the one that stands by costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.benchmarks.behaviour.stage import Finding, conclude, introduce, running_platform
from tests.support.platform import RunningPlatform, submit, until

HELP = "ten-row jobs from POST to completed, with a runner that stands by"

LIMIT_S = 2.0
_MODEL = "sentiment-v1"
_ROWS = 10
_LINGERS_S = 12.0
"""Longer than a runner stays for its organization (`batch.standby.LINGER_S`)."""
_POLL_S = 0.02
_STANDS_BY = "ray::StandbyRunner"


@dataclass(frozen=True, slots=True)
class Series:
    """How long each job took."""

    title: str
    took_s: Sequence[float]

    @property
    def finding(self) -> Finding:
        """The bar is for every one of them."""
        slowest = max(self.took_s)
        return Finding(
            f"{len(self.took_s)} jobs of {_ROWS} rows, {self.title}: median "
            f"{statistics.median(self.took_s):.2f} s, slowest {slowest:.2f} s (bar {LIMIT_S:g} s)",
            slowest <= LIMIT_S,
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench jobs`."""
    parser.add_argument("--jobs", type=int, default=20, help="one after another (20)")
    parser.add_argument("--paused", type=int, default=3, help="with a pause before each (3)")


def run(options: argparse.Namespace) -> int:
    """Print the times and what a runner that stands by costs; 1 if one job took too long."""
    introduce()
    with running_platform(has_demo_models=True) as platform:
        findings = measure(platform, jobs=options.jobs, paused=options.paused)
    return conclude(findings)


def measure(
    platform: RunningPlatform, *, jobs: int, paused: int, pause_s: float = _LINGERS_S
) -> list[Finding]:
    """Run them all."""
    until(lambda: platform.titled(_STANDS_BY), timeout_s=60, what="a runner that stands by")
    time.sleep(pause_s)
    for process in platform.titled(_STANDS_BY):
        memory = process.memory_full_info()
        print(
            f"stands by: {memory.uss / 1e6:.0f} MB of its own, {memory.rss / 1e6:.0f} MB with what is shared"
        )
    with platform.client() as client, tempfile.TemporaryDirectory(prefix="fyre-jobs-") as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("\n".join(json.dumps({"text": f"a film, number {n}"}) for n in range(_ROWS)), "utf-8")
        lone = []
        for _ in range(paused):
            lone.append(_job(client, path.as_uri()))
            time.sleep(pause_s)
        quick = [_job(client, path.as_uri()) for _ in range(jobs)]
    series = [Series("with a pause before each", lone), Series("one after another", quick)]
    return [each.finding for each in series if each.took_s]


def _job(client: httpx.Client, url: str) -> float:
    """How long one took.

    Raises:
        AssertionError: it did not complete.
    """
    began = time.monotonic()
    job_id = submit(client, _MODEL, url)
    while (job := client.get(f"/jobs/{job_id}").json())["finished"] is None:
        time.sleep(_POLL_S)
    took_s = time.monotonic() - began
    assert job["status"] == "completed", job
    assert job["progress"]["succeeded"] == _ROWS, job
    return took_s
