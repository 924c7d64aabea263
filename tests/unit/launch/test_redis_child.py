"""When a Redis that ended is started again, by a clock of the test's own."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from fyretoolkit.launch import redis_child
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.redis_child import RedisChild


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the module, whose processes are numbers here."""
    clock, pids = Clock(), count(1)
    monkeypatch.setattr(redis_child, "time", clock)
    monkeypatch.setattr(redis_child.children, "spawn", lambda *_, **__: next(pids))
    monkeypatch.setattr(redis_child.embedded, "is_answering", lambda _: True)
    return clock


def pauses_s(clock: Clock, folder: Path, lives_s: list[float], code: int = 1) -> list[float]:
    """How long it was away after each of these lives; `code` is how it ended."""
    redis = RedisChild(Home(folder), folder, environment={}, note=lambda *_: None)
    redis.start()
    assert redis.is_answering()
    found = []
    for life_s in lives_s:
        clock.now += life_s
        ended, pid, ended_at = {redis.pid: code}, redis.pid, clock.now
        redis.revive_if_ended(ended)
        while redis.pid == pid:
            clock.now += 0.5
            redis.revive_if_ended(ended)
        found.append(clock.now - ended_at)
    return found


def test_one_that_ends_again_and_again_is_left_alone_for_longer(clock: Clock, tmp_path: Path) -> None:
    """A full disk: the first time at once, then after 1, 2, 4, 8 and never more than 10 s."""
    assert pauses_s(clock, tmp_path, [600, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]) == [0, 1, 2, 4, 8, 10, 10]


def test_one_that_served_meanwhile_is_started_at_once(clock: Clock, tmp_path: Path) -> None:
    """It was killed, not stopped by its disk. Fifteen kills in five minutes made a job wait 10 s for each."""
    assert pauses_s(clock, tmp_path, [600, 15, 15, 15, 15]) == [0, 0, 0, 0, 0]
    assert pauses_s(clock, tmp_path, [600, 0.2, 0.2, 15, 0.2]) == [0, 1, 2, 0, 1]


def test_one_that_is_killed_again_and_again_is_away_for_a_second(clock: Clock, tmp_path: Path) -> None:
    """A signal says nothing of its disk."""
    assert pauses_s(clock, tmp_path, [600, 0.2, 0.2, 0.2, 0.2], code=-9) == [0, 1, 1, 1, 1]


def test_a_new_one_under_a_pid_that_had_ended_is_not_taken_for_dead(clock: Clock, tmp_path: Path) -> None:
    """Two servers wrote one file then, and what the first one acknowledged was lost."""
    redis = RedisChild(Home(tmp_path), tmp_path, environment={}, note=lambda *_: None)
    redis.start()
    assert redis.is_answering()
    ended = {redis.pid: -9, redis.pid + 1: 0}
    clock.now += 600
    redis.revive_if_ended(ended)
    assert (redis.pid, ended) == (2, {})
    redis.revive_if_ended(ended)
    assert (redis.pid, redis.restarts) == (2, 1)
