"""What a trial of deployments under `kill -9` has shown: a table of the kills, and the lines that must hold."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.benchmarks.behaviour.stage import Finding
from scripts.trials.faults.aftermath import Aftermath
from scripts.trials.faults.churn import Deploy
from scripts.trials.faults.kills import Kill
from scripts.trials.faults.steady import Call

MOST_FAILED = 0.001
"""Of predictions, after one retry."""
_SHOWN = 5
_BETWEEN_DEPLOYS = ("", "deleting")


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen from the first prediction to the last look."""

    kills: Sequence[Kill]
    calls: Sequence[Call]
    deploys: Sequence[Deploy]
    aftermath: Aftermath


@dataclass(frozen=True, slots=True)
class Row:
    """The kills of one kind, and the predictions from each of them to the next kill."""

    kind: str
    kills: Sequence[Kill]
    calls: Sequence[Call]

    @property
    def mid_deploy(self) -> int:
        """Kills while a deployment was on its way."""
        return sum(kill.stage not in _BETWEEN_DEPLOYS for kill in self.kills)

    def __str__(self) -> str:
        at_first = sum(bool(call.failures) for call in self.calls)
        failed = sum(call.is_failed for call in self.calls)
        said = Counter(failure for call in self.calls for failure in call.failures)
        back = [kill.back_after_s for kill in self.kills]
        cells = (
            self.kind,
            f"{len(self.kills)} ({self.mid_deploy})",
            f"{len(self.calls):,}",
            f"{at_first}" + (f" ({_listed(said)})" if said else ""),
            f"{failed}",
            f"{statistics.median(back):.1f} s, {max(back):.1f} s",
        )
        return f"| {' | '.join(cells)} |"


def rows(trial: Trial) -> list[Row]:
    """One for each kind of kill, in the order of their first."""
    kinds = list(dict.fromkeys(kill.victim.kind for kill in trial.kills))
    killed_at = [kill.at for kill in trial.kills]
    calls: dict[str, list[Call]] = {kind: [] for kind in kinds}
    for call in trial.calls:
        before = [kill for kill, at in zip(trial.kills, killed_at, strict=True) if at <= call.ended_at]
        if before:
            calls[before[-1].victim.kind].append(call)
    return [
        Row(kind, [kill for kill in trial.kills if kill.victim.kind == kind], calls[kind]) for kind in kinds
    ]


def table(trial: Trial) -> str:
    """In Markdown."""
    heads = (
        "killed",
        "times (during a deploy)",
        "predictions until the next kill",
        "failed at first",
        "failed after a retry",
        "back after (median, longest)",
    )
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *map(str, rows(trial))])


def judge(trial: Trial) -> list[Finding]:
    """What must hold whenever the kills come."""
    return [*_judge_calls(trial), *_judge_deploys(trial)]


def judge_reach(trial: Trial, *, min_calls: int) -> list[Finding]:
    """That there was enough to see it."""
    during = {row.kind: row.mid_deploy for row in rows(trial)}
    return [
        Finding(f"predictions: {len(trial.calls):,} (≥ {min_calls:,})", len(trial.calls) >= min_calls),
        Finding(
            f"killed during a deploy: {', '.join(f'{kind} {times} ×' for kind, times in during.items())}",
            all(during.values()),
        ),
    ]


def _judge_calls(trial: Trial) -> list[Finding]:
    calls = trial.calls
    failed, wrong = [call for call in calls if call.is_failed], [call.wrong for call in calls if call.wrong]
    said = Counter(failure for call in failed for failure in call.failures)
    share = len(failed) / len(calls)
    return [
        Finding(
            f"failed after one retry: {len(failed)} of {len(calls):,} predictions, {share:.3%} (≤ {MOST_FAILED:.1%})"
            + (f": {_listed(said)}" if said else ""),
            share <= MOST_FAILED,
        ),
        Finding(f"wrong answers: {len(wrong)} of {len(calls):,} {wrong[:1] or ''}".rstrip(), not wrong),
    ]


def _judge_deploys(trial: Trial) -> list[Finding]:
    deploys, after = trial.deploys, trial.aftermath
    unfinished = [
        f"{each.id}: {each.error or 'not ready'}" for each in deploys if each.error or not each.ready_after_s
    ]
    took = [each.ready_after_s for each in deploys if each.ready_after_s is not None]
    deleted = sum(each.is_deleted for each in deploys)
    missing, more = after.accepted - {*after.listed}, {*after.listed} - after.accepted
    return [
        Finding(
            f"deploys that became ready and answered rightly: {len(deploys) - len(unfinished)} of {len(deploys)}"
            + (
                f", after {statistics.median(took):.1f} s (median), {max(took):.1f} s (longest)"
                if took
                else ""
            )
            + _shown(unfinished),
            bool(deploys) and not unfinished,
        ),
        Finding(
            f"accepted and there: {len(after.accepted & {*after.listed})} of {len(after.accepted)};"
            f" one deployment for each of {len(deploys)} idempotency keys{_shown([*missing, *more, *after.unlike])}",
            not (missing or more or after.unlike) and len(after.listed) == len({*after.listed}),
        ),
        Finding(
            f"applications of Serve for models: {_range(after.applications)} (one for each of "
            f"{len(after.accepted) + 1} deployments and those that stand by: {after.wanted}){_shown(after.unserved)}",
            {*after.applications} == {after.wanted} and not after.unserved,
        ),
        Finding(
            f"deletions that ended: {deleted} of {len(deploys) - 1}; came back: {len(after.returned)}"
            + _shown(after.returned),
            deleted == len(deploys) - 1 and not after.returned,
        ),
    ]


def judge_times(trial: Trial) -> list[Finding]:
    """How long what was killed was away."""
    longest = {
        kill.victim: max(each.back_after_s for each in trial.kills if each.victim == kill.victim)
        for kill in trial.kills
    }
    return [
        Finding(
            f"{victim.kind} is back after {seconds:.1f} s at most (≤ {victim.within_s:g} s)"
            if math.isfinite(seconds)
            else f"{victim.kind} did not come back",
            seconds <= victim.within_s,
        )
        for victim, seconds in longest.items()
    ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common())


def _range(counts: Sequence[int]) -> str:
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _shown(problems: Sequence[str]) -> str:
    return f"; not: {', '.join(problems[:_SHOWN])}" if problems else ""
