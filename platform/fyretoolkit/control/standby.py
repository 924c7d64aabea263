"""The replicas that stand by, as the one controller keeps them: looked at in each tick, taken in between.

Who takes one is decided here without waiting for anything, so no two take the same; that it was never given to anybody
is checked once more where the assignment is written (`transition_deployment.lua`), since this is not the only
controller there ever was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fyretoolkit.control import serve_driver
from fyretoolkit.core.capacity import Ask
from fyretoolkit.core.deployments import Application, RemoveApplication
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.standby import PREFIX, Claims, Pools, StartStandby, idle, plan_standby
from fyretoolkit.settings import Settings


class Standby:
    """Of one controller. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._pools = Pools(serve_driver.standby_shapes(settings), settings.standby.size)
        self._idle: list[Application] = []

    @property
    def counts(self) -> Mapping[str, int]:
        """How many replicas are to stand by, and how many did at the last look and were not taken since."""
        return {"desired": self._pools.size * len(self._pools.shapes), "ready": len(self._idle)}

    def applications(self, observed: Sequence[Application]) -> list[Application]:
        """Those of all that stand by, or did."""
        return [each for each in observed if is_id(each.name, PREFIX)]

    def look(
        self, observed: Sequence[Application], claims: Claims, *, is_busy: bool, lacking: Collection[str]
    ) -> list[StartStandby | RemoveApplication]:
        """Take note of those that may be taken from now on, and say what is to be done about their number."""
        commands = plan_standby(observed, claims, self._pools, is_busy=is_busy, lacking=lacking)
        leaving = {command.name for command in commands if isinstance(command, RemoveApplication)}
        self._idle = [each for each in idle(observed, claims, self._pools) if each.name not in leaving]
        return commands

    def take(self, ask: Ask) -> str | None:
        """An application whose replica has what is asked for; nobody gets it again. None if there is none."""
        for application in self._idle:
            if application.ask == ask:
                self._idle.remove(application)
                return application.name
        return None
