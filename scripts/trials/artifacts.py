"""Deploys everything that nobody can serve, one after another, while another model is in use.

Broken files, hostile graphs, archives that climb out of their folder, sources that answer something else: each must
end `failed` with its own code within 20 s. Meanwhile sentiment-v1 takes 20 predictions a second by a timetable that
does not wait for answers: none may fail. In the end no inspecting process is left but the one that waits for the next
model, and at no time did the platform's processes hold 1 GiB more than before.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psutil

from fyretoolkit.settings import DEMO_KEY
from scripts.benchmarks.behaviour.stage import Finding, conclude, introduce, running_platform
from tests.support.broken_artifacts import BROKEN, BrokenArtifact
from tests.support.conformance import GOOD
from tests.support.platform import RunningPlatform, until

HELP = "deploys some fifty broken or hostile artifacts while another model is in use; each must fail alone"

PROBE = "fyretoolkit.models.probe"
"""In the command line of an inspecting process."""
_MOST_S = 20.0
_PATIENCE_S = 240.0
_POLL_S = 0.1
_MOST_EXTRA_BYTES = 1 << 30
_RATE_PER_S = 20
_SAMPLE_S = 0.25
_REGION = "us-east-1"
_SHOWN_MESSAGE = 90
_DEFAULT_MAX_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one deployment."""

    artifact: BrokenArtifact
    status: str
    code: str
    message: str
    took_s: float

    @property
    def is_right(self) -> bool:
        """It failed with the code of its own."""
        return (self.status, self.code) == ("failed", self.artifact.code)


@dataclass(slots=True)
class Usage:
    """Of the other model, and of memory, while artifacts were deployed."""

    latencies_s: list[float]
    """Of predictions that were right."""
    failures: list[str]
    """What the others were answered."""
    extra_bytes: int = 0
    """Private memory of the platform's processes at its peak, beyond what it was before."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos artifacts`."""
    names = "; ".join(artifact.name for artifact in BROKEN)
    parser.add_argument("names", nargs="*", metavar="artifact", help=f"some of: {names}")


def run(options: argparse.Namespace) -> int:
    """Print the table and the verdicts; 1 if one is missed."""
    chosen = [artifact for artifact in BROKEN if not options.names or artifact.name in options.names]
    if unknown := set(options.names) - {artifact.name for artifact in chosen}:
        print(f"No such artifact: {', '.join(sorted(unknown))}")
        return 2
    introduce()
    with running_platform(has_demo_models=True) as platform:
        outcomes, usage = conduct(platform, chosen, max_bytes=_DEFAULT_MAX_BYTES)
        return conclude([*judge(outcomes, usage), judge_left(leftovers(platform))])


def conduct(
    platform: RunningPlatform, artifacts: Sequence[BrokenArtifact], *, max_bytes: int
) -> tuple[list[Outcome], Usage]:
    """Deploy each, and print what became of it. `max_bytes`: the platform's limit of an artifact."""
    with tempfile.TemporaryDirectory(prefix="fyre-broken-") as name, _serving(Path(name)) as url:
        places = []
        for number, artifact in enumerate(artifacts):
            (folder := Path(name) / str(number)).mkdir()
            path = artifact.write(folder, max_bytes)
            places.append(f"{url}/{number}/{path.name}" if artifact.is_fetched else path.as_uri())
        with _in_use(platform) as usage, platform.client() as client:
            outcomes = []
            for number, (artifact, place) in enumerate(zip(artifacts, places, strict=True)):
                outcomes.append(_deploy(client, artifact, place, f"broken-{number}"))
                _print(outcomes[-1])
        return outcomes, usage


def _deploy(client: httpx.Client, artifact: BrokenArtifact, place: str, model_id: str) -> Outcome:
    """Create the deployment, wait for its end, delete it."""
    began = time.monotonic()
    body = {"model_uri": place, "region": _REGION, "model_id": model_id, **artifact.fields}
    answer = client.post("/deployments", json=body)
    if answer.status_code != 201:
        error = answer.json()["error"]
        return Outcome(artifact, f"not created ({answer.status_code})", error["code"], error["message"], 0.0)
    found: dict[str, Any] = answer.json()
    while found["status"] == "provisioning" and time.monotonic() - began < _PATIENCE_S:
        time.sleep(_POLL_S)
        found = client.get(f"/deployments/{found['id']}").json()
    took_s = time.monotonic() - began
    client.delete(f"/deployments/{found['id']}").raise_for_status()
    error = found["error"] or {"code": "", "message": ""}
    return Outcome(artifact, found["status"], error["code"], error["message"], took_s)


