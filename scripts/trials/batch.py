"""`kill -9` at the named steps of batch jobs: the runner, workers of its pool, our controller, Redis.

Each job is killed at a few steps, one after another: while it is claimed, staged and cut; before and after a part is
written, renamed and committed; before and after it is assembled and ended. Output and errors must be those of a job
that nobody disturbed, to the byte; no shard that was committed may begin again; progress may never go back; and the
median time from a kill to the next commit is at most 5 s for each kind. In the end the platform is stopped and started
in the middle of a job, which must go on.
"""

from __future__ import annotations

import argparse
import gzip
import math
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, zip_longest
from pathlib import Path

import httpx

from batch.joblog import read_events
from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.behaviour.stage import Finding, conclude, introduce, running_platform
from scripts.trials.faults.blows import Blow, Kind, NotReachedError, arm, await_dealt
from scripts.trials.faults.churn import persist
from scripts.trials.faults.recovery import DisturbedJob, Hit, judge, judge_reach, judge_times, table
from scripts.trials.faults.watching import Watch, watching
from tests.support.platform import RunningPlatform, submit, until

HELP = "kill -9 of runner, workers, controller and Redis at every step of a job; not a byte may differ"

MODEL = "sentiment-v1"
SMALL_SHARDS = {"batch": {"shard_min_bytes": 65_536, "shard_target_bytes": 65_536}}
_GLOSSES = PROJECT_ROOT / "tests" / "golden" / "wordnet_sample.jsonl.gz"
_BROKEN = (b'{"id": "broken", "text": 42}\n', b'{"id": "broken", "te\n')
_BROKEN_EVERY = 97
_COPIES, _POOLED_COPIES = 8, 48
"""Of the glosses: about 48 shards, and as many more as make the runner start another worker."""
_MOST_POOLED = 5
"""Longer jobs: each may be done before all of its blows were dealt."""
_BEFORE_RESTART = 10
"""Shards."""
_PATIENCE_S = 400.0
_POLL_S = 0.02
_INDEX = re.compile(rb'^\{"index":(\d+)', re.MULTILINE)

_RUNNER, _WORKER, _CONTROLLER, _REDIS = Kind.RUNNER, Kind.WORKER, Kind.CONTROLLER, Kind.REDIS


def _held(kind: Kind, point: str) -> Blow:
    return Blow(kind, point, is_held=True)


