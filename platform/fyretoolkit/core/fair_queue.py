"""A queue that several tenants share by weight: one tenant's flood lengthens its own wait alone.

Start-time fair queueing: each item starts, in virtual time, when the one served before it of the same tenant ends, or
now if that is later; it lasts its cost divided by the tenant's weight. Whoever starts first is next. A tenant that was
away saves nothing up, one that floods is as far behind as what it was served, and what leaves unserved costs nothing.
Source: Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996. Weighted round robin with deficits shares as
fairly in the long run but serves a tenant's whole turn at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """An item in the queue; `remove` takes it out before its turn."""

    item: T
    tenant: str
    cost: float
    number: int


@dataclass(slots=True)
class _Lane(Generic[T]):
    """One tenant's items, oldest first; they leave from the front, or from anywhere when they are removed."""

    weight: float
    served_until: float = 0.0
    """Virtual time at which the last of its items that was served ends."""
    cost: float = 0.0
    tickets: OrderedDict[int, Ticket[T]] = field(default_factory=OrderedDict)


class FairQueue(Generic[T]):
    """Items with a cost, each of a tenant. With nothing left in the queue, all tenants begin anew."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}
        self._heads: list[tuple[float, int, str]] = []
        """(start, ticket, tenant) of the oldest item of each lane; entries of items that left are passed over."""
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
        if not lane.tickets:
            lane.weight = weight
            self._weight += weight
        ticket = Ticket(item, tenant, cost, next(self._numbers))
        lane.cost += cost
        lane.tickets[ticket.number] = ticket
        if len(lane.tickets) == 1:
            self._announce(lane)
        self._count += 1
        self.cost += cost
        return ticket

    def remove(self, ticket: Ticket[T]) -> bool:
        """Take an item out before its turn; False if it has left already."""
        lane = self._lanes.get(ticket.tenant)
        if lane is None or ticket.number not in lane.tickets:
            return False
        is_head = next(iter(lane.tickets)) == ticket.number
        self._leave(lane, ticket)
        if is_head:
            self._announce(lane)
            self._head()  # drops what is left of it
        return True

    def take(self, is_fitting: Callable[[T], bool]) -> Iterator[T]:
        """Items in fair order, as long as the next one fits; the first that does not stays the next."""
        while (head := self._head()) is not None and is_fitting(head.item):
            start, _, _ = heappop(self._heads)
            lane = self._lanes[head.tenant]
            self._now = max(self._now, start)
            lane.served_until = start + head.cost / lane.weight
            self._leave(lane, head)
            self._announce(lane)
            yield head.item
        self._head()

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
        if lane is not None and lane.tickets:
            return lane.weight / self._weight
        return weight / (self._weight + weight)

    def count_of(self, tenant: str) -> int:
        """Items of a tenant."""
        lane = self._lanes.get(tenant)
        return len(lane.tickets) if lane is not None else 0

    def __iter__(self) -> Iterator[T]:
        """All items, tenant by tenant."""
        for lane in self._lanes.values():
            yield from (ticket.item for ticket in lane.tickets.values())

    def _head(self) -> Ticket[T] | None:
        while self._heads:
            _, number, tenant = self._heads[0]
            lane = self._lanes.get(tenant)
            if lane is not None and number in lane.tickets:
                return lane.tickets[number]
            heappop(self._heads)
        self._lanes.clear()
        self._now = self.cost = self._weight = 0.0
        return None

    def _leave(self, lane: _Lane[T], ticket: Ticket[T]) -> None:
        del lane.tickets[ticket.number]
        lane.cost -= ticket.cost
        self.cost -= ticket.cost
        self._count -= 1
        if not lane.tickets:
            lane.cost = 0.0
            self._weight -= lane.weight

    def _announce(self, lane: _Lane[T]) -> None:
        """The oldest item of a lane starts where what was served of it ends."""
        if lane.tickets:
            number, ticket = next(iter(lane.tickets.items()))
            heappush(self._heads, (max(self._now, lane.served_until), number, ticket.tenant))
