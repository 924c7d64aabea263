"""What an operator reads when the platform cannot start or stop: one sentence, the next step in it.

It is no `PlatformError`: those are answers of the HTTP API with a status, and there is no API yet.
"""

from __future__ import annotations

from pathlib import Path


class LaunchError(Exception):
    """The platform cannot go on; `log` is the file that tells more."""

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        self.log = log
        super().__init__(f"{message} Log: {log}" if log else message)
