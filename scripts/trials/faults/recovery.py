"""What a trial of batch jobs under `kill -9` has shown: a table of the kills, and the lines that must hold."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.behaviour.stage import Finding
from scripts.trials.faults.blows import Blow, Kind

MOST_RECOVERY_S = 5.0
FEWEST_SHARDS = 40
_SHOWN = 5

Event = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Hit:
    """A blow that was dealt. `recovered_after_s`: until the next commit, or the job's end where none was left."""

    blow: Blow
    at: float
    recovered_after_s: float


@dataclass(frozen=True, slots=True)
class DisturbedJob:
    """One job, from its creation to its end."""

    id: str
    status: str
    """Empty if it did not end in time."""
    is_output_alike: bool
    """Output and errors, to the byte, as of the undisturbed run."""
    is_monotone: bool
    committed_at: Mapping[int, float]
    """By shard, when Redis was first seen to have it."""
    events: Sequence[Event]
    """The job's log."""
    hits: Sequence[Hit]
    """The kills whose step came."""

    @property
    def shard_count(self) -> int:
        """Of all runs together: each shard once."""
        return len(self.committed_at)

    def repeated(self) -> list[str]:
        """Shards that began once more after Redis was seen to have them; those that were committed twice."""
        found = [
            f"shard {event['shard']} of {self.id} began again"
            for event in self.events
            if event["event"] == "shard_started"
            if self.committed_at.get(int(str(event["shard"])), math.inf) < float(str(event["at"]))
        ]
        commits = Counter(event["shard"] for event in self.events if event["event"] == "shard_committed")
        return [
            *found,
            *(f"shard {shard} of {self.id} twice" for shard, times in commits.items() if times > 1),
        ]


def table(jobs: Sequence[DisturbedJob]) -> str:
    """The kills by kind, in Markdown."""
    lines = ["| killed | times | at | next commit after (median, longest) |", "|---|---|---|---|"]
    for kind, hits in _by_kind(jobs).items():
        points = Counter(hit.blow.point for hit in hits)
        seconds = [hit.recovered_after_s for hit in hits]
        where = ", ".join(f"{point} {times} ×" for point, times in points.items())
        median, longest = statistics.median(seconds), max(seconds)
        lines.append(f"| {kind} | {len(hits)} | {where} | {median:.1f} s, {longest:.1f} s |")
    return "\n".join(lines)


def judge(jobs: Sequence[DisturbedJob]) -> list[Finding]:
    """What must hold whenever the kills come."""
    hits = [hit for job in jobs for hit in job.hits]
    unended = [f"{job.id}: {job.status or 'not ended'}" for job in jobs if job.status != "completed"]
    unlike = [job.id for job in jobs if not job.is_output_alike]
    repeated = [text for job in jobs for text in job.repeated()]
    back = [job.id for job in jobs if not job.is_monotone]
    return [
        Finding(
            f"{len(jobs) - len(unended)} of {len(jobs)} jobs completed under {len(hits)} kills{_shown(unended)}",
            not unended,
        ),
        Finding(
            f"output and errors as of the undisturbed run, to the byte: {len(jobs) - len(unlike)} of {len(jobs)}"
            + _shown(unlike),
            not unlike,
        ),
        Finding(
            f"shards that ran again though they were committed: {len(repeated)}{_shown(repeated)}",
            not repeated,
        ),
        Finding(f"jobs whose progress went back: {len(back)}{_shown(back)}", not back),
    ]


def judge_times(jobs: Sequence[DisturbedJob]) -> list[Finding]:
    """How long each kind of kill stopped a job."""
    findings = []
    for kind, hits in _by_kind(jobs).items():
        seconds = [hit.recovered_after_s for hit in hits]
        median = statistics.median(seconds)
        findings.append(
            Finding(
                f"{kind} killed {len(hits)} ×: the next commit after {median:.1f} s (median, ≤ {MOST_RECOVERY_S:g} s),"
                f" {max(seconds):.1f} s (longest)",
                median <= MOST_RECOVERY_S,
            )
        )
    return findings


def judge_reach(jobs: Sequence[DisturbedJob], planned: int) -> list[Finding]:
    """That there was enough to see it."""
    dealt = sum(len(job.hits) for job in jobs)
    fewest = min(job.shard_count for job in jobs)
    return [
        Finding(f"kills: {dealt} of {planned}", dealt == planned),
        Finding(f"shards of a job: {fewest} at least (≥ {FEWEST_SHARDS})", fewest >= FEWEST_SHARDS),
    ]


def _by_kind(jobs: Sequence[DisturbedJob]) -> dict[Kind, list[Hit]]:
    found: dict[Kind, list[Hit]] = {}
    for job in jobs:
        for hit in job.hits:
            found.setdefault(hit.blow.kind, []).append(hit)
    return found


def _shown(problems: Sequence[str]) -> str:
    return f": {', '.join(problems[:_SHOWN])}" if problems else ""
