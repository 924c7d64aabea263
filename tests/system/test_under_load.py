"""The running platform under more than it is used to: what `scripts/bench` mixed and overload measure, in short."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from scripts.benchmarks.behaviour.mixture import Entry, digits, sentiment
from scripts.benchmarks.behaviour.patience import Plan, call_patiently, statuses_of
from scripts.benchmarks.behaviour.stage import deploy, target_of
from scripts.benchmarks.beside import glosses, measure
from scripts.benchmarks.beside import judge as judge_beside
from scripts.benchmarks.comparison.workloads import WORKLOADS, Workload
from scripts.benchmarks.mixed import Round, judge, missing_kinds, prepare, start
from tests.support.platform import RunningPlatform
from tests.support.sentences import sentence

pytestmark = pytest.mark.system

_MOST_ROUNDS = 30
_CALLERS = 150
_MOST_TRIES = 20


@sentence("predict-27")
def test_every_request_among_others_is_answered_as_if_it_were_alone(platform: RunningPlatform) -> None:
    """Two models at once, one request in a hundred wrong: right answers are those to the same request made alone.

    Every wrong one is told what is wrong with it. The load lasts until each kind was among it.
    """
    prepared = [(workload, prepare(platform, workload)) for workload in (digits(), sentiment())]
    rounds: list[list[Round]] = [[] for _ in prepared]
    while not rounds[0] or any(map(missing_kinds, rounds)):
        assert len(rounds[0]) < _MOST_ROUNDS, "answers are few"
        turned = [_turned(entries, known) for (_, entries), known in zip(prepared, rounds, strict=True)]
        loads = [
            start(platform, workload, entries, 32, 2.0)
            for (workload, _), entries in zip(prepared, turned, strict=True)
        ]
        for known, entries, load in zip(rounds, turned, loads, strict=True):
            known.append(Round(entries, load.report()))
    for (workload, _), known in zip(prepared, rounds, strict=True):
        assert [finding.what for finding in judge(workload.name, known) if not finding.is_met] == []


def _turned(entries: Sequence[Entry], known: Sequence[Round]) -> list[Entry]:
    """The entries, beginning with the first that was not answered in the rounds before."""
    first = sum(len(each.report.samples) for each in known) % len(entries)
    return [*entries[first:], *entries[:first]]


@pytest.fixture
def slow(platform: RunningPlatform, client: httpx.Client, tmp_path: Path) -> Iterator[Workload]:
    """A deployed model that no CPU runs a hundred times a second."""
    workload = WORKLOADS["transformer"](tmp_path)
    name = deploy(platform, workload)["id"]
    yield workload
    client.delete(f"/deployments/{name}").raise_for_status()


@sentence("predict-26")
def test_who_is_refused_and_obeys_is_served(platform: RunningPlatform, slow: Workload) -> None:
    """150 callers at once of what does not serve as many in a second: answers and refusals that say when to return."""
    target = target_of(platform, slow.name, slow.bodies)
    records = asyncio.run(call_patiently(target, Plan(_CALLERS, max_tries=_MOST_TRIES)))
    answers = [answer for record in records for answer in record.answers]
    assert set(statuses_of(records)) == {200, 503}
    refusals = [answer for answer in answers if answer.status == 503]
    assert all(b'"overloaded"' in answer.body and answer.retry_after_s >= 1 for answer in refusals)
    assert [record.given_up for record in records] == [0] * _CALLERS
    assert [len(record.tries) for record in records] == [1] * _CALLERS


def test_a_job_gets_on_beside_predictions_that_are_all_answered(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """Neither starves the other: what `scripts/bench beside` measures, in short."""
    workload = sentiment(requests=100, rows=(1,))
    target = target_of(platform, workload.name, workload.bodies)
    alone, beside = measure(platform, target, glosses(tmp_path, 50), rate_per_s=50, seconds=3.0, rounds=1)
    findings = judge_beside(alone, beside)
    assert [finding.what for finding in findings[1:] if not finding.is_met] == []
