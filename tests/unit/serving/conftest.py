"""What the tests of the coalescer share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.coalescing import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A coalescer over one replica; nothing of it is left at the end."""
    made = Bench()
    yield made
    await made.coalescer.close()
    assert made.coalescer.is_idle
