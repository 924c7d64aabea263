"""How many replicas are wished: tables by hand, properties, and a load that comes and goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.autoscaling import Goals, Report, Scale, wished_replicas

GOALS = Goals(wait_s=0.1, utilization=0.7)
IDLE = Report(0.0, 0.0, 0)


def busy(*shares: float, waiting_s: float = 0.0, queued: int = 0) -> list[Report]:
    """Replicas that compute for these shares of the time."""
    return [Report(share, waiting_s, queued) for share in shares]


def late(*shares: float, waiting_s: float) -> list[Report]:
    """The same with a queue before them."""
    return busy(*shares, waiting_s=waiting_s, queued=1)


def wished(reports: list[Report], running: int, target: int | None = None, **bounds: int) -> int:
    """The wish within 0 to 8 replicas."""
    scale = Scale(running, running if target is None else target, **{"fewest": 0, "most": 8, **bounds})
    return wished_replicas(reports, scale, goals=GOALS)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (busy(0.7), 1),
        (busy(0.71), 2),
        (busy(0.4, 0.4), 2),
        (busy(0.35, 0.2), 1),
        (busy(0.36, 0.3), 2),
        (busy(0.01, 0, 0, 0), 1),
        (busy(1, 1, 1), 5),
        (busy(0, 0), 0),
        ([Report(0.0, 0.0, 1), IDLE], 1),
    ],
)
def test_where_nobody_waits_the_share_of_busy_time_decides(reports: list[Report], expected: int) -> None:
    """The goal is 0.7; replicas are let go only if those that stay are then below 0.56; unused ones all go."""
    assert wished(reports, len(reports)) == expected


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (late(1.0, waiting_s=0.11), 2),
        (late(0.1, waiting_s=0.11), 2),
        (late(1, 1, 1, waiting_s=5), 5),
        (late(0.2, 0.2, 0.2, waiting_s=5), 4),
        ([Report(0.2, 0.0, 0), Report(0.2, 0.2, 3)], 3),
        (late(1.0, waiting_s=0.1), 2),
        (late(0.5, waiting_s=0.1), 1),
        (busy(0.2, waiting_s=0.4), 1),
    ],
)
def test_where_requests_wait_there_are_more(reports: list[Report], expected: int) -> None:
    """One more at least, by the load if that is more, never over twice as many; 0.1 s is not too long yet.

    A model that takes 0.4 s is no queue: with one request at a time it would grow to the most for nothing.
    """
    assert wished(reports, len(reports)) == expected


def test_at_zero_a_call_that_waits_wakes_one() -> None:
    """And none, none; one that is on its way stays, whether its caller still waits or not."""
    asleep, waking = Scale(0, 0, 0, 4), Scale(0, 1, 0, 4)
    assert wished_replicas([], asleep, goals=GOALS) == 0
    assert wished_replicas([], asleep, goals=GOALS, waiting_calls=50) == 1
    assert wished_replicas([], waking, goals=GOALS) == 1
    assert wished_replicas([], replace(waking, target=3), goals=GOALS, waiting_calls=1) == 3


def test_none_is_let_go_on_half_the_reports() -> None:
    """Two of three reported, both idle: the third may be the busy one."""
    assert wished(busy(0, 0), 3) == 3
    assert wished(busy(0, 0), 3, fewest=1, most=2) == 2


def test_replicas_on_their_way_are_waited_for() -> None:
    """4 are aimed at and 2 run: no fewer while requests wait, and not twice 4."""
    assert wished(late(1, 1, waiting_s=3), 2, target=4) == 4
    assert wished(busy(0.7, 0.7), 2, target=4) == 3
    assert wished(busy(0, 0), 2, target=4) == 0


REPORTS = st.builds(Report, st.floats(0, 1), st.floats(0, 60), st.integers(0, 4096))


@given(st.lists(REPORTS, max_size=20), st.integers(0, 20), st.integers(0, 5), st.integers(1, 20))
def test_a_wish_stays_within_its_bounds_and_within_twice_of_what_runs(
    reports: list[Report], target: int, fewest: int, more: int
) -> None:
    """Whatever is reported. Longer waits never make it smaller."""
    scale = Scale(len(reports), target, fewest, fewest + more)
    wish = wished_replicas(reports, scale, goals=GOALS)
    assert fewest <= wish <= fewest + more
    assert wish <= max(2 * len(reports), target, fewest)
    waiting = [
        replace(report, waiting_s=report.waiting_s + 1, queued=report.queued + 1) for report in reports
    ]
    assert wished_replicas(waiting, scale, goals=GOALS) >= wish


def spread(work: float, replicas: int) -> list[Report]:
    """A steady load of `work` replicas' time on so many; what is too much waits."""
    is_late = work > replicas
    return [Report(min(work / replicas, 1.0), 1.0 if is_late else 0.0, int(is_late))] * replicas


