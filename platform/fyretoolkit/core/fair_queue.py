"""A queue that several tenants share by weight: one tenant's flood lengthens its own wait alone.

Start-time fair queueing: each item starts, in virtual time, when the one served before it of the same tenant ends, or
now if that is later; it lasts its cost divided by the tenant's weight. Whoever starts first is next. A tenant that was
away saves nothing up, one that floods is as far behind as what it was served, and what leaves unserved costs nothing.
Source: Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996. Weighted round robin with deficits shares as
fairly in the long run but serves a tenant's whole turn at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_GONE = 64
"""Removed tickets that a lane keeps beside as many as wait in it."""


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """An item in the queue; `remove` takes it out before its turn."""

    item: T | None
    """None once it left: nothing of it is kept."""
    cost: float
    lane: _Lane[T]


@dataclass(slots=True, eq=False)
class _Lane(Generic[T]):
    """One tenant's tickets, oldest first. Those that were removed stay until they are the oldest."""

    weight: float
    served_until: float = 0.0
    """Virtual time at which the last of its items that was served ends."""
    cost: float = 0.0
    """Of what waits."""
    count: int = 0
    """Tickets that wait."""
    tickets: deque[Ticket[T]] = field(default_factory=deque)

    def head(self) -> Ticket[T] | None:
        """The oldest ticket that waits."""
        tickets = self.tickets
        while tickets:
            if tickets[0].item is not None:
                return tickets[0]
            tickets.popleft()
        return None

    def forget_gone(self) -> None:
        """Drop the tickets that were removed, wherever they stand."""
        self.tickets = deque(ticket for ticket in self.tickets if ticket.item is not None)


class FairQueue(Generic[T]):
    """Items with a cost, each of a tenant. With nothing left in the queue, all tenants begin anew."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}
        self._heads: list[tuple[float, int, _Lane[T]]] = []
        """(start, number, lane) of every lane with tickets, removed ones too: each stands here once."""
        self._now = 0.0
        self._weight = 0.0
        """Of all tenants with items."""
        self._count = 0
        self._numbers = count()
        self.cost = 0.0
        """Of all items."""

    def __len__(self) -> int:
        return self._count

    def put(self, tenant: str, item: T, cost: float, weight: float = 1.0) -> Ticket[T]:
        """Add an item. The latest weight of a tenant without items counts."""
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = _Lane(weight, self._now)
        ticket = Ticket(item, cost, lane)
        if not lane.count:
            lane.weight = weight
            self._weight += weight
            if not lane.tickets:
                heappush(self._heads, (max(self._now, lane.served_until), next(self._numbers), lane))
        lane.tickets.append(ticket)
        lane.cost += cost
        lane.count += 1
        self._count += 1
        self.cost += cost
        return ticket

    def remove(self, ticket: Ticket[T]) -> bool:
        """Take an item out before its turn; False if it has left already."""
        if ticket.item is None:
            return False
        self._leave(ticket)
        lane = ticket.lane
        if not self._count:
            self._begin_anew()
        elif lane.count and len(lane.tickets) > _MOST_GONE + 2 * lane.count:
            lane.forget_gone()
        return True

    def take(self, is_fitting: Callable[[T], bool]) -> Iterator[T]:
        """Items in fair order, as long as the next one fits; the first that does not stays the next."""
        heads = self._heads
        while heads:
            start, _, lane = heads[0]
            head = lane.head()
            if head is None:
                heappop(heads)
                continue
            item = head.item
            if item is None or not is_fitting(item):
                return
            self._now = max(self._now, start)
            lane.served_until = start + head.cost / lane.weight
            lane.tickets.popleft()
            self._leave(head)
            if lane.tickets:
                next_start = max(self._now, lane.served_until)
                heapreplace(heads, (next_start, next(self._numbers), lane))
            else:
                heappop(heads)
            yield item
        self._begin_anew()

    def ahead_of(self, tenant: str, weight: float = 1.0) -> float:
        """The cost that is served before a new item of a tenant, at most.

        Its own items, and as much of the others' as their weights have them served meanwhile.
        """
        lane = self._lanes.get(tenant)
        own = lane.cost if lane is not None else 0.0
        return min(own / self.share_of(tenant, weight), self.cost)

    def share_of(self, tenant: str, weight: float = 1.0) -> float:
        """The part of what is served, from 0 to 1, that a tenant has while all that wait now go on to."""
        lane = self._lanes.get(tenant)
        if lane is not None and lane.count:
            return lane.weight / self._weight
        return weight / (self._weight + weight)

    def count_of(self, tenant: str) -> int:
        """Items of a tenant."""
        lane = self._lanes.get(tenant)
        return lane.count if lane is not None else 0

    def __iter__(self) -> Iterator[T]:
        """All items, tenant by tenant."""
        for lane in self._lanes.values():
            yield from (ticket.item for ticket in lane.tickets if ticket.item is not None)

    def _begin_anew(self) -> None:
        self._lanes.clear()
        self._heads.clear()
        self._now = self.cost = self._weight = 0.0

    def _leave(self, ticket: Ticket[T]) -> None:
        ticket.item = None
        lane = ticket.lane
        lane.cost -= ticket.cost
        lane.count -= 1
        self.cost -= ticket.cost
        self._count -= 1
        if not lane.count:
            lane.cost = 0.0
            self._weight -= lane.weight
