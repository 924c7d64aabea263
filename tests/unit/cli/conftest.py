"""`fyre` beside the real API behind a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from pydantic import SecretStr

from fyretoolkit.client import retries
from fyretoolkit.settings import DEFAULT_PLANS, DEMO_KEY, PlanSettings, Settings
from tests.support.api_bench import Bench, open_bench
from tests.support.fyre_command import Fyre
from tests.support.http_server import serve_over_http


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[tuple[Bench, str]]:
    async with open_bench(settings) as bench, serve_over_http(bench.app) as url:
        yield bench, url


@pytest.fixture
def fyre(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fyre]:
    """A platform with the demo key, named by the environment; clients look often."""
    plans = {
        **DEFAULT_PLANS,
        "development": PlanSettings(read=100_000, write=100_000, inference=1_000_000),
    }
    settings = Settings(home=tmp_path / "home", redis_url=SecretStr(redis_url), plans=plans)
    monkeypatch.setattr(retries, "POLL_FIRST_S", 0.01)
    monkeypatch.setattr(retries, "POLL_MAX_S", 0.05)
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_serving(settings)) as (bench, url),
    ):
        monkeypatch.setenv("FYRE_BASE_URL", f"{url}/")
        monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
        monkeypatch.setenv("COLUMNS", "200")
        yield Fyre(url, bench, portal)
