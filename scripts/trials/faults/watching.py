"""A batch job as it looks from outside while its processes are killed: through the API, and in Redis itself.

The job's own log says too what was done, but not of a commit whose process died before it could write a line.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import httpx
import redis

from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import read_state
from fyretoolkit.store import keys
from tests.support.platform import RunningPlatform

_POLL_S = 0.05
_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Watch:
    """What was seen so far. Times are of the clock, as in the job's log."""

    job_id: str
    processed: list[int] = field(default_factory=list)
    """At each look at the API that was answered."""
    committed_at: dict[int, float] = field(default_factory=dict)
    """By shard, when it was first seen to be committed."""
    job: dict[str, Any] = field(default_factory=dict)
    """As the API told last."""
    told_ended_at: float = 0.0
    """When the API told last that it has ended; 0: not yet."""

    @property
    def has_ended(self) -> bool:
        """Whether the job is over."""
        return self.told_ended_at > 0

    @property
    def is_monotone(self) -> bool:
        """Whether progress never went back."""
        return self.processed == sorted(self.processed)


@contextmanager
def watching(platform: RunningPlatform, job_id: str) -> Iterator[Watch]:
    """Looks every few hundredths of a second within the block."""
    watch, is_over = Watch(job_id), Event()
    thread = Thread(target=_look_on, args=(platform, watch, is_over))
    thread.start()
    try:
        yield watch
    finally:
        is_over.set()
        thread.join()


def _look_on(platform: RunningPlatform, watch: Watch, is_over: Event) -> None:
    state = read_state(Home(platform.home))
    assert state is not None
    socket = str(Path(state.runtime_dir) / "redis.sock")
    with platform.client() as client, redis.Redis(unix_socket_path=socket) as store:
        while not is_over.wait(_POLL_S):
            with suppress(redis.RedisError):
                shards = cast(list[bytes], store.hkeys(keys.job_shards(DEMO_ORG, watch.job_id)))
                now = time.time()
                for shard in map(int, shards):
                    watch.committed_at.setdefault(shard, now)
            with suppress(httpx.TransportError):
                _ask(client, watch)


def _ask(client: httpx.Client, watch: Watch) -> None:
    """Nothing where the platform says that it cannot tell now."""
    answer = client.get(f"/jobs/{watch.job_id}", timeout=_TIMEOUT_S)
    if answer.status_code != 200:
        return
    watch.job = answer.json()
    watch.processed.append(watch.job["progress"]["processed"])
    if watch.job["finished"]:
        watch.told_ended_at = time.time()
