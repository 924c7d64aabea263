"""How fast work is done, and when those who were refused may come back."""

from __future__ import annotations

import pytest

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
