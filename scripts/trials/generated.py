"""Sends generated requests to every operation of the served OpenAPI document, as three callers.

With a key of an organization without limits, without a key, and with another organization's key. Each answer must be
one that the document announces: status, headers, content type, body; none may be 5xx.
"""

from __future__ import annotations

import argparse
from collections import Counter

import httpx

from fyretoolkit.settings import DEMO_KEY
from scripts.trials.platforms import own_platform
from tests.contract.conformance.fuzzing import Fuzz, Report, Targets
from tests.support.conformance import Caller, new_organization

HELP = "generated requests by schemathesis; each answer must be one that the OpenAPI document announces"

_MIN_CASES, _MAX_LIMITED = 2000, 0.05


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos schemathesis`."""
    parser.add_argument(
        "--valid", type=int, default=44, help="requests to each operation with a valid key (44)"
    )
    parser.add_argument(
        "--others", type=int, default=14, help="without a key, and with a foreign one (14 each)"
    )
    parser.add_argument("--url", help="a platform in development mode that runs already")


def run(options: argparse.Namespace) -> int:
    """Print the counts and every failure; 1 if there is one."""
    if options.url:
        return _judge(_report(options.url, options))
    with own_platform() as platform:
        return _judge(_report(platform.url, options))


def _report(url: str, options: argparse.Namespace) -> Report:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        operator = Caller(http, DEMO_KEY)
        targets, foreign = Targets(new_organization(operator), operator), new_organization(operator)
        fuzz = Fuzz(url, targets, operator)
        try:
            fuzz.run("valid", targets.org.caller.key, options.valid)
            fuzz.run("nobody", None, options.others)
            fuzz.run("foreign", foreign.caller.key, options.others)
        finally:
            targets.clean_up()
    return fuzz.report


def _judge(report: Report) -> int:
    statuses: Counter[int] = Counter()
    for (_, _, status), count in report.statuses.items():
        statuses[status] += count
    print(
        f"{report.cases} requests:",
        ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items())),
    )
    problems = [*report.failures]
    problems += [f"{label}: never 2xx with a valid key" for label in report.never_succeeded("valid")]
    if report.cases < _MIN_CASES:
        problems.append(f"Fewer than {_MIN_CASES} requests were sent.")
    if statuses[429] >= report.cases * _MAX_LIMITED:
        problems.append(f"{statuses[429]} of them were above a rate limit.")
    print("\n".join(problems) or "Every answer is one that the document announces.")
    return int(bool(problems))
