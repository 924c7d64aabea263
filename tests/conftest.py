"""Fixtures that every kind of test may use: a real Redis, empty at the start of each test; one running platform."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from fyretoolkit.store.embedded import EmbeddedRedis
from tests.support.platform import RunningPlatform
from tests.support.s3_server import CREDENTIALS, S3Server, running_s3_server
from tests.support.workers import SHARED, ByPlatform, company_of, longest_first

# How long an example takes says something of the machine, not of the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByPlatform:
    """What each worker runs in a row."""
    return ByPlatform(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In workers the longest rows come first, random as they are; the platform is asked for in one of them alone."""
    strays = [
        item.nodeid
        for item in items
        if "platform" in getattr(item, "fixturenames", ()) and company_of(item.nodeid) != SHARED
    ]
    if strays:
        raise pytest.UsageError(f"a second worker would start the session's platform for: {strays}")
    if hasattr(config, "workerinput"):
        longest_first(items)


RATE_WINDOW_S = 12
"""Of the running platform: short, so that a test may wait until a limit is free again; a busy machine uses it up."""
SHORTENED = {
    "batch": {"shard_min_bytes": 65_536, "shard_target_bytes": 65_536},
    "limits": {"rate_window_s": RATE_WINDOW_S},
    "quotas": {"api_keys": 10_000},
    "webhooks": {"pauses_s": [0.5, 0.5, 0.5]},
    "autoscaling": {"downscale_delay_s": 3, "downscale_to_zero_delay_s": 12},
    "standby": {"wake_grace_s": 5},
}
"""Batch inputs are cut small, so that a short job has many shards. Deployments that nobody calls lose replicas soon;
the last one after Serve has forgotten the call of the warm-up, which it takes for a waiting one for 10 s. One that is
woken gives a slow controller the time to hand it a replica that stands by, before it starts another one."""


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


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for the session, and in the environment credentials that it takes."""
    with running_s3_server() as server, pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        yield server


GPU_WITHOUT_CUDA = {"FYRE_TEST_GPUS": "1"}
"""Of the running platform: one that Ray counts and nobody has. Tests of GPUs that work have a platform of their own."""
OPEN_BUCKET = "opened"
"""The one bucket of the S3 server that callers of the running platform may name, to read and to write."""


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[RunningPlatform]:
    """The one platform of the session, started by the first test that asks for it.

    Redis, Ray, Serve, controller, ingress and the demo models.
    """
    overrides = {
        **SHORTENED,
        "egress": {"s3": {**s3.settings, "roots": [OPEN_BUCKET], "write_roots": [OPEN_BUCKET]}},
    }
    copy = RunningPlatform.in_folder(tmp_path_factory.mktemp("platform"), overrides)
    copy.environ.update({**GPU_WITHOUT_CUDA, "FYRE_FAILPOINTS": "1"})
    try:
        copy.up()
        yield copy
    finally:
        copy.down()
    assert copy.processes() == []
