"""Some 120 hostile URLs in each field that takes one, on the real code in production mode: nothing may be connected to.

It happens in a network namespace in which every address of the internet is this machine, so that a connection to the
metadata service of a cloud, or to whatever a name led to, is really accepted, and counted. What the text of a URL tells
is refused with 422; the rest ends the job or the deployment with `url_not_allowed`. The one server that may be fetched
from redirects, and breaks its answers, so that it is asked for again when its name has changed its mind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.behaviour.stage import Finding, conclude
from scripts.trials.hostile.catalogue import HostileUrl, catalogue
from scripts.trials.hostile.outcomes import Field, Outcome, judge, table
from scripts.trials.hostile.world import entered, is_possible

HELP = "120 hostile URLs as input, webhook and model, in a network of their own; nothing may be connected to"

_FEWEST = 120
_TIMEOUT_S = 600


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos urls`."""
    parser.add_argument("--every", type=int, default=1, help="try one of so many (1)")


def run(options: argparse.Namespace) -> int:
    """Print a line for each kind and the verdicts; 1 if one is missed, 2 where there can be no such network."""
    if not is_possible():
        print("This system permits no network namespaces, or lacks `unshare`, `mount` and `ip`.")
        return 2
    chosen = [*catalogue()][:: options.every]
    outcomes = conduct(chosen)
    print("\n" + table(outcomes) + "\n")
    enough = Finding(f"URLs: {len(chosen)} (≥ {_FEWEST})", len(chosen) >= _FEWEST)
    return conclude([*judge(outcomes), enough])


def conduct(chosen: Sequence[HostileUrl]) -> list[Outcome]:
    """What becomes of each URL in each field."""
    with tempfile.TemporaryDirectory(prefix="fu-") as name:
        command = entered(Path(name), "scripts.trials.hostile.inside")
        environ = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT / 'platform'}:{PROJECT_ROOT}"}
        tries = json.dumps([asdict(each) for each in chosen])
        done = subprocess.run(
            command, input=tries, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = [Outcome(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(outcomes) == len(chosen) * len(Field)
    return outcomes
