"""`scripts/chaos batch`: what it judges by, on records made by hand."""

from __future__ import annotations

import re
from dataclasses import replace

from fyretoolkit.settings import PROJECT_ROOT
from scripts.trials.batch import BLOWS, POOLED_BLOWS, rows
from scripts.trials.faults.blows import Blow, Kind
from scripts.trials.faults.recovery import DisturbedJob, Hit, judge, judge_reach, judge_times, table

RUNNER, REDIS = Blow(Kind.RUNNER, "commit.before"), Blow(Kind.REDIS, "commit.after", is_held=True)
JOB = DisturbedJob(
    "job_1",
    "completed",
    is_output_alike=True,
    is_monotone=True,
    committed_at={shard: 100.0 + shard for shard in range(40)},
    events=[
        {"at": 99.0, "event": "shard_started", "shard": 0},
        {"at": 99.9, "event": "shard_committed", "shard": 0},
        {"at": 100.5, "event": "shard_started", "shard": 1},
    ],
    hits=[Hit(RUNNER, 100.1, 1.0), Hit(RUNNER, 101.0, 9.0), Hit(RUNNER, 102.0, 2.0), Hit(REDIS, 103.0, 4.0)],
)


def missed(job: DisturbedJob) -> list[str]:
    """The findings that a job does not meet, by their first words."""
    findings = [*judge([job]), *judge_times([job]), *judge_reach([job], 4)]
    return [" ".join(finding.what.split()[:2]) for finding in findings if not finding.is_met]


def test_sixty_kills_are_planned():
    """Fifteen of each, at least one before and one after the commit of each kind."""
    planned = [blow for job in BLOWS for blow in job] + [*POOLED_BLOWS]
    assert len(planned) == 60
    for kind in (Kind.RUNNER, Kind.WORKER, Kind.CONTROLLER, Kind.REDIS):
        points = [blow.point for blow in planned if blow.kind is kind]
        assert len(points) == 15
        assert {"part.aside", "commit.before", "commit.after"} <= {*points}


def test_a_job_that_stood_it_meets_all():
    """And the table has the medians."""
    assert missed(JOB) == []
    assert "| the runner | 3 | commit.before 3 × | 2.0 s, 9.0 s |" in table([JOB])


def test_each_defect_is_told():
    """By the line that it breaks, and no other."""
    again = [*JOB.events, {"at": 101.2, "event": "shard_started", "shard": 1}]
    twice = [*JOB.events, {"at": 102.0, "event": "shard_committed", "shard": 0}]
    slow = [Hit(RUNNER, 100.0, 6.0), *JOB.hits[1:]]
    fewer = {shard: 100.0 + shard for shard in range(39)}
    assert missed(replace(JOB, status="failed")) == ["0 of"]
    assert missed(replace(JOB, is_output_alike=False)) == ["output and"]
    assert missed(replace(JOB, is_monotone=False)) == ["jobs whose"]
    assert missed(replace(JOB, events=again)) == ["shards that"]
    assert missed(replace(JOB, events=twice)) == ["shards that"]
    assert missed(replace(JOB, hits=slow)) == ["the runner"]
    assert missed(replace(JOB, hits=JOB.hits[1:])) == ["the runner", "kills: 3"]
    assert missed(replace(JOB, committed_at=fewer)) == ["shards of"]


def test_some_rows_are_broken():
    """So that there are errors to compare, and never two alike in a line."""
    lines = rows()
    assert len(lines) == 2942
    assert 20 < sum(b"broken" in line for line in lines) < 50


def test_every_point_is_in_the_code():
    """One that was renamed would be missed minutes later."""
    files = [
        *(PROJECT_ROOT / "batch").glob("*.py"),
        PROJECT_ROOT / "platform" / "fyretoolkit" / "control" / "jobs.py",
    ]
    code = "".join(path.read_text("utf-8") for path in files)
    reached = set(re.findall(r'reach(?:_async)?\("([\w.]+)"', code))
    assert {blow.point for job in (*BLOWS, POOLED_BLOWS) for blow in job} <= reached
