"""What a replica reports of itself, on a clock that the test moves."""

from __future__ import annotations

import pytest

from fyretoolkit.serving.replica import Load
from fyretoolkit.serving.replica_load import ReplicaLoad


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(clock: Clock) -> ReplicaLoad:
    """A replica that just started."""
    return ReplicaLoad(4.0, clock)


def computed(load: ReplicaLoad, clock: Clock, seconds: float) -> None:
    """One run of the model."""
    with load.computing():
        clock.move(seconds)


def test_nothing_happened(load: ReplicaLoad, clock: Clock) -> None:
    """Not even time: an idle replica, no division by zero."""
    idle = {"busy": 0.0, "waiting_s": 0.0, "queued": 0.0}
    assert load.stats() == idle
    clock.move(100)
    assert load.stats() == idle


def test_the_busy_share_is_that_of_the_last_seconds(load: ReplicaLoad, clock: Clock) -> None:
    """Asked every second; what is older than 4 s counts no more."""
    shares = []
    for seconds in (1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0):
        computed(load, clock, seconds)
        clock.move(1 - seconds)
        shares.append(load.stats()["busy"])
    assert shares == pytest.approx([1.0, 1.0, 2.5 / 3, 0.75, 0.5, 0.25, 0.125, 0.0, 0.0])


def test_what_is_short_counts_the_model_or_the_writing_beside_it(load: ReplicaLoad, clock: Clock) -> None:
    computed(load, clock, 1.0)
    with load.writing():
        clock.now += 3.0
    assert load.stats()["busy"] == pytest.approx(0.75)


def test_a_run_that_goes_on_counts(load: ReplicaLoad, clock: Clock) -> None:
    """A model that takes a minute is busy while it does, not only after; and it counts once."""
    clock.move(4)
    load.stats()
    with load.computing():
        for _ in range(6):
            clock.move(1)
            share = load.stats()["busy"]
        assert share == 1.0
    clock.move(2)
    assert load.stats()["busy"] == pytest.approx(0.5)


def test_a_run_that_fails_ends(load: ReplicaLoad, clock: Clock) -> None:
    """Its time counts, the time after it does not."""

    def fail() -> None:
        with load.computing():
            clock.move(1)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    clock.move(3)
    assert load.stats()["busy"] == pytest.approx(0.25)


def test_the_longest_wait_and_all_that_waits(load: ReplicaLoad, clock: Clock) -> None:
    """Of two ingresses, each by what it said last."""
    for said in (Load("a", 9.0, 90), Load("b", 0.1, 3), Load("a", 0.2, 4)):
        with load.answering(said):
            clock.move(0.1)
    stats = load.stats()
    assert (stats["waiting_s"], stats["queued"]) == (0.2, 7)


def test_what_was_said_long_ago_counts_no_more(load: ReplicaLoad, clock: Clock) -> None:
    """2 s after the call ended; one that is still being answered counts on, however slow the model is."""
    slow = load.answering(Load("slow", 5.0, 10))
    slow.__enter__()
    with load.answering(Load("gone", 7.0, 1)):
        clock.move(1.0)
    clock.move(1.5)
    assert load.stats()["waiting_s"] == 7.0
    clock.move(60)
    assert (load.stats()["waiting_s"], load.stats()["queued"]) == (5.0, 10)
    slow.__exit__(None, None, None)
    clock.move(2.1)
    assert load.stats()["waiting_s"] == 0.0


def test_ingresses_that_came_and_went_are_forgotten(load: ReplicaLoad, clock: Clock) -> None:
    """Also while nobody asks for the numbers, as in a deployment of a fixed number."""
    for number in range(100):
        with load.answering(Load(f"ingress-{number}", 0.0, 0)):
            clock.move(1.0)
    assert len(load._told) <= 4


def test_a_replica_that_is_asked_all_the_time_keeps_no_history(load: ReplicaLoad, clock: Clock) -> None:
    """No more marks than its window needs."""
    for _ in range(1000):
        clock.move(0.5)
        load.stats()
    assert len(load._computing._marks) <= 10
