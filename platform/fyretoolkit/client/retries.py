"""When a call is sent again, and how long after. Pure but for the clock and the chance, which can be passed in.

A call is sent again if that cannot do anything twice: it reads, it repeats to the same end, or it carries an
idempotency key. One that does none of these (a new API key) is sent again only if it certainly was not carried out.
Pauses double from half a second to eight, each shortened by up to a half by chance, so that clients that failed
together do not come back together; a `Retry-After` is always waited for in full, and more.
Sources: AWS Architecture Blog, "Exponential Backoff And Jitter"; openai-python `_base_client.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from fyretoolkit.client.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    FyreError,
    RateLimitError,
    ServerError,
    WaitTimeoutError,
)
from fyretoolkit.client.options import Options

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 8.0
POLL_FIRST_S = 0.5
POLL_GROWTH = 1.5
POLL_MAX_S = 5.0
"""Twelve looks a minute in the long run: a tenth of what a key may read."""
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_SPREAD = 0.1


def is_passing(failure: FyreError) -> bool:
    """Whether the same call may well succeed later."""
    if isinstance(failure, APIError):
        return failure.status in _PASSING_STATUSES
    return isinstance(failure, APIConnectionError)


def may_be_sent_again(failure: FyreError, *, is_repeatable: bool) -> bool:
    """Whether another attempt may help and cannot do anything twice."""
    was_not_carried_out = isinstance(failure, RateLimitError) or (
        isinstance(failure, APIConnectionError) and not failure.is_sent
    )
    return is_passing(failure) and (is_repeatable or was_not_carried_out)


def pause_s(failed: int, retry_after_s: float | None, *, chance: float) -> float:
    """How long to wait after the attempt number `failed`, counted from 1; `chance` is uniform in [0, 1)."""
    if retry_after_s is not None:
        return retry_after_s * (1 + _SPREAD * chance)
    return float(min(FIRST_PAUSE_S * 2 ** (failed - 1), MAX_PAUSE_S)) * (1 - chance / 2)


class Attempts:
    """The attempts of one call: how long each may take, and what follows when it fails."""

    def __init__(
        self,
        options: Options,
        *,
        is_repeatable: bool,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._is_repeatable = is_repeatable
        self._clock = clock
        self._chance = chance
        self._deadline = clock() + options.timeout_s
        self.made: int = 0

    def begin(self, extra_s: float = 0.0) -> float:
        """Counts an attempt; how many seconds it may take, with `extra_s` more than most for what it sends.

        Raises:
            APITimeoutError: there is no time left.
        """
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            raise APITimeoutError(f"No answer within {self._options.timeout_s:g} s.", is_sent=self.made > 0)
        self.made += 1
        return min(left_s, self._options.attempt_timeout_s + extra_s)

    def pause_after(self, failure: FyreError) -> float:
        """How many seconds to wait before the next attempt.

        Raises:
            FyreError: the failure itself, if there shall be none or no time is left for it.
        """
        failure.attempts = self.made
        retry_after_s = failure.retry_after_s if isinstance(failure, APIError) else None
        pause = pause_s(self.made, retry_after_s, chance=self._chance())
        if (
            self.made > self._options.max_retries
            or not may_be_sent_again(failure, is_repeatable=self._is_repeatable)
            or self._clock() + pause >= self._deadline
        ):
            raise failure
        return pause


class Polling:
    """The looks at something that takes long: how far apart they are, and how much failure is borne.

    A platform that restarts is waited for as long as a call may take; only then is its failure raised.
    """

    def __init__(
        self,
        what: str,
        timeout_s: float | None,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._options = options
        self._clock = clock
        self._chance = chance
        self._deadline = None if timeout_s is None else clock() + timeout_s
        self._failing_since: float | None = None
        self._next_s = POLL_FIRST_S

    @property
    def options(self) -> Options:
        """Of the next look, which ends with the waiting."""
        if self._deadline is None:
            return self._options
        return self._options.changed(
            timeout_s=max(0.001, min(self._options.timeout_s, self._deadline - self._clock()))
        )

    def pause(self) -> float:
        """Seconds until the next look.

        Raises:
            WaitTimeoutError: the time is over.
        """
        wanted = self._next_s * (1 - _SPREAD * self._chance())
        self._next_s = min(self._next_s * POLL_GROWTH, POLL_MAX_S)
        return self._within_deadline(wanted)

    def worked(self) -> None:
        """A look succeeded."""
        self._failing_since = None

    def pause_after(self, failure: FyreError) -> float:
        """Seconds until the next look after one that failed.

        Raises:
            FyreError: the failure, if it will not pass or has lasted too long. WaitTimeoutError: the time is over.
        """
        if self._deadline is not None and self._clock() >= self._deadline:
            raise self._timed_out() from failure
        now = self._clock()
        self._failing_since = self._failing_since if self._failing_since is not None else now
        is_lasting = now - self._failing_since > self._options.timeout_s
        if not is_passing(failure) or is_lasting:
            raise failure
        retry_after_s = failure.retry_after_s if isinstance(failure, RateLimitError | ServerError) else None
        return self._within_deadline(max(POLL_MAX_S, retry_after_s or 0.0))

    def _within_deadline(self, wanted_s: float) -> float:
        if self._deadline is None:
            return wanted_s
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            raise self._timed_out()
        return min(wanted_s, left_s)

    def _timed_out(self) -> WaitTimeoutError:
        return WaitTimeoutError(f"{self._what} has not ended within {self._timeout_s:g} s. It goes on.")
