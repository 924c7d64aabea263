"""A queue that several tenants share by weight: one tenant's flood lengthens its own wait alone.

Start-time fair queueing: each item starts, in virtual time, when the one before it of the same tenant ends, or now if
that is later; it lasts its cost divided by the tenant's weight. Whoever starts first is next. A tenant that was away
saves nothing up, and one that floods is as far ahead of the clock as it asked for.
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
    start: float
    number: int


@dataclass(slots=True)
class _Lane(Generic[T]):
    """One tenant's items, oldest first; they leave from the front, or from anywhere when they are removed."""

    weight: float
    ends: float = 0.0
    """Virtual time at which its last item ends."""
    cost: float = 0.0
    tickets: OrderedDict[int, Ticket[T]] = field(default_factory=OrderedDict)


class FairQueue(Generic[T]):
    """Items with a cost, each of a tenant. Tenants without items are forgotten once the clock has passed them."""

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
            lane = self._lanes[tenant] = _Lane(weight)
        if not lane.tickets:
            lane.weight = weight
            self._weight += weight
        ticket = Ticket(item, tenant, cost, max(self._now, lane.ends), next(self._numbers))
        lane.ends = ticket.start + cost / lane.weight
        lane.cost += cost
        lane.tickets[ticket.number] = ticket
        if len(lane.tickets) == 1:
            heappush(self._heads, (ticket.start, ticket.number, tenant))
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
            heappop(self._heads)
            lane = self._lanes[head.tenant]
            self._now = max(self._now, head.start)
            self._leave(lane, head)
            self._announce(lane)
            yield head.item

    def ahead_of(self, tenant: str, weight: float = 1.0) -> float:
        """The cost that is served before a new item of a tenant: its own share of the queue, and all others' at most.

        With every lane as long as this tenant's would become, the others would take their weight's worth each.
        """
        lane = self._lanes.get(tenant)
        own = lane.cost if lane is not None else 0.0
        is_new = lane is None or not lane.tickets
        total = self._weight + (weight if is_new else 0.0)
        share = own * total / (weight if is_new or lane is None else lane.weight)
        return min(share, self.cost)

    def share_of(self, tenant: str, weight: float = 1.0) -> float:
        """The part of what is served, from 0 to 1, that a tenant has while all that wait now go on to."""
        lane = self._lanes.get(tenant)
        is_waiting = lane is not None and lane.tickets
        return weight / (self._weight if is_waiting else self._weight + weight)

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
        self._forget_idle()
        return None

    def _leave(self, lane: _Lane[T], ticket: Ticket[T]) -> None:
        del lane.tickets[ticket.number]
        lane.cost -= ticket.cost
        self.cost -= ticket.cost
        self._count -= 1
        if not lane.tickets:
            lane.cost = 0.0
            self._weight -= lane.weight
        if not self._count:
            self.cost = self._weight = 0.0

    def _announce(self, lane: _Lane[T]) -> None:
        if lane.tickets:
            number, ticket = next(iter(lane.tickets.items()))
            heappush(self._heads, (ticket.start, number, ticket.tenant))

    def _forget_idle(self) -> None:
        """With nothing left to serve, virtual time begins anew."""
        self._lanes.clear()
        self._now = 0.0
