"""How fast work is done, and when those who were refused may come back."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.admission import Appointments, ServiceRate


class TestServiceRate:
    def test_nothing_is_known_at_first(self) -> None:
        rate = ServiceRate()
        assert rate.per_s is None
        assert rate.seconds_for(100) == 0

    def test_what_is_expected_counts_until_something_is_seen(self) -> None:
        rate = ServiceRate(expected_per_s=10)
        assert rate.seconds_for(5) == 0.5
        rate.note(100, began=0.0, ended=1.0)
        assert rate.per_s == pytest.approx(100)

    def test_calls_one_after_another(self) -> None:
        rate = ServiceRate()
        for second in range(10):
            rate.note(50, began=second, ended=second + 1)
        assert rate.per_s == pytest.approx(50, rel=0.01)
        assert rate.seconds_for(25) == pytest.approx(0.5, rel=0.01)

    def test_calls_that_overlap_share_the_time(self) -> None:
        """Two calls are always in flight; one ends each second."""
        rate = ServiceRate()
        for second in range(10):
            rate.note(50, began=second - 1, ended=second + 1)
        assert rate.per_s == pytest.approx(50, rel=0.15)

    def test_idle_time_does_not_count(self) -> None:
        rate = ServiceRate()
        for hour in range(5):
            rate.note(10, began=3600 * hour, ended=3600 * hour + 0.1)
        assert rate.per_s == pytest.approx(100, rel=0.01)

    def test_it_follows_a_change_within_seconds_of_work(self) -> None:
        rate = ServiceRate()
        for second in range(10):
            rate.note(100, began=second, ended=second + 1)
        for second in range(10, 15):
            rate.note(10, began=second, ended=second + 1)
        assert rate.per_s == pytest.approx(10, rel=0.1)

    def test_a_first_call_that_does_nothing_says_how_long_one_takes_at_least(self) -> None:
        """Not that nothing is known: the queue would be open to everybody."""
        rate = ServiceRate()
        rate.note(0, began=0.0, ended=2.0)
        assert rate.per_s == 0.5
        assert rate.seconds_for(1000) == 2000

    def test_while_nothing_gets_done_it_falls_and_is_never_zero(self) -> None:
        """In a thousand seconds one unit of work could have been done."""
        rate = ServiceRate(expected_per_s=100)
        rates = []
        for second in range(1000):
            rate.note(0, began=second, ended=second + 1)
            rates.append(rate.per_s or 0.0)
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] == pytest.approx(1 / 1000)

    def test_a_model_that_was_slow_at_first_is_forgiven_with_its_first_success(self) -> None:
        """A minute for nothing, then a hundred a second: within seconds of work it is known to be fast."""
        rate = ServiceRate()
        rate.note(0, began=0.0, ended=60.0)
        for hundredth in range(6000, 6500):
            rate.note(1, began=hundredth / 100, ended=(hundredth + 1) / 100)
        assert rate.per_s == pytest.approx(100, rel=0.5)

    @given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.001, 100), st.booleans())))
    def test_a_rate_that_is_known_is_finite_and_above_zero(
        self, calls: list[tuple[int, float, bool]]
    ) -> None:
        rate, now = ServiceRate(), 0.0
        for work, took_s, is_full in [(0, 1.0, True), *calls]:
            rate.note(work, began=now, ended=now + took_s, is_full=is_full)
            now += took_s
            known = rate.per_s
            assert known is not None
            assert 0 < known < inf


class TestAppointments:
    def test_the_first_comes_back_when_the_queue_is_done(self) -> None:
        assert Appointments(30).next(100.0, wait_s=2.5, takes_s=0.5, draw=0) == 3

    def test_at_least_a_second(self) -> None:
        assert Appointments(30).next(100.0, wait_s=0.0, takes_s=0.0, draw=0) == 1

    def test_many_at_once_come_back_at_the_pace_of_the_service(self) -> None:
        """300 callers of work for a sixteenth of a second each: sixteen in each second, none twice as many."""
        appointments = Appointments(30)
        seconds = [appointments.next(0.0, wait_s=1.0, takes_s=1 / 16, draw=0) for _ in range(300)]
        assert max(seconds.count(second) for second in set(seconds)) <= 17
        assert max(seconds) <= 20

    def test_nobody_waits_longer_than_the_longest(self) -> None:
        appointments = Appointments(30)
        seconds = [appointments.next(0.0, wait_s=1.0, takes_s=1.0, draw=n / 300) for n in range(300)]
        assert max(seconds) <= 30
        beyond = seconds[40:]
        assert min(beyond) >= 15
        assert len(set(beyond)) > 10

    def test_appointments_that_passed_are_forgotten(self) -> None:
        appointments = Appointments(30)
        for _ in range(20):
            appointments.next(0.0, wait_s=1.0, takes_s=1.0, draw=0)
        assert appointments.next(1000.0, wait_s=1.0, takes_s=1.0, draw=0) == 1
