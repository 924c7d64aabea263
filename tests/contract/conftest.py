"""The API as a client sees it: the real ASGI app, the real embedded Redis, real ONNX models; only Ray is left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from fyretoolkit.settings import DEFAULT_PLANS, EgressSettings, LimitSettings, PlanSettings, Settings
from tests.support.api_bench import Bench, keys_without_expiry, open_bench


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    """Development mode with small limits, so that a test can reach them, but no rate limit in its way."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    return Settings(
        home=tmp_path / "home",
        redis_url=SecretStr(redis_url),
        limits=LimitSettings(max_body_bytes=100_000, max_inputs=16, default_timeout_ms=5000),
        egress=EgressSettings(development_file_roots=(inputs,)),
        plans={
            **DEFAULT_PLANS,
            "development": PlanSettings(read=100_000, write=100_000, inference=10_000_000),
        },
    )


@pytest.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    """An empty platform with the demo key. Fails a test that leaves a task running or a key without expiry."""
    before = asyncio.all_tasks()
    async with open_bench(settings) as opened:
        yield opened
        unlisted = await keys_without_expiry(opened.services.store)
    assert not unlisted, f"keys that neither expire nor are listed as permanent: {unlisted}"
    others = asyncio.all_tasks() - before
    left = {task for task in others if not task.done() and "TestRunner" not in repr(task)}
    assert not left, f"tasks were left running: {left}"
