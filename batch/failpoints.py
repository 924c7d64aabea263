"""Named points at which a trial breaks a running platform: `kill -9`, an error, a delay, at exactly this step.

A platform in development mode that was started with FYRE_FAILPOINTS=1 looks, at each point, into
`$FYRE_HOME/failpoints`: one rule a line, and the file may change at any time. A process that was started without it
passes every point at the cost of one comparison.

    commit.before kill                    the process that reaches it first dies there
    part.aside=17 kill@2 ray::MapWorker   the second time that shard 17 gets there in a process of such a title
    commit.after hold # 3                 waits there until the line is gone; what follows `#` tells equal rules apart
    finish.before raise                   a FailpointError
    stage.after sleep(2.5)                seconds

A rule acts once in the life of the platform, counted over all its processes: one that is started again passes where
its predecessor died. What acted is told by `$FYRE_HOME/failpoints.log`. Rejected: rules in the environment, which Ray
hands to every process that it starts in a dead one's place.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

RULES = "failpoints"
LOG = "failpoints.log"
_COUNTS = "failpoints.counts"
_HOLD_POLL_S = 0.02
_RULE = re.compile(
    r"(?P<name>[\w.]+)(?:=(?P<detail>\S+))? +(?P<action>kill|raise|hold|sleep\((?P<seconds>[0-9.]+)\))"
    r"(?:@(?P<nth>[1-9][0-9]*))?(?: +(?P<title>[^\s#]+))? *(?:#.*)?"
)


class FailpointError(RuntimeError):
    """What a rule `raise` makes of a point."""


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    name: str
    detail: str | None
    action: str
    seconds: float
    nth: int
    title: str | None


def home_of(environ: Mapping[str, str]) -> Path | None:
    """The folder whose rules hold for a process of this environment; None: no rule does."""
    is_development = (environ.get("FYRE_MODE") or "development") == "development"
    if environ.get("FYRE_FAILPOINTS") != "1" or not is_development or not environ.get("FYRE_HOME"):
        return None
    return Path(environ["FYRE_HOME"])


_home = home_of(os.environ)


def reach(name: str, detail: str = "") -> None:
    """Say that this process is about to do what comes after the point `name`; `detail` tells its times apart.

    Raises:
        FailpointError: a rule wants that.
    """
    if _home is not None:
        for waits in _acting(_home, name, detail):
            time.sleep(waits)


async def reach_async(name: str, detail: str = "") -> None:
    """As `reach`, where the rest of an event loop goes on while this waits."""
    if _home is not None:
        for waits in _acting(_home, name, detail):
            await asyncio.sleep(waits)


def _acting(home: Path, name: str, detail: str) -> Iterator[float]:
    """Does what the rules say of this point, and gives the seconds that are to be waited meanwhile."""
    for rule in _rules(home):
        if rule.name != name or rule.detail not in (None, detail) or not _is_here(rule.title):
            continue
        if _count(home, rule.text) != rule.nth:
            continue
        _log(home, rule.text, name, detail)
        if rule.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif rule.action == "raise":
            raise FailpointError(f"{name} {detail}".strip())
        elif rule.action == "hold":
            while any(each.text == rule.text for each in _rules(home)):
                yield _HOLD_POLL_S
        else:
            yield rule.seconds


def _rules(home: Path) -> list[_Rule]:
    try:
        lines = (home / RULES).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [_parsed(line) for line in lines if line.strip()]


def _parsed(line: str) -> _Rule:
    found = _RULE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"not a rule of a failpoint: {line!r}")
    return _Rule(
        line,
        found["name"],
        found["detail"],
        found["action"],
        float(found["seconds"] or 0),
        int(found["nth"] or 1),
        found["title"],
    )


def _is_here(title: str | None) -> bool:
    """Whether this process has such a title, which Ray sets as its command line."""
    if title is None:
        return True
    with suppress(OSError):
        return title.encode() in Path("/proc/self/cmdline").read_bytes()
    return False


def _count(home: Path, rule: str) -> int:
    """How often the rule was met, with this time. An append tells each process its own place, without a lock."""
    folder = home / _COUNTS
    folder.mkdir(exist_ok=True)
    path = folder / hashlib.sha256(rule.encode()).hexdigest()[:32]
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b".")
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)


def _log(home: Path, rule: str, name: str, detail: str) -> None:
    """Before it acts: a process that dies there can tell no more."""
    line = {"at": time.time(), "pid": os.getpid(), "rule": rule, "name": name, "detail": detail}
    with (home / LOG).open("ab", buffering=0) as file:
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
