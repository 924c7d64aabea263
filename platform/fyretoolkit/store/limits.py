"""Rate limits in Redis: a log of each key's reads and writes, a ledger of its tokens for predictions.

Both are measured by Redis's clock, so they hold for all ingress replicas together.
"""

from __future__ import annotations

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.limits import (
    LEASES_A_WINDOW,
    SLOTS_A_WINDOW,
    SPARED_SHARE,
    Category,
    LedgerAnswer,
    LogAnswer,
    Report,
)
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store


class LimitStore:
    """The counts of all keys, as one ingress replica sees them. The window is the same for all replicas."""

    def __init__(self, store: Store, window_s: int) -> None:
        self._store = store
        self.window_us = window_s * 1_000_000
        self._replica = new_id("ing")
        self._sequence = 0

    async def log(self, org: str, key_id: str, category: Category, limit: int) -> LogAnswer:
        """Count one read or write if there is room for it.

        Raises:
            PlatformError: `unavailable`.
        """
        log = keys.request_log(org, key_id, category)
        answer = await self._store.run("log_request", [log], [limit, self.window_us])
        is_admitted, counted, oldest_us, room_us, now_us = answer
        return LogAnswer(bool(is_admitted), counted, oldest_us, room_us, now_us)

    async def renew(self, org: str, key_id: str, report: Report) -> LedgerAnswer:
        """Report to a key's ledger, and get the new lease. Sent again by the connection, it is counted once.

        Raises:
            PlatformError: `unavailable`; the report may or may not have been counted.
        """
        self._sequence += 1
        arguments: list[str | int] = [
            self._replica,
            self._sequence,
            report.limit,
            self.window_us,
            -(-self.window_us // LEASES_A_WINDOW),
            -(-self.window_us // SLOTS_A_WINDOW),
            report.spent,
            int(report.spent_ago_s * 1e6),
            report.kept,
            report.waiting,
            report.ahead,
            SPARED_SHARE,
        ]
        answer = await self._store.run("renew_lease", [keys.token_ledger(org, key_id)], arguments)
        return LedgerAnswer(*answer)
