"""`scripts/chaos NAME [options]`: each trial is a module with `HELP`, `add_options` and `run`."""

from __future__ import annotations

import argparse
import sys

from scripts.ending import ending_in_order
from scripts.trials import (
    artifacts,
    batch,
    cancel,
    deploy,
    generated,
    rows,
    scale,
    urls,
    violations,
    webhooks,
)

TRIALS = {
    "violations": violations,
    "schemathesis": generated,
    "artifacts": artifacts,
    "deploy": deploy,
    "batch": batch,
    "rows": rows,
    "scale": scale,
    "cancel": cancel,
    "urls": urls,
    "webhooks": webhooks,
}


def main(arguments: list[str]) -> int:
    """Run the trial that is named; 0 if the product, or its tests, stood it."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Trials: what is broken on purpose, and what must hold all the same.",
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, trial in TRIALS.items():
        options = names.add_parser(name, help=trial.HELP, description=trial.__doc__)
        trial.add_options(options)
    chosen = parser.parse_args(arguments)
    with ending_in_order():
        return TRIALS[chosen.name].run(chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
