"""The replicas that stand by, as the one controller keeps them: looked at in each tick, taken in between.

Who takes one is decided here without waiting for anything, so no two take the same; that it was never given to anybody
is checked once more where the assignment is written (`transition_deployment.lua`), since this is not the only
controller there ever was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fyretoolkit.control import serve_driver
from fyretoolkit.core.capacity import Ask
from fyretoolkit.core.deployments import Application, RemoveApplication
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.standby import (
    PATIENCE_S,
    PREFIX,
    Claims,
    Pools,
    StartStandby,
    Surroundings,
    idle,
    is_short,
    plan_standby,
)
from fyretoolkit.settings import Settings

_SETTLED_S = 30.0
"""When one that was taken belongs to somebody, or never will: writing it down took longer than the store may."""


class Standby:
    """Of one controller. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        shapes = serve_driver.standby_shapes(settings)
        self._pools = Pools(shapes, settings.standby.size, settings.deployments.load_timeout_s)
        self._idle: list[Application] = []
        self._taken: dict[str, float] = {}
        """When those were taken of which nothing is known to be written yet: a look may be older than that."""
        self._held_up_at: float | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """How many replicas are to stand by, and how many did at the last look and were not taken since."""
        return {"desired": self._pools.size * len(self._pools.shapes), "ready": len(self._idle)}

    def applications(self, observed: Sequence[Application]) -> list[Application]:
        """Those of all that stand by, or did."""
        return [each for each in observed if is_id(each.name, PREFIX)]

    def needs_nodes(self, observed: Sequence[Application], claims: Claims, around: Surroundings) -> bool:
        """Whether `look` has to know what nodes have free. Asking at every look costs more than it tells."""
        if around.waiting and observed:
            return True
        return is_short(observed, self._with_taken(claims), self._pools, around.now)

    def look(
        self, observed: Sequence[Application], claims: Claims, around: Surroundings
    ) -> list[StartStandby | RemoveApplication]:
        """Take note of those that may be taken from now on, and say what is to be done about their number."""
        claims = self._with_taken(claims)
        around = replace(around, is_busy=self._is_held_up(around))
        commands = plan_standby(observed, claims, self._pools, around)
        leaving = {command.name for command in commands if isinstance(command, RemoveApplication)}
        self._idle = [each for each in idle(observed, claims, self._pools) if each.name not in leaving]
        return commands

    def take(self, ask: Ask) -> str | None:
        """An application whose replica has what is asked for; nobody gets it again. None if there is none."""
        for application in self._idle:
            if application.ask == ask:
                self._idle.remove(application)
                self._taken[application.name] = time.time()
                return application.name
        return None

    def _with_taken(self, claims: Claims) -> Claims:
        """Who owns what, those included that were taken since the claims were read."""
        known = {*claims.owned, *claims.assigned}
        self._taken = {
            name: at
            for name, at in self._taken.items()
            if name not in known and time.time() - at < _SETTLED_S
        }
        return replace(claims, owned={*claims.owned, *self._taken})

    def _is_held_up(self, around: Surroundings) -> bool:
        """Whether a start is put off still, for deployments on their way: one slow download is not waited for."""
        if not around.is_busy:
            self._held_up_at = None
            return False
        if self._held_up_at is None:
            self._held_up_at = around.now
        return around.now - self._held_up_at < PATIENCE_S
