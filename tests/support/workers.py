"""Which tests one worker of pytest-xdist runs in a row, when `scripts/test` runs the suite in two.

Most of the time of a test of the running platform is waiting: for a replica that starts, a job that ends, a window that
passes. So one worker runs those that share the session's platform, which must be one, and the other meanwhile those
that start a platform of their own, one after another; whoever is done first takes the other tests, a file at a time,
so that a fixture of a module is made once. The rejected alternative, the groups of `--dist=loadgroup`, adds their names
to those of the tests, and would tell tests without a group apart, file or not.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED, OWN = "the session's platform", "platforms of their own"
_PLACES = {
    "tests/system/own/": OWN,
    "tests/system/": SHARED,
    "tests/contract/conformance/": SHARED,
}
"""The first that fits."""


def company_of(nodeid: str) -> str:
    """What the test is run together with: all others for which this is the same."""
    return next(
        (name for folder, name in _PLACES.items() if nodeid.startswith(folder)), nodeid.partition("::")[0]
    )


def longest_first(items: list[pytest.Item]) -> None:
    """Bring those forward that a single worker must run; the order is the given one otherwise."""
    items.sort(key=lambda item: {SHARED: 0, OWN: 1}.get(company_of(item.nodeid), 2))


class ByPlatform(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker tests that belong together, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return company_of(nodeid)
