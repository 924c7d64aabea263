"""The arithmetic of rate limits: where a key stands, and one ingress replica's share of a key's predictions.

Reads and writes are counted one by one in Redis (`store/scripts/log_request.lua`). A prediction must not ask Redis, so
each replica holds a few of the key's tokens in advance, as a `Lease`. What keeps that exact: a token counts in Redis
from the moment it is handed out, as held until the lease ends and a window more (it may be used at the lease's last
instant), and once its use is reported, until a window after that use. At no moment do counted tokens exceed the
limit, so no window can hold more uses than it. The rejected alternatives are in decisions/0003-rate-limits.md.

Nothing here reads a clock: `now` is seconds of a monotonic one, whose zero does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

UNLIMITED = 1_000_000_000
"""What the headers show as limit and as remaining where a plan sets none."""
LEASES_A_WINDOW = 12
"""A lease lasts this part of the window: 5 s of 60. A replica that dies loses its tokens for that much longer."""
SLOTS_A_WINDOW = 120
"""Where there are many reports, uses that leave the window within the same 120th of it leave together, at its end."""
TOKENS_AHEAD_PERCENT = 1
SPARED_SHARE = 8
"""No more than one in so many of the free tokens is handed out ahead of demand: the last ones are for who asks."""
_REMEMBERED_REFUSALS_A_WINDOW = 60


class Category(StrEnum):
    """What is limited apart from each other."""

    READ = "read"
    """GET and HEAD."""
    WRITE = "write"
    """Everything else but predictions."""
    INFERENCE = "inference"
    """POST /predict/{model_id}."""


@dataclass(slots=True)
class Standing:
    """Where a key stands in one category after a request of it."""

    limit: int
    remaining: int
    reset_at: float
    """Unix seconds at which the oldest counted request leaves the window."""
    retry_after_s: float | None = None
    """None: the request is admitted. Else it is refused, and one after so long is not."""


@dataclass(frozen=True, slots=True)
class LogAnswer:
    """What the log of a key's reads or writes said; all times in Unix microseconds."""

    is_admitted: bool
    counted: int
    oldest_us: int
    room_us: int
    """When there is room for one more; meaningless if admitted."""
    now_us: int


def standing_in_log(answer: LogAnswer, *, limit: int, window_us: int) -> Standing:
    """The standing of a key whose requests are counted one by one."""
    return Standing(
        limit=limit,
        remaining=max(0, limit - answer.counted),
        reset_at=(answer.oldest_us + window_us) / 1e6,
        retry_after_s=None if answer.is_admitted else (answer.room_us - answer.now_us) / 1e6,
    )


