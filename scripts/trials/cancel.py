"""Jobs canceled at random moments of each part of their life: in the queue, while their input is brought in, while
its first rows are done, while other processes work with the runner, and at the very end.

Each must have one terminal status, whoever asks and however often; be quiet within ten seconds (no process has its run,
nothing in its folder changes any more); and leave whole shards from the first row on, the bytes with which an
undisturbed job's output begins, marked as partial.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from batch.shards import Plan
from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.behaviour.stage import Finding, conclude, introduce
from scripts.trials.platforms import own_platform
from tests.support.platform import RunningPlatform, finished, submit, until

HELP = "jobs canceled at random moments: one end each, soon quiet, whole shards from the first row on"

MODEL = "sentiment-v1"
QUIET_S = 10.0
_SETTLED_S = 2.0
"""Nothing changed for so long: it is quiet."""
_WATCH_S = 30.0
_REACH_S = 400.0
_LOOK_S = 0.1
_HELPERS = ("batch.hands", "ray::MapWorker")
_WORKERS = ("ray::RunnerActor", *_HELPERS)
"""Parts of the command lines of all that may work on a job."""
_TERMINAL = ("completed", "failed", "canceled")
_GLOSSES = PROJECT_ROOT / "tests" / "golden" / "wordnet_sample.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Cancel:
    """One job, and what became of it."""

    moment: str
    statuses: tuple[str, ...]
    """Those that it was seen to have after the cancel, in order, without repetitions."""
    answers: tuple[int, int]
    """To the cancel and to another one after it was quiet."""
    quiet_after_s: float
    rows: int
    wrong: str = ""
    """What is wrong with its output."""


Moment = Callable[[RunningPlatform, httpx.Client, str], None]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos cancel`."""
    parser.add_argument("--jobs", type=int, default=20, help="to cancel, of each kind of moment in turn (20)")
    parser.add_argument("--copies", type=int, default=60, help="of 2,942 rows, in each job (60)")
    parser.add_argument("--seed", type=int, help="of the moments (random, printed)")


def run(options: argparse.Namespace) -> int:
    """Print each cancel and the verdicts; 1 if one does not hold."""
    introduce()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = [list(MOMENTS)[number % len(MOMENTS)] for number in range(options.jobs)]
    with own_platform() as platform:
        return conclude(judge(conduct(platform, moments, copies=options.copies, seed=seed)))


def conduct(platform: RunningPlatform, moments: Sequence[str], *, copies: int, seed: int) -> list[Cancel]:
    """Cancel one job at each of these moments; all read the same rows, of which a first job is left alone."""
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    with platform.client() as client, tempfile.TemporaryDirectory(prefix="fyre-cancel-") as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(gzip.decompress(_GLOSSES.read_bytes()) * copies)
        undisturbed = finished(client, submit(client, MODEL, path.as_uri()), timeout_s=600)
        whole = client.get(undisturbed["output_url"]).content
        cancels = []
        for moment in moments:
            cancels.append(_canceled(platform, client, moment, path.as_uri(), whole, chance))
            print(_told(cancels[-1]), flush=True)
        return cancels


def judge(cancels: Sequence[Cancel], *, quiet_s: float = QUIET_S) -> list[Finding]:
    """What must hold of all of them."""
    ends = [each for each in cancels if _is_one_end(each)]
    slowest = max(cancels, key=lambda each: each.quiet_after_s)
    wrong = [f"{each.moment}: {each.wrong}" for each in cancels if each.wrong]
    partial = sum(bool(each.rows) for each in cancels)
    return [
        Finding(f"one terminal status each: {len(ends)} of {len(cancels)}", len(ends) == len(cancels)),
        Finding(
            f"quiet within {quiet_s:g} s: at most {slowest.quiet_after_s:.1f} s ({slowest.moment})",
            slowest.quiet_after_s <= quiet_s,
        ),
        Finding(
            f"whole shards from the first row on, and said so: {len(cancels) - len(wrong)} of {len(cancels)}, "
            f"{partial} with rows {wrong or ''}".rstrip(),
            not wrong,
        ),
    ]


def _is_one_end(cancel: Cancel) -> bool:
    """Canceled, or completed before the cancel came; nothing before the end was seen after it."""
    return (cancel.statuses, cancel.answers) in ((("canceled",), (200, 200)), (("completed",), (409, 409)))


