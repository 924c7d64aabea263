"""From POST /deployments to ready, beside a bare `serve.run` of the same model on the same Ray.

Three ways in turn, round after round (A B C, A B C), so that a slow minute of the machine falls on all: on a platform
that keeps one standby replica, on one that keeps none, and by a driver that runs the textbook's `serve.run` with the
same Serve options on the Ray of the second platform, from its call to its return. Each of them with a model that is
registered and with a package nobody has seen. What was deployed is deleted, and the pool full again, before the next
begins. The bare one neither fetches, inspects and stores what it deploys nor measures how to batch it.

Then a deployment that sleeps on either platform is asked for one prediction, which is held until a replica is awake.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from scripts.benchmarks.behaviour.stage import conclude, introduce, running_platform
from scripts.benchmarks.comparison.machine import busy_note, busy_share, describe_machine
from scripts.benchmarks.comparison.workloads import WORKLOADS, Workload
from scripts.benchmarks.deploys.bare import BareServe, bare_serve
from scripts.benchmarks.deploys.figures import (
    BARE,
    NEW,
    PLAIN,
    REGISTERED,
    STANDBY,
    WAKE,
    Figures,
    Measurement,
    judge,
    table,
    write,
)
from scripts.benchmarks.deploys.ours import Stage, new_package
from scripts.benchmarks.predict import RESULTS
from scripts.trials.faults.churn import register
from tests.support.serve_rest import ServeRest

HELP = "from POST to ready with a standby and without, beside a bare serve.run; waking from zero"

_REGISTERED_ID, _SLEEPER_ID = "registered", "sleeper"
_SLEEPY: Mapping[str, Any] = {"autoscaling": {"downscale_delay_s": 1, "downscale_to_zero_delay_s": 12}}
"""Longer than the 10 s for which Serve takes the warm-up's call for one that waits."""
_WAYS = {"standby": STANDBY, "without": PLAIN, "bare": BARE}

Deploy = Callable[[int, str, Path], float]
"""Deploys the package, or the registered model, deletes it again; the seconds until it was ready."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench deploy`."""
    parser.add_argument("--rounds", type=int, default=10, help="of a deploy of each kind in each way (10)")
    parser.add_argument("--wakes", type=int, default=5, help="from zero on each platform (5)")
    parser.add_argument("--ways", nargs="+", choices=list(_WAYS), default=list(_WAYS))
    parser.add_argument("--out", type=Path, help="a folder for deploy.md and .json")
    parser.add_argument("--quick", action="store_true", help="two rounds, one wake; writes only with --out")


def run(options: argparse.Namespace) -> int:
    """Measure, print and write; 1 if a target is missed."""
    if options.quick:
        options.rounds, options.wakes = 2, 1
    introduce()
    circumstances = [*describe_machine(), *filter(None, [busy_note(busy_share())])]
    with tempfile.TemporaryDirectory(prefix="fb-") as folder, ExitStack() as stack:
        workload = WORKLOADS["digits"](Path())
        stages = {
            way: stack.enter_context(_stage(standby, workload))
            for way, standby in ((STANDBY, 1), (PLAIN, 0))
            if way == PLAIN or STANDBY in _chosen(options)
        }
        ways: dict[str, Deploy] = {way: partial(_deploy_ours, stage) for way, stage in stages.items()}
        if BARE in _chosen(options):
            bare = stack.enter_context(bare_serve(stages[PLAIN].platform))
            ways[BARE] = partial(_deploy_bare, bare, workload)
        measured = [*_deploys(ways, workload, options.rounds, Path(folder))]
        measured += _wakes(stages, workload, options.wakes)
    figures = Figures(measured)
    findings = judge(figures)
    print("\n" + table(figures) + "\n", flush=True)
    out = options.out or (None if options.quick else RESULTS)
    if out is not None:
        write(out, figures, findings, [*circumstances, *_procedure(options)])
    return conclude(findings)


def _chosen(options: argparse.Namespace) -> list[str]:
    return [_WAYS[name] for name in options.ways]


@contextmanager
def _stage(standby: int, workload: Workload) -> Iterator[Stage]:
    """A platform with the model registered, once its pool is full."""
    overrides = {**_SLEEPY, "standby": {"size": standby}}
    with (
        running_platform(overrides) as platform,
        platform.client() as http,
        ServeRest(platform) as rest,
    ):
        http.timeout = 120
        register(http, _REGISTERED_ID, workload.package)
        stage = Stage(platform, rest, http, standby)
        stage.settle()
        yield stage


def _deploys(
    ways: Mapping[str, Deploy], workload: Workload, rounds: int, folder: Path
) -> Iterator[Measurement]:
    for number in range(rounds):
        for what in (REGISTERED, NEW):
            package = workload.package
            if what == NEW:
                package = new_package(workload.package, folder / f"new-{number}")
            for way, deploy in ways.items():
                yield _said(Measurement(number, what, way, deploy(number, what, package)))


def _deploy_ours(stage: Stage, number: int, what: str, package: Path) -> float:
    body = {"model_uri": package.as_uri(), "model_id": f"new-{number}"}
    name, seconds = stage.deploy({"model_uri": f"models://{_REGISTERED_ID}"} if what == REGISTERED else body)
    stage.delete(name)
    return seconds


def _deploy_bare(bare: BareServe, workload: Workload, number: int, what: str, package: Path) -> float:
    graph = package / workload.graph.name
    name = f"bare-{number}-{'new' if what == NEW else 'registered'}"
    seconds = bare.deploy(name, graph)
    bare.delete(name)
    return seconds


def _wakes(stages: Mapping[str, Stage], workload: Workload, rounds: int) -> Iterator[Measurement]:
    """All fall asleep at the same time, which takes a while, and are woken one after another."""
    if not rounds:
        return
    body = {
        "model_uri": workload.package.as_uri(),
        "model_id": _SLEEPER_ID,
        "autoscaling": {"min_replicas": 0, "max_replicas": 1},
    }
    names = {way: stage.deploy(body)[0] for way, stage in stages.items()}
    for number in range(rounds):
        for way, stage in stages.items():
            stage.fall_asleep(names[way])
            stage.settle()
        for way, stage in stages.items():
            seconds = stage.predict(_SLEEPER_ID, list(workload.requests[0]))
            yield _said(Measurement(number, WAKE, way, seconds))


def _said(found: Measurement) -> Measurement:
    print(f"round {found.round + 1}: {found.what}, {found.way}: {found.seconds:.2f} s", flush=True)
    return found


def _procedure(options: argparse.Namespace) -> Sequence[str]:
    return (
        "Two platforms with every default but `standby.size` (1 and 0) and short delays of autoscaling, both idle but "
        "for what is measured; the bare serve.run on the Ray of the second",
        f"{options.rounds} rounds of each way in turn; deleted, and the pool full again, before the next. Ready: the "
        "answer to GET /deployments/{id}, asked every 20 ms; the bare one: serve.run has returned",
        f"`scripts/bench deploy`, {datetime.now(UTC):%Y-%m-%d}",
    )
