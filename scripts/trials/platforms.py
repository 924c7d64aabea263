"""A platform of a trial's own, in a folder that goes when the trial ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import SHORTENED
from tests.support.platform import RunningPlatform


@contextmanager
def own_platform() -> Iterator[RunningPlatform]:
    """As the tests start it: small shards, a short window of the rate limits."""
    with tempfile.TemporaryDirectory(prefix="fyre-trial-") as folder:
        platform = RunningPlatform.in_folder(Path(folder), SHORTENED)
        try:
            platform.up()
            yield platform
        finally:
            platform.down()
