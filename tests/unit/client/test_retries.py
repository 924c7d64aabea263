"""When a call is sent again and how long after, by hand-computed tables and a clock that the test turns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fyretoolkit.client.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConflictError,
    FyreError,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
    UnprocessableError,
    WaitTimeoutError,
)
from fyretoolkit.client.options import Options
from fyretoolkit.client.retries import Attempts, Polling, may_be_sent_again, pause_s


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def _attempts(clock: Clock, options: Options, *, is_repeatable: bool = True, chance: float = 0.0) -> Attempts:
    return Attempts(options, is_repeatable=is_repeatable, clock=clock, chance=lambda: chance)


def _busy(retry_after_s: float | None) -> RateLimitError:
    return RateLimitError(429, "rate_limit_exceeded", "Wait.", retry_after_s=retry_after_s)


def _away(retry_after_s: float | None = None) -> ServerError:
    return ServerError(503, "unavailable", "Later.", retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("failed", "retry_after_s", "chance", "expected"),
    [
        (1, None, 0.0, 0.5),
        (2, None, 0.0, 1.0),
        (3, None, 0.0, 2.0),
        (5, None, 0.0, 8.0),
        (50, None, 0.0, 8.0),
        (1, None, 0.5, 0.375),
        (5, None, 0.999999, 4.0),
        (1, 7.0, 0.0, 7.0),
        (9, 7.0, 0.5, 7.35),
        (1, 0.0, 0.5, 0.0),
    ],
)
def test_pauses(failed: int, retry_after_s: float | None, chance: float, expected: float) -> None:
    """Doubling from 0.5 s to 8 s, shortened by up to a half; never shorter than what was asked for."""
    assert pause_s(failed, retry_after_s, chance=chance) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("failure", "when_repeatable", "otherwise"),
    [
        (APIConnectionError("lost"), True, False),
        (APIConnectionError("refused", is_sent=False), True, True),
        (APITimeoutError("late"), True, False),
        (_busy(1), True, True),
        (_away(), True, False),
        (ServerError(500, "internal_error", ""), True, False),
        (ServerError(504, "deadline_exceeded", ""), True, False),
        (ServerError(507, "storage_full", ""), False, False),
        (ConflictError(409, "model_not_ready", ""), False, False),
        (UnprocessableError(422, "invalid_input", ""), False, False),
        (UnexpectedResponseError("html"), False, False),
    ],
)
def test_what_is_sent_again(failure: FyreError, when_repeatable: bool, otherwise: bool) -> None:
    assert may_be_sent_again(failure, is_repeatable=True) is when_repeatable
    assert may_be_sent_again(failure, is_repeatable=False) is otherwise


def test_a_call_is_given_up_after_its_retries() -> None:
    """The failure that is raised is the last one, and says how often the call was sent."""
    clock = Clock()
    attempts = _attempts(clock, Options(timeout_s=100, attempt_timeout_s=7, max_retries=2))
    assert attempts.begin() == 7
    assert attempts.pause_after(_away()) == 0.5
    attempts.begin()
    assert attempts.pause_after(_away()) == 1.0
    attempts.begin()
    last = _away()
    with pytest.raises(ServerError) as raised:
        attempts.pause_after(last)
    assert raised.value is last
    assert last.attempts == 3


def test_no_pause_goes_beyond_the_time_of_the_call() -> None:
    """Waiting for what cannot come in time would only hide why."""
    clock = Clock()
    attempts = _attempts(clock, Options(timeout_s=10, attempt_timeout_s=60))
    attempts.begin()
    assert attempts.pause_after(_busy(9)) == 9
    clock.now += 9
    assert attempts.begin() == pytest.approx(1.0)
    with pytest.raises(RateLimitError):
        attempts.pause_after(_busy(1))
    clock.now += 1
    with pytest.raises(APITimeoutError) as late:
        attempts.begin()
    assert late.value.is_sent


def test_a_large_body_has_more_time() -> None:
    attempts = _attempts(Clock(), Options(timeout_s=100, attempt_timeout_s=7))
    assert attempts.begin(30) == 37


def _polling(clock: Clock, timeout_s: float | None) -> Polling:
    return Polling("Job j", timeout_s, Options(timeout_s=120), clock=clock, chance=lambda: 0.0)


def test_looks_come_less_often() -> None:
    """Twelve a minute in the end, whatever the job does."""
    polling = _polling(Clock(), None)
    pauses = [polling.pause() for _ in range(8)]
    assert pauses == pytest.approx([0.5, 0.75, 1.125, 1.6875, 2.53125, 3.796875, 5.0, 5.0])


def test_waiting_ends_in_time() -> None:
    clock = Clock()
    polling = _polling(clock, 2.0)
    assert polling.options.timeout_s == 2.0
    assert polling.pause() == 0.5
    clock.now += 1.75
    assert polling.pause() == pytest.approx(0.25)
    clock.now += 0.25
    with pytest.raises(WaitTimeoutError, match=r"within 2 s\. It goes on"):
        polling.pause()
    with pytest.raises(WaitTimeoutError) as late:
        polling.pause_after(APITimeoutError("late"))
    assert isinstance(late.value.__cause__, APITimeoutError)


def test_an_outage_is_borne_as_long_as_a_call_may_take() -> None:
    """From its first failure on; a look that succeeds in between begins anew."""
    clock = Clock()
    polling = _polling(clock, None)
    assert polling.pause_after(_away()) == 5.0
    clock.now += 119
    assert polling.pause_after(_busy(30)) == 30.0
    polling.worked()
    assert polling.pause_after(APIConnectionError("lost")) == 5.0
    clock.now += 121
    with pytest.raises(APIConnectionError):
        polling.pause_after(APIConnectionError("lost"))


def test_what_will_not_pass_is_raised_at_once() -> None:
    gone = APIError(404, "job_not_found", "No such job.")
    with pytest.raises(APIError) as raised:
        _polling(Clock(), None).pause_after(gone)
    assert raised.value is gone
