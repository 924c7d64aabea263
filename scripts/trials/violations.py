"""Breaks the HTTP contract in a copy, one line at a time, and shows which conformance tests notice.

A platform runs beside it. Each violation is served by an ingress of the copy on that platform's Redis, and the tests of
its section run against that. Without a violation all of them must pass; with one, at least one must fail.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fyretoolkit.settings import PROJECT_ROOT
from scripts.trials.platforms import own_platform
from tests.conftest import RATE_WINDOW_S
from tests.contract.conformance.violations import VIOLATIONS
from tests.support.copies import Examiner, Violation, changed, copy_product, violated

HELP = "plants violations of the HTTP contract; the conformance tests must notice each"

_SHOWN = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos violations`."""
    names = [violation.name for violation in VIOLATIONS]
    parser.add_argument("names", nargs="*", metavar="violation", help=f"some of: {'; '.join(names)}")


def run(options: argparse.Namespace) -> int:
    """Print a line for each violation; 1 if one went unnoticed."""
    chosen = [each for each in VIOLATIONS if not options.names or each.name in options.names]
    for violation in chosen:
        changed(PROJECT_ROOT, violation)
    unknown = set(options.names) - {each.name for each in chosen}
    if unknown:
        print(f"No such violation: {', '.join(sorted(unknown))}")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="fyre-violations-") as folder,
        own_platform() as platform,
    ):
        copy = copy_product(Path(folder) / "copy")
        return _examine(Examiner(platform, copy, window_s=RATE_WINDOW_S), chosen)


def _examine(examiner: Examiner, chosen: Sequence[Violation]) -> int:
    sections = list(dict.fromkeys(name for violation in chosen for name in violation.tests))
    if failed := examiner.failures(sections):
        print(examiner.output)
        print(f"Without a violation these tests fail already: {', '.join(failed)}")
        return 1
    unnoticed = 0
    for violation in chosen:
        began = time.monotonic()
        with violated(examiner.copy, violation):
            failed = examiner.failures(violation.tests, "--maxfail=3")
        unnoticed += not failed
        noticed = ", ".join(failed[:_SHOWN]) or "NOBODY NOTICED"
        print(f"| {violation.name} | {noticed} | {time.monotonic() - began:.0f} s |", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} violations were noticed.")
    return int(unnoticed > 0)
