"""Our own log lines in a replica of Serve's: to its process's error output, where `fyre logs` and the dashboard look.

Serve puts its logger in the place of `sys.stderr`, at a level that it is told to leave out, so they were lost: the
ingress's lines of requests, and the tracebacks of its failures.
"""

from __future__ import annotations

import logging
import sys


def log_to_the_process(logger: logging.Logger, level: int = logging.INFO) -> None:
    """Warnings of everybody, and what `logger` says from `level` on."""
    logging.basicConfig(stream=sys.__stderr__, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logger.setLevel(level)
