"""`batch.run` with tiny shards, for tests that need many of them, and with a death of its own by SIGKILL."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from batch import local, run
from batch.worker import ShardWorker
from fyretoolkit.settings import Settings


def main() -> int:
    """`--die-after N` first: kill this process once it has committed so many shards."""
    arguments = sys.argv[1:]
    find_settings = local._settings

    def small(*given: Any) -> Settings:
        settings = find_settings(*given)
        batch = settings.batch.model_copy(update={"shard_target_bytes": 300})
        return settings.model_copy(update={"batch": batch})

    local._settings = small
    if arguments[0] == "--die-after":
        _die_after(int(arguments[1]))
        arguments = arguments[2:]
    return run.main(arguments)


def _die_after(shards: int) -> None:
    work = ShardWorker.work
    done: list[int] = []

    def counted(worker: ShardWorker, index: int) -> None:
        work(worker, index)
        done.append(index)
        if len(done) == shards:
            os.kill(os.getpid(), signal.SIGKILL)

    ShardWorker.work = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
