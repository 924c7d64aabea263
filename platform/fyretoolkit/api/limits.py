"""Rate limits of a request: its category, its key's plan, the headers that say where the key stands.

Reads and writes are counted in Redis one by one; predictions use tokens that this process holds (`leases.py`). A plan
without a limit asks Redis nothing. Requests without a valid key have no key to count them for; downloads with a link
are counted for their job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from math import ceil

from starlette.types import Scope as AsgiScope

from fyretoolkit.api.leases import Leases
from fyretoolkit.api.responses import RawHeaders
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.limits import UNLIMITED, Category, Standing, standing_in_log
from fyretoolkit.core.organizations import Principal, Scope
from fyretoolkit.settings import PlanSettings
from fyretoolkit.store.api_keys import FALLBACK_PLAN
from fyretoolkit.store.connection import RETRY_AFTER_S
from fyretoolkit.store.limits import LimitStore

_READS = ("GET", "HEAD")
_LINK_LIMIT = 120
"""Downloads a window with the links of one job, whoever has them: no key is counted for those."""

logger = logging.getLogger(__name__)


def category_of(scope: AsgiScope, needed: Scope) -> Category:
    """What a request counts as, by its method and the scope it needs, whatever its path is spelled like."""
    if needed is Scope.PREDICT:
        return Category.INFERENCE
    return Category.READ if scope["method"] in _READS else Category.WRITE


class RateLimiter:
    """The limits of all plans. Belongs to one event loop; `leases.run` and `leases.close` are the app's lifespan's."""

    def __init__(
        self,
        store: LimitStore,
        plans: Mapping[str, PlanSettings],
        window_s: int,
        *,
        on_degraded: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_degraded` is called for every prediction admitted on old tokens because Redis was away."""
        self._store = store
        self._plans = plans
        self._window_s = window_s
        self._unknown_plans: set[str] = set()
        self.leases = Leases(store, window_s, on_degraded=on_degraded)

    async def count(self, principal: Principal, category: Category, headers: RawHeaders) -> None:
        """Count one request of a key; where the key stands then is added to `headers`, whatever happens.

        Raises:
            PlatformError: `rate_limit_exceeded`, the request does not count; `unavailable`.
        """
        limit: int | None = getattr(self._plan_of(principal), category)
        if limit is None:
            headers += _headers(self._unlimited())
            return
        try:
            standing = await self._standing(principal, category, limit)
        except PlatformError:
            headers += _headers(Standing(limit, 0, time.time() + RETRY_AFTER_S))
            raise
        self._check(standing, category, headers)

    def count_prediction_at_once(self, principal: Principal, headers: RawHeaders) -> bool:
        """As `count` for a prediction, without waiting: False, and nothing is counted, if the ledger has to be asked.

        Raises:
            PlatformError: `rate_limit_exceeded`, the request does not count.
        """
        limit = self._plan_of(principal).inference
        if limit is None:
            headers += _headers(self._unlimited())
            return True
        standing = self.leases.take_at_once(principal.org, principal.key_id, limit)
        if standing is None:
            return False
        self._check(standing, Category.INFERENCE, headers)
        return True

    def _unlimited(self) -> Standing:
        return Standing(UNLIMITED, UNLIMITED, time.time() + self._window_s)

    def _check(self, standing: Standing, category: Category, headers: RawHeaders) -> None:
        headers += _headers(standing)
        if standing.retry_after_s is not None:
            raise self._refusal(standing, standing.retry_after_s, category)

    async def count_link(self, org: str, job_id: str, headers: RawHeaders) -> None:
        """Count one download with a link of a job. The answer says how many there may be only when there are too many.

        Raises:
            PlatformError: `rate_limit_exceeded`, the download does not count; `unavailable`.
        """
        standing = await self._logged(org, f"link:{job_id}", Category.READ, _LINK_LIMIT)
        if standing.retry_after_s is not None:
            headers += _headers(standing)
            raise self._refusal(standing, standing.retry_after_s, Category.READ)

    async def _standing(self, principal: Principal, category: Category, limit: int) -> Standing:
        if category is Category.INFERENCE:
            return await self.leases.take(principal.org, principal.key_id, limit)
        return await self._logged(principal.org, principal.key_id, category, limit)

    async def _logged(self, org: str, key_id: str, category: Category, limit: int) -> Standing:
        answer = await self._store.log(org, key_id, category, limit)
        return standing_in_log(answer, limit=limit, window_us=self._store.window_us)

    def _plan_of(self, principal: Principal) -> PlanSettings:
        plan = self._plans.get(principal.plan)
        if plan is not None:
            return plan
        if principal.plan not in self._unknown_plans:
            self._unknown_plans.add(principal.plan)
            logger.error("Plan %r is not in the plans file; %s is used", principal.plan, FALLBACK_PLAN)
        return self._plans[FALLBACK_PLAN]

    def _refusal(self, standing: Standing, retry_after_s: float, category: Category) -> PlatformError:
        seconds = max(1, ceil(retry_after_s))
        return PlatformError(
            "rate_limit_exceeded",
            f"The limit of {standing.limit} {category} requests in {self._window_s} s is used up. "
            f"Wait {seconds} s (Retry-After), or ask the operator for a larger plan.",
            details={"category": category, "limit": standing.limit, "window_s": self._window_s},
            retry_after_s=seconds,
        )


def _headers(standing: Standing) -> RawHeaders:
    return [
        (b"x-ratelimit-limit", b"%d" % standing.limit),
        (b"x-ratelimit-remaining", b"%d" % standing.remaining),
        (b"x-ratelimit-reset", b"%d" % ceil(standing.reset_at)),
    ]
