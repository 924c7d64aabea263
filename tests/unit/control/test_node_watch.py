"""What the controller writes down of the nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from fyretoolkit.control.node_watch import EVERY_S, MAX_DEAD, NodeWatch
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.nodes import NodeState
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.nodes import NodeStore
from tests.support.cluster import a_node

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty one."""
    opened = Store(redis_url)
    yield opened
    await opened.close()


async def test_the_store_holds_what_was_seen_last(store: Store) -> None:
    """A node that Ray has forgotten is gone from it; of the dead ones so many are kept, whatever there are."""
    now, seen = 100.0, [a_node(number) for number in range(3)]

    def look(deployments: Sequence[Deployment]) -> Sequence[NodeState]:
        assert deployments == []
        return seen

    nodes = NodeStore(store)
    watch = NodeWatch(DeploymentStore(store, 100), nodes, look=look, clock=lambda: now)
    with pytest.raises(PlatformError) as unseen:
        await nodes.page(100)
    assert (unseen.value.code, bool(unseen.value.retry_after_s)) == ("unavailable", True)
    assert await watch.tick() is False
    assert await nodes.page(100) == [a_node(2), a_node(1), a_node(0)]
    assert await nodes.page(1, starting_after=a_node(2).id) == [a_node(1)]
    seen = [a_node(2), *(a_node(number, is_alive=False) for number in range(3, 2 * MAX_DEAD))]
    await watch.tick()
    assert len(await nodes.page(1000)) == 3, "it looked again at once"
    now += EVERY_S
    await watch.tick()
    found = await nodes.page(1000)
    assert (len(found), sum(each.is_alive for each in found)) == (MAX_DEAD + 1, 1)


async def test_a_look_that_fails_is_made_again_at_once(store: Store) -> None:
    """The clock counts from the last one that was written down."""
    calls = 0

    def look(_: Sequence[Deployment]) -> Sequence[NodeState]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("Ray is away")
        return [a_node(1)]

    watch = NodeWatch(DeploymentStore(store, 100), NodeStore(store), look=look, clock=lambda: 0.0)
    with pytest.raises(ConnectionError):
        await watch.tick()
    await watch.tick()
    assert await NodeStore(store).page(10) == [a_node(1)]
