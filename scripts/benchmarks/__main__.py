"""`scripts/bench NAME [options]`: each benchmark is a module with `HELP`, `add_options` and `run`."""

from __future__ import annotations

import argparse
import sys

from scripts.benchmarks import (
    batch,
    beside,
    deploy,
    fairness,
    jobs,
    mixed,
    overload,
    pages,
    predict,
    scaling,
    soak,
    stranger,
)
from scripts.ending import ending_in_order

BENCHMARKS = {
    "pages": pages,
    "predict": predict,
    "overload": overload,
    "fairness": fairness,
    "mixed": mixed,
    "scaling": scaling,
    "soak": soak,
    "deploy": deploy,
    "batch": batch,
    "beside": beside,
    "jobs": jobs,
    "stranger": stranger,
}


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named; 0 if it met its target."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Benchmarks; each meets a target or fails."
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        options = names.add_parser(name, help=benchmark.HELP, description=benchmark.__doc__)
        benchmark.add_options(options)
    chosen = parser.parse_args(arguments)
    with ending_in_order():
        status: int = BENCHMARKS[chosen.name].run(chosen)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
