"""Fixtures of the batch tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from fyretoolkit.settings import BatchSettings, EgressSettings, Settings
from tests.unit.batch.bench import Bench


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
def bench(tmp_path: Path, redis_url: str) -> Bench:
    """A fresh home; shards of about three short rows, calls of two."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    settings = Settings(
        home=tmp_path / "home",
        redis_url=SecretStr(redis_url),
        egress=EgressSettings(development_file_roots=(inputs,)),
        batch=BatchSettings(
            shard_target_bytes=40, rows_per_call=2, max_line_bytes=1000, lease_s=1, worker_niceness=0
        ),
    )
    return Bench(settings, inputs)
