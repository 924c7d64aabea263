"""The queue that tenants share: who is next, and what a flood costs whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.fair_queue import FairQueue, Ticket


@dataclass
class Budget:
    """Fits this many items."""

    left: int

    def __call__(self, _: object) -> bool:
        self.left -= 1
        return self.left >= 0


class Item:
    """Something that can be looked for."""


def taken(queue: FairQueue[str], count: int) -> list[str]:
    """The next items, at most this many."""
    return list(queue.take(Budget(count)))


def test_one_tenant_is_served_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in "abc":
        queue.put("one", name, cost=5)
    assert taken(queue, 10) == ["a", "b", "c"]
    assert (len(queue), queue.cost) == (0, 0)


def test_a_flood_delays_its_own_tenant_alone() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.put("flood", f"flood{number}", cost=1)
    taken(queue, 10)
    queue.put("other", "other0", cost=1)
    assert "other0" in taken(queue, 2)


def test_cost_counts_and_not_the_number() -> None:
    """A tenant of large requests gets as many rows served as one of small ones, not as many requests."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.put("large", "large", cost=10)
        queue.put("small", "small", cost=1)
    served = Counter(taken(queue, 66))
    assert 5 <= served["large"] <= 7
    assert served["small"] == 66 - served["large"]


def test_weights_share_as_they_say() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(200):
        queue.put("triple", "triple", cost=1, weight=3)
        queue.put("single", "single", cost=1)
    served = Counter(taken(queue, 100))
    assert 74 <= served["triple"] <= 76


def test_who_was_away_has_saved_nothing_up() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.put("busy", "busy", cost=1)
    taken(queue, 50)
    for _ in range(100):
        queue.put("back", "back", cost=1)
    assert 9 <= Counter(taken(queue, 20))["back"] <= 11


def test_what_leaves_unserved_costs_its_tenant_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("b", "b", cost=1)
    gone = [queue.put("a", "a", cost=1) for _ in range(1000)]
    for ticket in gone:
        queue.remove(ticket)
    queue.put("a", "a", cost=1)
    for _ in range(100):
        queue.put("b", "b", cost=1)
    assert "a" in taken(queue, 3)


def test_what_does_not_fit_stays_next() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("one", "a", cost=1)
    queue.put("one", "b", cost=1)
    assert list(queue.take(lambda item: item == "a")) == ["a"]
    assert taken(queue, 5) == ["b"]


def test_ahead_is_the_own_share_of_the_whole() -> None:
    """A tenant's own queue, times how many share; never more than there is."""
    queue: FairQueue[str] = FairQueue()
    assert queue.ahead_of("new") == 0
    for _ in range(100):
        queue.put("flood", "", cost=1)
    assert queue.ahead_of("flood") == 100
    assert queue.ahead_of("new") == 0
    for _ in range(10):
        queue.put("new", "", cost=1)
    assert queue.ahead_of("new") == 20
    assert queue.ahead_of("flood") == 110


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 9), st.sampled_from(["put", "remove", "take"])),
        max_size=60,
    )
)
def test_every_item_leaves_once_and_tenants_keep_their_order(steps: list[tuple[str, int, str]]) -> None:
    """Whatever is put, removed and taken in between: counts agree, nothing is lost or served twice."""
    queue: FairQueue[int] = FairQueue()
    waiting: dict[int, Ticket[int]] = {}
    served: list[int] = []
    tenants: dict[int, str] = {}
    for number, (tenant, cost, what) in enumerate(steps):
        if what == "put":
            waiting[number] = queue.put(tenant, number, cost)
            tenants[number] = tenant
        elif what == "remove" and waiting:
            _, ticket = waiting.popitem()
            assert queue.remove(ticket)
            assert not queue.remove(ticket)
        elif what == "take":
            for item in queue.take(Budget(cost)):
                served.append(item)
                del waiting[item]
        assert len(queue) == len(waiting)
        assert queue.cost == sum(ticket.cost for ticket in waiting.values())
        assert sorted(queue) == sorted(waiting)
    served += queue.take(lambda _: True)
    assert len(set(served)) == len(served)
    for tenant in "abcd":
        own = [item for item in served if tenants[item] == tenant]
        assert own == sorted(own)


def test_what_left_unserved_is_not_kept() -> None:
    """A queue that nobody serves and that everybody leaves again does not grow."""
    queue: FairQueue[object] = FairQueue()
    queue.put("one", object(), cost=1)
    gone = []
    for _ in range(1000):
        item = Item()
        gone.append(ref(item))
        queue.remove(queue.put("one", item, cost=1))
        del item
    assert sum(each() is not None for each in gone) == 0
    assert len(queue.put("one", object(), cost=1).lane.tickets) <= 2 * 64 + 4
    assert len(queue) == 2


@pytest.mark.parametrize("count", range(60, 70))
def test_a_tenant_whose_items_all_left_comes_back_as_one(count: int) -> None:
    """However many left unserved, its turns are its own share, not more."""
    queue: FairQueue[str] = FairQueue()
    queue.put("b", "b", cost=1)
    for ticket in [queue.put("a", "a", cost=1) for _ in range(count)]:
        queue.remove(ticket)
    for _ in range(60):
        queue.put("a", "a", cost=1)
        queue.put("b", "b", cost=1)
    assert 9 <= Counter(taken(queue, 20))["a"] <= 11
    assert len(queue._heads) == 2
