"""Runners that stand by: processes with everything imported and no job, which begin a run at once.

A runner takes seconds to start, nearly all of it imports; a job of ten rows takes a tenth of one. One that had a run
whose job completed stands by a little longer, for its own organization alone: whatever a stranger's model left in
the process must not meet another's rows. Rejected: giving it to anybody (`decisions/0010` says why not), forking a warm
parent (threads of Ray and gRPC do not survive it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ANYBODY = "*"


@dataclass(frozen=True, slots=True)
class StandbyRunner:
    """A runner without a run. Its name is its actor's."""

    name: str
    org: str = ANYBODY
    """The organization whose job it had, which alone may give it another; or `ANYBODY`."""
    is_up: bool = True
    """Whether its process is ready; one that starts begins a run as soon as it can."""

    @property
    def member(self) -> str:
        """As the set of them names it."""
        return f"{self.org} {self.name}"


@dataclass(frozen=True, slots=True)
class GivenRun:
    """A run that was claimed and has its runner."""

    org: str
    job: str
    epoch: int


def choose_runner(standing: Sequence[StandbyRunner], org: str) -> StandbyRunner | None:
    """Who gets the next run of this organization: its own, then one that is up, then one that starts."""
    able = [each for each in standing if each.org in (org, ANYBODY)]
    return min(able, key=lambda each: (each.org != org, not each.is_up, each.name), default=None)


def count_missing(standing: Iterable[StandbyRunner], size: int) -> int:
    """How many more to start, so that `size` stand by for anybody."""
    return max(0, size - sum(each.org == ANYBODY for each in standing))
