"""One platform for the whole session: Redis, Ray, Serve, controller, ingress and the demo models."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform

GOLDEN = PROJECT_ROOT / "tests" / "golden"
SMALL_SHARDS = {"batch": {"shard_target_bytes": 65_536}}


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """The running copy. Batch inputs are cut small, so that a short job has many shards."""
    copy = RunningPlatform.in_folder(tmp_path_factory.mktemp("platform"), SMALL_SHARDS)
    try:
        copy.up()
        yield copy
    finally:
        copy.down()
    assert copy.processes() == []


@pytest.fixture
def client(platform: RunningPlatform) -> Iterator[httpx.Client]:
    """A client with the demo key."""
    with platform.client() as client:
        yield client


@pytest.fixture(scope="session")
def glosses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,942 WordNet glosses as JSONL; 1,191 of them are positive by the model run one at a time."""
    path = tmp_path_factory.mktemp("input") / "glosses.jsonl"
    path.write_bytes(gzip.decompress((GOLDEN / "wordnet_sample.jsonl.gz").read_bytes()))
    return path
