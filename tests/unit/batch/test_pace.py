"""How fast shards get on, by a clock that a test holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from batch.pace import Pace, Pacing


class Clock:
    """The time that a pacing reads."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moved by the test alone."""
    clock = Clock()
    monkeypatch.setattr("batch.pace.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_there_is_no_pace_before_a_shard_is_done(clock: Clock) -> None:
    """However long it takes: that is the start."""
    pacing = Pacing()
    assert pacing.pace == Pace()
    pacing.note_start("runner")
    clock.now += 1000
    assert pacing.pace == Pace(0.0, 1)


def test_the_start_is_left_out(clock: Clock) -> None:
    """A first shard that took 30 s, then one each second."""
    pacing = Pacing()
    pacing.note_start("runner")
    clock.now += 30
    pacing.note_done("runner")
    assert pacing.pace == Pace(0.0, 1)
    for _ in range(10):
        clock.now += 1
        pacing.note_done("runner")
    assert pacing.pace == Pace(10.0, 11)


def test_the_pace_falls_while_nothing_gets_done(clock: Clock) -> None:
    """A second shard that takes minutes says so before its end."""
    pacing = Pacing()
    pacing.note_start("runner")
    pacing.note_done("runner")
    clock.now += 60
    assert pacing.pace == Pace(60.0, 1)


def test_a_hand_that_begins_takes_the_pace_with_it(clock: Clock) -> None:
    """Alone the runner is slower than both will be: nothing is known until the hand has done a shard as well."""
    pacing = Pacing()
    pacing.note_start("runner")
    pacing.note_done("runner")
    clock.now += 20
    pacing.note_start("hand")
    assert pacing.pace == Pace()
    pacing.note_done("runner")
    clock.now += 20
    assert pacing.pace == Pace()
    pacing.note_done("hand")
    assert pacing.pace == Pace(0.0, 1)
    clock.now += 2
    pacing.note_done("runner")
    pacing.note_done("hand")
    assert pacing.pace == Pace(2.0, 3)


def test_a_hand_that_dies_in_silence_is_not_waited_for(clock: Clock) -> None:
    """One that has done shards takes nothing back."""
    pacing = Pacing()
    for worker in ("runner", "hand"):
        pacing.note_start(worker)
    pacing.note_done("runner")
    clock.now += 20
    pacing.note_loss("hand")
    assert pacing.pace == Pace(0.0, 1)
    clock.now += 3
    pacing.note_loss("runner")
    assert pacing.pace == Pace(3.0, 1)