BLOWS: Sequence[Sequence[Blow]] = (
    # of each job in turn: on its way to the first shard, at shards, at its end
    (Blow(_RUNNER, "stage.before"), Blow(_RUNNER, "shard.started"), _held(_REDIS, "assemble.before")),
    (Blow(_RUNNER, "stage.after"), _held(_REDIS, "commit.before"), Blow(_RUNNER, "assemble.before")),
    (Blow(_RUNNER, "plan.before"), _held(_CONTROLLER, "commit.before"), Blow(_RUNNER, "output.aside", 2)),
    (Blow(_RUNNER, "plan.after"), _held(_CONTROLLER, "commit.after"), _held(_REDIS, "finish.before")),
    (Blow(_CONTROLLER, "claim.before"), Blow(_RUNNER, "part.before"), Blow(_RUNNER, "finish.before")),
    (Blow(_CONTROLLER, "claim.after"), _held(_REDIS, "commit.after"), _held(_REDIS, "finish.after")),
    (Blow(_CONTROLLER, "create.after"), Blow(_RUNNER, "part.aside"), Blow(_RUNNER, "finish.after")),
    (
        _held(_CONTROLLER, "stage.after"),
        _held(_REDIS, "shard.started"),
        _held(_CONTROLLER, "assemble.before"),
    ),
    (_held(_CONTROLLER, "plan.after"), Blow(_RUNNER, "part.aside", 2), _held(_REDIS, "part.before")),
    (_held(_REDIS, "claim.after"), Blow(_RUNNER, "commit.before"), _held(_CONTROLLER, "finish.before")),
    (_held(_REDIS, "stage.after"), Blow(_RUNNER, "commit.after"), _held(_CONTROLLER, "finish.after")),
    (_held(_REDIS, "plan.before"), _held(_CONTROLLER, "shard.started"), _held(_REDIS, "part.aside")),
    (_held(_REDIS, "plan.after"), _held(_CONTROLLER, "part.before"), _held(_REDIS, "commit.before")),
    (_held(_CONTROLLER, "part.aside"), _held(_REDIS, "commit.after"), Blow(_RUNNER, "commit.before", 2)),
    (_held(_CONTROLLER, "commit.before"), _held(_CONTROLLER, "commit.after"), _held(_REDIS, "output.aside")),
)
POOLED_BLOWS: Sequence[Blow] = tuple(
    Blow(_WORKER, point, nth)
    for nth in (1, 2, 3)
    for point in ("shard.started", "part.before", "part.aside", "commit.before", "commit.after")
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos batch`."""
    parser.add_argument(
        "--jobs", type=int, default=len(BLOWS), help=f"of {len(BLOWS)}, each with 3 kills (all)"
    )
    parser.add_argument("--skip", type=int, default=0, help="leave so many of them out, the first ones (0)")
    parser.add_argument(
        "--workers", type=int, default=len(POOLED_BLOWS), help="kills of workers beside the runner (15)"
    )
    parser.add_argument("--no-restart", action="store_true", help="without the stop and start of everything")


def run(options: argparse.Namespace) -> int:
    """Print the kills by kind and the verdicts; 1 if a line does not hold."""
    introduce()
    blows, pooled = BLOWS[options.skip :][: options.jobs], POOLED_BLOWS[: options.workers]
    with (
        tempfile.TemporaryDirectory(prefix="fyre-rows-") as folder,
        running_platform(SMALL_SHARDS, has_demo_models=True, environ={"FYRE_FAILPOINTS": "1"}) as platform,
    ):
        trial = Trial(platform, Path(folder))
        jobs = [trial.disturbed(each) for each in blows]
        jobs += trial.pooled(pooled)
        restarts = [] if options.no_restart else judge([trial.restarted()])
    print("\n" + table(jobs) + "\n")
    planned = sum(map(len, blows)) + len(pooled)
    findings = [*judge(jobs), *judge_times(jobs), *judge_reach(jobs, planned)]
    return conclude([*findings, *(Finding(f"down and up: {each.what}", each.is_met) for each in restarts)])


class Trial:
    """Jobs over the same rows on one platform; the first of each length is left alone, and tells what all must give."""

    def __init__(self, platform: RunningPlatform, folder: Path, *, copies: int = _COPIES) -> None:
        self._platform = platform
        self._folder = folder
        self._copies = copies
        self._numbers = count(1)
        self._expected: dict[int, list[bytes]] = {}
        self._undisturbed(copies)

    def disturbed(self, blows: Sequence[Blow], *, copies: int | None = None) -> DisturbedJob:
        """One job, killed at these steps in this order, each when it has recovered from the one before."""
        copies = copies or self._copies
        self._undisturbed(copies)
        hits: list[Hit] = []
        rule = arm(self._platform, blows[0], next(self._numbers))
        with self._job(copies) as (watch, client):
            for blow, following in zip_longest(blows, blows[1:]):
                with suppress(NotReachedError):
                    at = await_dealt(self._platform, blow, rule, lambda: watch.has_ended)
                    hits.append(Hit(blow, at, self._recovered_after_s(watch, at)))
                    print(f"{watch.job_id}: {blow}: {hits[-1].recovered_after_s:.1f} s", flush=True)
                if following is not None:
                    rule = arm(self._platform, following, next(self._numbers))
            return self._seen(watch, client, hits, copies)

    def pooled(self, blows: Sequence[Blow]) -> list[DisturbedJob]:
        """Longer jobs, in which workers beside the runner are killed, until each has been dealt its blows."""
        jobs: list[DisturbedJob] = []
        while blows and len(jobs) < _MOST_POOLED:
            jobs.append(self.disturbed(blows, copies=_POOLED_COPIES))
            blows = blows[len(jobs[-1].hits) :]
        return jobs

    def restarted(self) -> DisturbedJob:
        """One job, in whose middle everything is stopped and started."""
        with self._job(self._copies) as (watch, client):
            until(lambda: len(watch.committed_at) >= _BEFORE_RESTART, timeout_s=_PATIENCE_S, what="commits")
            at = time.time()
            self._platform.down()
            assert self._platform.processes() == []
            self._platform.up()
            hit = Hit(Blow(Kind.EVERYTHING, "down and up"), at, self._recovered_after_s(watch, at))
            return self._seen(watch, client, [hit], self._copies)

    def _undisturbed(self, copies: int) -> None:
        """Learn what a job of this length gives: no shorter one tells, since a model may answer by its company."""
        if copies in self._expected:
            return
        with self._job(copies) as (watch, client):
            _await_end(watch)
            self._expected[copies] = _downloads(client, watch)
        seen = sorted(int(index) for content in self._expected[copies] for index in _INDEX.findall(content))
        assert seen == list(range(len(rows()) * copies)), "each row once"

    @contextmanager
    def _job(self, copies: int) -> Iterator[tuple[Watch, httpx.Client]]:
        path = self._folder / f"rows-{copies}.jsonl"
        if not path.exists():
            path.write_bytes(b"".join(rows()) * copies)
        with self._platform.client() as client:
            job_id = submit(client, MODEL, path.as_uri())
            with watching(self._platform, job_id) as watch:
                yield watch, client

    def _recovered_after_s(self, watch: Watch, at: float) -> float:
        """Seconds from `at` to the next commit, or to the next answer that tells the job's end; infinite: neither."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            for event in self._events(watch.job_id):
                if event["event"] == "shard_committed" and (committed_at := float(str(event["at"]))) > at:
                    return committed_at - at
            if watch.told_ended_at > at:
                return watch.told_ended_at - at
            time.sleep(_POLL_S)
        return math.inf

    def _seen(self, watch: Watch, client: httpx.Client, hits: Sequence[Hit], copies: int) -> DisturbedJob:
        """The job once it has ended."""
        _await_end(watch)
        is_alike = _downloads(client, watch) == self._expected[copies]
        print(
            f"{watch.job_id}: {watch.job['status']}, the output is {'' if is_alike else 'NOT '}the same",
            flush=True,
        )
        return DisturbedJob(
            watch.job_id,
            str(watch.job["status"]),
            is_output_alike=is_alike,
            is_monotone=watch.is_monotone,
            committed_at=watch.committed_at,
            events=self._events(watch.job_id),
            hits=hits,
        )

    def _events(self, job_id: str) -> list[dict[str, object]]:
        return read_events(self._platform.home / "jobs" / job_id)


def rows() -> list[bytes]:
    """The glosses as JSONL, some of them broken, so that there are errors to compare as well."""
    lines = gzip.decompress(_GLOSSES.read_bytes()).splitlines(keepends=True)
    for number, index in enumerate(range(0, len(lines), _BROKEN_EVERY)):
        lines[index] = _BROKEN[number % len(_BROKEN)]
    return lines


def _await_end(watch: Watch) -> None:
    until(lambda: watch.has_ended, timeout_s=_PATIENCE_S, what=f"the end of {watch.job_id}")


def _downloads(client: httpx.Client, watch: Watch) -> list[bytes]:
    """Output and errors; asked for again where Redis was killed a moment ago."""
    urls = (watch.job["output_url"], watch.job["errors_url"])
    return [persist(partial(client.get, url), 200).content for url in urls]
