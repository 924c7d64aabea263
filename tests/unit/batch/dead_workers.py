"""What a worker leaves that was killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from batch.attempts import Attempts


def leave_mark(job_folder: Path, shard: int) -> None:
    """The mark of a process that was killed while it worked on the shard."""
    if (child := os.fork()) == 0:
        with Attempts(job_folder).at(shard):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