def _canceled(
    platform: RunningPlatform,
    client: httpx.Client,
    moment: str,
    url: str,
    whole: bytes,
    chance: random.Random,
) -> Cancel:
    others = [submit(client, MODEL, url) for _ in range(2)] if moment == "queued" else []
    job_id = submit(client, MODEL, url)
    reach, longest_s = MOMENTS[moment]
    reach(platform, client, job_id)
    time.sleep(chance.uniform(0.0, longest_s))
    answer = client.post(f"/jobs/{job_id}/cancel").status_code
    at = time.monotonic()
    for other in others:
        client.post(f"/jobs/{other}/cancel")
    statuses, quiet_after_s = _watch(platform, client, job_id, at)
    again = client.post(f"/jobs/{job_id}/cancel").status_code
    job = client.get(f"/jobs/{job_id}").json()
    wrong = _mistake(platform, client, job, whole) if job["status"] == "canceled" else ""
    return Cancel(moment, statuses, (answer, again), quiet_after_s, job["progress"]["processed"], wrong)


def _watch(
    platform: RunningPlatform, client: httpx.Client, job_id: str, at: float
) -> tuple[tuple[str, ...], float]:
    """The statuses that are seen until it is quiet, and how long after `at` that was."""
    statuses: dict[str, None] = {}
    folder = platform.home / "jobs" / job_id
    seen, changed_at = _files(folder), at
    while time.monotonic() < changed_at + _SETTLED_S and changed_at < at + _WATCH_S:
        statuses[client.get(f"/jobs/{job_id}").json()["status"]] = None
        files = _files(folder)
        if files != seen or any(platform.titled(each) for each in _WORKERS):
            seen, changed_at = files, time.monotonic()
        time.sleep(_LOOK_S)
    return tuple(statuses), changed_at - at


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """What is in a job's folder: size and time of each file."""
    found = {}
    for at, _, names in os.walk(folder):  # a folder that goes meanwhile has nothing
        for name in names:
            path = Path(at) / name
            with suppress(FileNotFoundError):
                status = path.stat()
                found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def _mistake(platform: RunningPlatform, client: httpx.Client, job: Mapping[str, Any], whole: bytes) -> str:
    """What is wrong with the output of a canceled job; nothing, as it must be."""
    rows = job["progress"]["processed"]
    if not rows:
        return "" if (job["output_url"], job["partial"]) == (None, False) else "it has an output of no rows"
    if not job["partial"]:
        return "it does not say that it is partial"
    content = client.get(job["output_url"]).content
    errors = client.get(job["errors_url"]).content
    indexes = sorted(json.loads(line)["index"] for line in (content + errors).splitlines())
    if indexes != list(range(rows)):
        return f"{len(indexes)} lines, {rows} rows of progress, not the first ones alone"
    if not whole.startswith(content):
        return "an undisturbed job's output begins otherwise"
    plans = sorted((platform.home / "jobs" / job["id"]).glob("plan-*.json"))
    ends = {each.first_record + each.records for each in Plan.from_json(plans[-1].read_bytes()).shards}
    return "" if rows in ends else f"{rows} rows end within a shard"


def _told(cancel: Cancel) -> str:
    verdict = cancel.wrong or "as it must be"
    return (
        f"{cancel.moment}: {'/'.join(cancel.statuses)}, quiet after {cancel.quiet_after_s:.1f} s, "
        f"{cancel.rows} rows: {verdict}"
    )


def _until_status(client: httpx.Client, job_id: str, *wanted: str) -> None:
    def is_so() -> bool:
        return client.get(f"/jobs/{job_id}").json()["status"] in (*wanted, *_TERMINAL)

    until(is_so, timeout_s=_REACH_S, what=f"{job_id} {wanted}")


def _until_rows(client: httpx.Client, job_id: str, share: float) -> None:
    """Until more than this share of its rows is done."""

    def is_so() -> bool:
        job = client.get(f"/jobs/{job_id}").json()
        progress = job["progress"]
        is_there = progress["total"] is not None and progress["processed"] > share * progress["total"]
        return is_there or job["status"] in _TERMINAL

    until(is_so, timeout_s=_REACH_S, what=f"rows of {job_id}")


def _until_helped(platform: RunningPlatform, client: httpx.Client, job_id: str) -> None:
    """Until its runner has hands or a pool, if it gets any: a job that is done soon is not worth them."""

    def is_so() -> bool:
        is_helped = any(platform.titled(each) for each in _HELPERS)
        return is_helped or client.get(f"/jobs/{job_id}").json()["status"] in _TERMINAL

    until(is_so, timeout_s=_REACH_S, what=f"helpers of {job_id}")


MOMENTS: Mapping[str, tuple[Moment, float]] = {
    "queued": (lambda _platform, _client, _job: None, 0.2),
    "staging": (lambda _, client, job: _until_status(client, job, "processing"), 0.3),
    "early": (lambda _, client, job: _until_rows(client, job, 0.0), 1.0),
    "helped": (_until_helped, 4.0),
    "finishing": (lambda _, client, job: _until_rows(client, job, 0.98), 0.2),
}
"""What is waited for, and how long at most after that the cancel comes."""