def tokens_ahead(limit: int) -> int:
    """How many tokens a replica may hold that no request waits for."""
    return max(1, limit * TOKENS_AHEAD_PERCENT // 100)


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica tells the ledger of a key, and what it asks for."""

    limit: int
    spent: int
    """Uses not reported before."""
    spent_ago_s: float
    """How long ago the last of them was."""
    kept: int
    """Tokens that the replica still holds and wants to keep."""
    dropped: int
    """Tokens that it gives back."""
    waiting: int
    """Requests that wait for a token."""
    ahead: int
    """Tokens to hold beyond those."""
    sent_at: float


@dataclass(frozen=True, slots=True)
class LedgerAnswer:
    """What the ledger made of a report; all times in Unix microseconds."""

    held: int
    """Tokens that this replica may use until its lease ends; those kept are among them."""
    free: int
    """Tokens that nobody holds and nobody used within the window."""
    oldest_us: int
    """When the oldest reported uses leave the window; 0 if there are none."""
    room_us: int
    """When a token becomes free if none is; 0 if it depends on what this replica reports next."""
    now_us: int


@dataclass(slots=True)
class Lease:
    """One replica's tokens of one key. `window_s` and `limit` as in the plan; a changed limit asks for a new lease."""

    window_s: float
    limit: int
    tokens: int = 0
    spent: int = 0
    last_spent_at: float = -inf
    ends_at: float = -inf
    refused_until: float = -inf
    room_at: float = -inf
    """When a token becomes free, if the ledger refused the last request."""
    oldest_at: float = -inf
    """When the oldest counted uses leave the window."""
    free: int = 0
    unix_offset_s: float = 0.0
    """Redis's clock minus this one."""

    @property
    def length_s(self) -> float:
        """How long a lease lasts from the moment it was asked for."""
        return self.window_s / LEASES_A_WINDOW

    @property
    def is_settled(self) -> bool:
        """Whether the ledger knows everything: nothing is held and no use is unreported."""
        return not self.tokens and not self.spent

    def adopt(self, limit: int) -> None:
        """Follow a change of plan: what was granted under the other limit must be renewed before it is used."""
        if limit != self.limit:
            self.limit = limit
            self.ends_at = self.refused_until = -inf

    def is_over(self, now: float) -> bool:
        """Whether its tokens may not be used any more, but while Redis is away."""
        return now >= self.ends_at

    def is_refused(self, now: float) -> bool:
        """Whether the ledger refused so lately that it need not be asked again."""
        return now < self.refused_until

    def take(self, now: float, *, is_suspended: bool = False) -> bool:
        """Use one token. `is_suspended`: Redis is away, so the lease's end does not count."""
        if not self.tokens or (self.is_over(now) and not is_suspended):
            return False
        self.tokens -= 1
        self.spent += 1
        self.last_spent_at = now
        if self.oldest_at == -inf:
            self.oldest_at = now + self.window_s
        return True

    def is_renewal_due(self, now: float) -> bool:
        """Whether to renew in the background: soon over, or few tokens left while there are more to be had."""
        if self.tokens and now >= self.ends_at - self.length_s / 2:
            return True
        return 2 * self.tokens <= tokens_ahead(self.limit) and self.free >= SPARED_SHARE

    def report(self, now: float, *, waiting: int = 0) -> Report:
        """What to send to the ledger now. Answer it with `renewed` or `failed`."""
        ahead = tokens_ahead(self.limit)
        return self._report(now, min(self.tokens, ahead), waiting, ahead)

    def give_back(self, now: float) -> Report:
        """The report that ends the lease: all tokens go back."""
        return self._report(now, 0, 0, 0)

    def _report(self, now: float, kept: int, waiting: int, ahead: int) -> Report:
        ago = now - self.last_spent_at if self.spent else 0.0
        report = Report(self.limit, self.spent, ago, kept, self.tokens - kept, waiting, ahead, now)
        self.tokens, self.spent = kept, 0
        return report

    def failed(self, report: Report) -> None:
        """The ledger did not answer, and may have taken the report or not: what errs is always on the strict side.

        Its uses are reported again, and may count twice for a window. The tokens it gave back are not taken again: the
        ledger may have granted them to another replica.
        """
        self.spent += report.spent

    def renewed(self, report: Report, answer: LedgerAnswer, now: float) -> None:
        """The ledger answered. Tokens used since the report was sent are of those it wanted to keep."""
        self.tokens = max(0, self.tokens + answer.held - report.kept)
        self.free = max(0, answer.free)
        if report.limit == self.limit:
            self.ends_at = report.sent_at + self.length_s
        self.unix_offset_s = answer.now_us / 1e6 - now
        if answer.oldest_us:
            self.oldest_at = answer.oldest_us / 1e6 - self.unix_offset_s
        elif self.oldest_at <= now:
            self.oldest_at = -inf
        if answer.held < report.waiting and answer.room_us:
            self.room_at = now + (answer.room_us - answer.now_us) / 1e6
            self.refused_until = min(self.room_at, now + self.window_s / _REMEMBERED_REFUSALS_A_WINDOW)

    def standing(self, now: float) -> Standing:
        """Where the key stands after a use, as far as this replica knows: what others hold counts as used."""
        remaining = min(self.limit, self.free + self.tokens)
        return Standing(self.limit, remaining, max(self.oldest_at, now) + self.unix_offset_s)

    def refusal(self, now: float) -> Standing:
        """Where the key stands while `is_refused`."""
        reset_at = self.oldest_at if self.oldest_at > now else self.room_at
        return Standing(self.limit, 0, reset_at + self.unix_offset_s, max(0.0, self.room_at - now))
