"""Kills at the named steps of a batch job (`batch.failpoints`): whose, where, and how they are dealt.

A runner, a worker or a controller dies by its own hand at the point. Where another process is to die at a step of the
job, whoever takes that step is held there, the other one killed, and the step goes on.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from batch.failpoints import LOG, RULES
from tests.support.platform import RunningPlatform, until

_POLL_S = 0.02
_PATIENCE_S = 240.0


class Kind(StrEnum):
    """Who is killed."""

    RUNNER = "the runner"
    WORKER = "a worker beside the runner"
    CONTROLLER = "our controller"
    REDIS = "Redis"
    EVERYTHING = "everything"


TITLES = {
    Kind.RUNNER: ("ray::RunnerActor",),
    Kind.WORKER: ("batch.hands",),
    Kind.CONTROLLER: ("ray::ControllerActor",),
    Kind.REDIS: ("valkey-server", "redis-server"),
}
"""Parts of the command lines of such processes."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One kill that is to happen. `is_held`: somebody else takes the step meanwhile."""

    kind: Kind
    point: str
    nth: int = 1
    """Of the times that the point is reached from now on."""
    is_held: bool = False

    def __str__(self) -> str:
        when = f" ({self.nth}.)" if self.nth > 1 else ""
        return f"{self.kind} at {self.point}{when}"


class NotReachedError(Exception):
    """The job went by without the step at which somebody was to die."""


def arm(platform: RunningPlatform, blow: Blow, number: int) -> str:
    """From now on whoever comes to the blow's step dies or is held; the rule that says so, of all rules the only one.

    `number` tells it from every other of this platform.
    """
    action = "hold" if blow.is_held else f"kill@{blow.nth} {TITLES[blow.kind][0]}"
    rule = f"{blow.point} {action} # {number}"
    give_rules(platform, rule)
    return rule


def await_dealt(platform: RunningPlatform, blow: Blow, rule: str, is_over: Callable[[], bool]) -> float:
    """When the blow that was armed by `rule` was dealt, by the clock.

    Raises:
        NotReachedError: the job ended first, or the step did not come in four minutes.
    """
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while (reached_at := _acted_at(platform, rule)) is None:
            if is_over() or time.monotonic() > deadline:
                raise NotReachedError(str(blow))
            time.sleep(_POLL_S)
        return _kill(platform, blow) if blow.is_held else reached_at
    finally:
        give_rules(platform)


def give_rules(platform: RunningPlatform, *rules: str) -> None:
    """What holds in a platform from now on; a process sees all of them or none."""
    aside = platform.home / f".{RULES}"
    aside.write_text("\n".join(rules), "utf-8")
    aside.replace(platform.home / RULES)


def _acted_at(platform: RunningPlatform, rule: str) -> float | None:
    log = Path(platform.home / LOG)
    for line in log.read_bytes().splitlines() if log.exists() else []:
        found = json.loads(line)
        if found["rule"] == rule:
            return float(found["at"])
    return None


def _kill(platform: RunningPlatform, blow: Blow) -> float:
    """`kill -9` the one process of its kind; one that a blow before has ended may not be back yet."""
    victim = until(lambda: _only(platform, blow.kind), timeout_s=_PATIENCE_S, what=f"{blow.kind} to kill")
    at = time.time()
    os.kill(victim.pid, signal.SIGKILL)
    return at


def _only(platform: RunningPlatform, kind: Kind) -> psutil.Process | None:
    found = [each for title in TITLES[kind] for each in platform.titled(title)]
    return found[0] if len(found) == 1 else None