def _print(outcome: Outcome) -> None:
    verdict = "" if outcome.is_right else f" INSTEAD OF {outcome.artifact.code}"
    print(
        f"| {outcome.artifact.name} | {outcome.status} | {outcome.code}{verdict} | {outcome.took_s:.1f} s "
        f"| {outcome.message[:_SHOWN_MESSAGE]} |",
        flush=True,
    )


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The URL of a loopback server that answers what lies in the folder, and 404 to the rest."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@contextmanager
def _in_use(platform: RunningPlatform) -> Iterator[Usage]:
    """What became of predictions and memory while the block ran; complete when it is left."""
    usage = Usage([], [])
    is_over = Event()
    with ThreadPoolExecutor(2) as threads:
        before = private_bytes(platform)
        predicting = threads.submit(lambda: asyncio.run(_predict(platform, usage, is_over)))
        sampling = threads.submit(_watch_memory, platform, usage, before, is_over)
        try:
            yield usage
        finally:
            is_over.set()
            predicting.result()
            sampling.result()


async def _predict(platform: RunningPlatform, usage: Usage, is_over: Event) -> None:
    began = time.monotonic()
    async with (
        httpx.AsyncClient(
            base_url=platform.url, auth=(DEMO_KEY, ""), timeout=_PATIENCE_S, trust_env=False
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in count():
            await asyncio.sleep(began + number / _RATE_PER_S - time.monotonic())
            if is_over.is_set():
                return
            group.create_task(_predict_once(client, usage))


async def _predict_once(client: httpx.AsyncClient, usage: Usage) -> None:
    began = time.monotonic()
    try:
        answer = await client.post("/predict/sentiment-v1", json={"inputs": [GOOD]})
    except httpx.HTTPError as error:
        usage.failures.append(type(error).__name__)
        return
    if answer.status_code == 200 and answer.json()["results"][0]["label"] == "positive":
        usage.latencies_s.append(time.monotonic() - began)
    else:
        usage.failures.append(f"{answer.status_code} {answer.text[:200]}")


def _watch_memory(platform: RunningPlatform, usage: Usage, before: int, is_over: Event) -> None:
    while not is_over.wait(_SAMPLE_S):
        usage.extra_bytes = max(usage.extra_bytes, private_bytes(platform) - before)


def private_bytes(platform: RunningPlatform) -> int:
    """Memory of all processes of a platform, without what they share with others."""
    total = 0
    for process in platform.processes():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total


def leftovers(platform: RunningPlatform) -> list[str]:
    """Inspecting processes beyond the one that waits, and ended ones that nobody looked after, after a while."""
    left: list[str] = []

    def is_clean() -> bool:
        left[:] = [f"{each.pid} waits too" for each in platform.titled(PROBE)[1:]]
        for process in platform.processes():
            with suppress(psutil.NoSuchProcess):
                left.extend(f"{each.pid} is a zombie" for each in process.children() if _is_ended(each))
        return not left

    with suppress(AssertionError):
        until(is_clean, timeout_s=_PATIENCE_S, what="no process left")
    return left


def _is_ended(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return False


def judge(outcomes: Sequence[Outcome], usage: Usage) -> list[Finding]:
    """Whether each failed as it must, in time, and whether anybody else noticed."""
    wrong = [outcome.artifact.name for outcome in outcomes if not outcome.is_right]
    slowest = max(outcomes, key=lambda outcome: outcome.took_s)
    sent = len(usage.latencies_s) + len(usage.failures)
    worst_ms = 1000 * max(usage.latencies_s, default=float("nan"))
    return [
        Finding(
            f"{len(outcomes) - len(wrong)} of {len(outcomes)} failed with their own code, the others: "
            f"{', '.join(wrong) or 'none'}",
            not wrong,
        ),
        Finding(
            f"each within {_MOST_S:g} s: at most {slowest.took_s:.1f} s ({slowest.artifact.name})",
            slowest.took_s <= _MOST_S,
        ),
        Finding(
            f"of {sent} predictions meanwhile {len(usage.failures)} failed {usage.failures[:3] or ''}; "
            f"the slowest took {worst_ms:.0f} ms",
            sent > 0 and not usage.failures,
        ),
        Finding(
            f"memory of the platform's processes at most {usage.extra_bytes >> 20} MiB above before (1024)",
            usage.extra_bytes < _MOST_EXTRA_BYTES,
        ),
    ]


def judge_left(left: Sequence[str]) -> Finding:
    """Whether every inspection has ended as a process too."""
    return Finding(f"no process is left of the inspections: {', '.join(left) or 'none'}", not left)
