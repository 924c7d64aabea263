"""Fixtures that every kind of test may use: a real Redis, empty at the start of each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from fyretoolkit.store.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[EmbeddedRedis]:
    """One server for the session, in a short folder of its own: a socket's path may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="fyre-test-") as folder, EmbeddedRedis(Path(folder)) as server:
        yield server


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis) -> str:
    """The URL of a Redis that holds nothing."""
    with redis.Redis.from_url(embedded_redis.url) as client:
        client.flushall()
    return embedded_redis.url
