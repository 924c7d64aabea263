"""Tokens for predictions, held in this process so that a warm prediction asks Redis nothing.

One `Lease` a key (`core/limits.py` has the arithmetic). It is renewed in the background before it runs out. A request
that finds no token waits for the next answer of the ledger, together with all others of its key. While Redis is away
the tokens in hand stay good beyond their lease; when they are used up, requests fail with `unavailable`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Protocol

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.limits import LEASES_A_WINDOW, Lease, LedgerAnswer, Report, Standing
from fyretoolkit.store.connection import RETRY_AFTER_S

PATIENCE_S = 2.0
"""A ledger that is silent for so long is away."""
PROBE_S = 0.5
"""While it is away, it is asked no more often."""
_SWEEPS_A_LEASE = 2
_CLOSE_S = 1.0

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Organization and key id."""


class Ledger(Protocol):
    """Where tokens come from (`store.limits.LimitStore`)."""

    async def renew(self, org: str, key_id: str, report: Report) -> LedgerAnswer: ...


@dataclass(slots=True, eq=False)
class _Account:
    key: Key
    lease: Lease
    waiting: int = 0
    renewal: asyncio.Task[None] | None = None
    """The one call to the ledger that is under way."""

    @property
    def is_renewing(self) -> bool:
        return self.renewal is not None and not self.renewal.done()


class Leases:
    """The leases of one ingress replica. Belongs to one event loop; `run` must be running there, then `close`."""

    def __init__(
        self,
        ledger: Ledger,
        window_s: float,
        *,
        on_degraded: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_degraded` is called for every prediction that is counted in `degraded`."""
        self._ledger = ledger
        self._window_s = window_s
        self._on_degraded = on_degraded
        self._clock = clock
        self._accounts: dict[Key, _Account] = {}
        self._is_away = False
        self._probe_at = -inf
        self.degraded = 0
        """Predictions admitted beyond the end of a lease because Redis was away."""

    async def take(self, org: str, key_id: str, limit: int) -> Standing:
        """Use one token of a key, or say that it has none left.

        Raises:
            PlatformError: `unavailable`: Redis is away and the tokens in hand are used up.
        """
        account = self._account(org, key_id, limit)
        while True:
            now = self._clock()
            if (standing := self._take(account, now)) is not None:
                return standing
            if not account.is_renewing and not self._may_ask(now):
                raise PlatformError("unavailable", retry_after_s=RETRY_AFTER_S)
            account.waiting += 1
            try:
                await asyncio.shield(self._renewal_of(account))
            finally:
                account.waiting -= 1

    def take_at_once(self, org: str, key_id: str, limit: int) -> Standing | None:
        """As `take`, without waiting: None if the ledger has to be asked first."""
        return self._take(self._account(org, key_id, limit), self._clock())

    def _take(self, account: _Account, now: float) -> Standing | None:
        lease = account.lease
        if lease.take(now, is_suspended=self._is_away):
            if lease.is_over(now):
                self.degraded += 1
                self._on_degraded()
            if lease.is_renewal_due(now) and self._may_ask(now):
                self._renewal_of(account)
            return lease.standing(now)
        return lease.refusal(now) if lease.is_refused(now) else None

    async def run(self) -> None:
        """Give back what ended leases still hold, again and again until cancelled."""
        while True:
            await asyncio.sleep(self._window_s / LEASES_A_WINDOW / _SWEEPS_A_LEASE)
            for account in tuple(self._accounts.values()):
                try:
                    await self._sweep(account)
                except Exception:
                    logger.exception("The lease of key %s could not be ended", account.key[1])

    async def close(self) -> None:
        """Give everything back, if Redis answers within a second. No task is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                for account in tuple(self._accounts.values()):
                    if account.renewal is not None:
                        await asyncio.wait({account.renewal})
                    if not (account.lease.is_settled or self._is_away):
                        await self._renew(account, is_ending=True)
        left = {account.renewal for account in self._accounts.values() if account.renewal is not None}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _account(self, org: str, key_id: str, limit: int) -> _Account:
        key = org, key_id
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(key, Lease(self._window_s, limit))
        account.lease.adopt(limit)
        return account

    async def _sweep(self, account: _Account) -> None:
        now = self._clock()
        if account.is_renewing or account.waiting or not account.lease.is_over(now):
            return
        if account.lease.is_settled:
            del self._accounts[account.key]
        elif self._may_ask(now):
            await asyncio.shield(self._renewal_of(account, is_ending=True))

    def _may_ask(self, now: float) -> bool:
        return not self._is_away or now >= self._probe_at

    def _renewal_of(self, account: _Account, *, is_ending: bool = False) -> asyncio.Task[None]:
        if account.renewal is None or account.renewal.done():
            if self._is_away:
                self._probe_at = self._clock() + PATIENCE_S + PROBE_S
            account.renewal = asyncio.create_task(self._renew(account, is_ending=is_ending))
        return account.renewal

    async def _renew(self, account: _Account, *, is_ending: bool) -> None:
        lease, sent_at = account.lease, self._clock()
        report = lease.give_back(sent_at) if is_ending else lease.report(sent_at, waiting=account.waiting)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._ledger.renew(*account.key, report)
        except (PlatformError, TimeoutError) as error:
            lease.failed(report)
            self._note_absence(error)
        except BaseException:
            lease.failed(report)
            raise
        else:
            lease.renewed(report, answer, self._clock())
            self._note_return()

    def _note_absence(self, error: Exception) -> None:
        self._probe_at = self._clock() + PROBE_S
        if not self._is_away:
            self._is_away = True
            logger.warning("No new tokens for predictions, going on with those in hand: %r", error)

    def _note_return(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("Tokens for predictions are to be had again; %d were used without", self.degraded)
