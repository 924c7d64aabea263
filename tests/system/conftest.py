"""What the tests of the running platform share beside the platform itself (`tests/conftest.py`)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform

GOLDEN = PROJECT_ROOT / "tests" / "golden"


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
