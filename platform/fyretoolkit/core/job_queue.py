"""The order of the queue: fair between organizations, first come first served within each.

A job's *round* is the number of its organization's jobs that run or begin before it. The lowest round is next; in a
round, those go first whose organization has more of them running, then those whose organization had its last start
longest ago. So one organization's five hundred jobs never keep another's first one waiting for more than a free slot.
Rejected: one line for all, which whoever comes first fills; weights, as nobody has asked for them yet.

The order is known without simulating it: starting the first job leaves the order of the others as it was
(`tests/unit/core/test_job_queue.py` holds the two against each other). It changes when jobs come and end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Line:
    """What the queue holds of one organization."""

    org: str
    waiting: int
    running: int
    started_ms: int
    """When a job of it left the queue last; 0: never."""

    @property
    def order(self) -> tuple[int, int, str]:
        """Among those with a job in the same round: who goes first is least."""
        return -self.running, self.started_ms, self.org

    @property
    def next_in(self) -> tuple[int, int, str]:
        """Of all lines with a job waiting, the next job is of the one with the least."""
        return self.running, self.started_ms, self.org


def position(lines: Iterable[Line], own: Line, before: int) -> int:
    """Where the job stands that has `before` others in front of it in its organization's line; 1 is next."""
    round_ = own.running + before
    others = (line for line in lines if line.org != own.org)
    return 1 + before + sum(_in_front(line, round_, own) for line in others)


def _in_front(line: Line, round_: int, own: Line) -> int:
    """How many of the line's jobs begin before one of `own` in this round."""
    up_to = round_ - line.running + (line.order < own.order)
    return min(max(up_to, 0), line.waiting)


def plan_starts(lines: Sequence[Line], *, max_running: int, max_per_organization: int) -> list[str]:
    """Whose jobs to start now, one entry a job, in order."""
    left = list(lines)
    free = max_running - sum(line.running for line in lines)
    starts: list[str] = []
    while len(starts) < free:
        able = [line for line in left if line.waiting and line.running < max_per_organization]
        if not able:
            break
        first = min(able, key=lambda line: line.next_in)
        starts.append(first.org)
        now = max(line.started_ms for line in left) + 1
        left[left.index(first)] = replace(
            first, waiting=first.waiting - 1, running=first.running + 1, started_ms=now
        )
    return starts