@given(st.floats(0.01, 14), st.integers(1, 20))
def test_a_steady_load_comes_to_rest(work: float, start: int) -> None:
    """From any number, at one where no replica is busier than the goal, and stays there: no flapping."""
    replicas = start
    for _ in range(10):
        replicas = wished(spread(work, replicas), replicas, fewest=1, most=20)
    assert wished(spread(work, replicas), replicas, fewest=1, most=20) == replicas
    assert work / replicas <= 0.7 + 1e-9


class Simulation:
    """A queue of one second at most before replicas that each do one unit of work a second and start in 4 s.

    Wishes count as Serve counts them: once they lasted for the delay of their direction.
    """

    START_S = 4
    UP_S, DOWN_S, ZERO_S = 2, 30, 60

    def __init__(self, fewest: int, most: int) -> None:
        self.fewest, self.most = fewest, most
        self.now = 0
        self.queue = 0.0
        self.target = self.running = max(fewest, 1)
        self.ready_at: list[int] = []
        self.since: tuple[int, int] | None = None
        self.seen = [self.running]

    def second(self, arriving: float) -> None:
        """One second of so much work."""
        self.now += 1
        while self.ready_at and self.ready_at[0] <= self.now:
            self.ready_at.pop(0)
            self.running += 1
        self.queue = min(self.queue + arriving, 2.0 * self.running)
        done = min(self.queue, self.running)
        self.queue -= done
        each = Report(
            done / self.running if self.running else 0,
            self.queue / self.running if self.running else 0,
            self.queue,
        )
        scale = Scale(self.running, self.target, self.fewest, self.most)
        wish = wished_replicas([each] * self.running, scale, goals=GOALS, waiting_calls=arriving)
        self._scale(wish)
        self.seen.append(self.running)

    def _scale(self, wish: int) -> None:
        direction = (wish > self.target) - (wish < self.target)
        if not direction:
            self.since = None
            return
        if self.since is None or self.since[0] != direction:
            self.since = direction, self.now
        delay = self.UP_S if direction > 0 else self.ZERO_S if self.target == 1 else self.DOWN_S
        if self.running == 0:
            delay = 0
        if self.now - self.since[1] < delay:
            return
        if direction > 0:
            self.ready_at += [self.now + self.START_S] * (wish - self.target)
            self.target = wish
        else:
            self.target = self.running = max(wish, 1 if self.target > 1 else 0)
            self.ready_at = []
        self.since = None

    def last(self, arriving: float, seconds: int) -> list[int]:
        """The numbers of replicas while so much work arrives for so long."""
        before = len(self.seen)
        for _ in range(seconds):
            self.second(arriving)
        return self.seen[before:]


@pytest.mark.parametrize(("fewest", "most"), [(1, 4), (2, 4), (0, 4), (1, 8)])
def test_four_times_one_replicas_capacity(fewest: int, most: int) -> None:
    """Up to `most`, or to the 6 or more that 4 units of work need at 0.7, with no step back; then to the fewest."""
    simulation = Simulation(fewest, most)
    while_busy = simulation.last(4.0, 120)
    assert while_busy == sorted(while_busy)
    (settled,) = set(while_busy[60:])
    assert min(most, 6) <= settled <= most
    calm = simulation.last(0.0, 300)
    assert calm == sorted(calm, reverse=True)
    assert calm[-1] == fewest
    assert calm[25] == settled


def test_from_zero_and_back() -> None:
    """Asleep; one second of calls starts one replica, which sleeps again after its calm time."""
    simulation = Simulation(0, 4)
    assert simulation.last(0.0, 100)[-1] == 0
    awake = simulation.last(0.1, 1) + simulation.last(0.0, 100)
    assert max(awake) == 1
    assert awake[-1] == 0


def test_rare_requests_keep_one_awake() -> None:
    """A request every 20 s, a hundredth of a second long: never asleep, never more than one."""
    simulation = Simulation(0, 4)
    for _ in range(30):
        assert set(simulation.last(0.01, 1) + simulation.last(0.0, 19)) == {1}
