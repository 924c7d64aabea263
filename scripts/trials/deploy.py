"""`kill -9` while deployments come and go and predictions are asked for at a steady rate, on two ingress replicas.

In turn: our controller, Serve's controller, a replica of the model under load, an ingress replica; every other time in
the middle of a deploy. The model under load has two replicas: one that has a single replica does not answer while that
one starts. Callers of predictions try once more after 100 ms, the caller of deployments until there is an answer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from scripts.benchmarks.behaviour.stage import (
    conclude,
    deploy,
    introduce,
    new_key,
    running_platform,
    target_of,
    warm,
)
from scripts.benchmarks.comparison.workloads import WORKLOADS
from scripts.trials.faults.aftermath import look_after
from scripts.trials.faults.churn import Churn, churning
from scripts.trials.faults.kills import Kill, Victim, kill, time_until_back, victims_of
from scripts.trials.faults.report import Trial, judge, judge_reach, judge_times, table
from scripts.trials.faults.steady import steady_load
from tests.support.platform import RunningPlatform, until
from tests.support.serve_rest import ServeRest

HELP = "kill -9 of controllers and replicas during deploys and under load; what was accepted must come to be"

TWO_INGRESSES = {"ingress": {"replicas": 2}}
_MIN_CALLS = 3000
_LOADED_REPLICAS = 2
_SHARES = (0.0, 0.5, 0.25, 0.75)
"""Of the time that the deploy before took: when one is hit that should be, in turn for each kind."""
_PATIENCE_S = 240.0
_BEGINS_WITHIN_S = 240.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos deploy`."""
    parser.add_argument("--rounds", type=int, default=6, help="of a kill of each kind (6)")
    parser.add_argument("--rate", type=float, default=50.0, help="predictions a second (50)")
    parser.add_argument("--standby", type=int, help="replicas that stand by (as configured)")
    parser.add_argument("--seconds", type=float, default=75.0, help="the load lasts so long at least (75)")


def run(options: argparse.Namespace) -> int:
    """Print the kills by kind and the verdicts; 1 if a line does not hold."""
    introduce()
    standby = {} if options.standby is None else {"standby": {"size": options.standby}}
    with running_platform({**TWO_INGRESSES, **standby}) as platform:
        trial = conduct(platform, rounds=options.rounds, rate_per_s=options.rate, seconds=options.seconds)
    print("\n" + table(trial) + "\n")
    return conclude([*judge(trial), *judge_times(trial), *judge_reach(trial, min_calls=_MIN_CALLS)])


def conduct(
    platform: RunningPlatform, *, rounds: int = 1, rate_per_s: float = 50.0, seconds: float = 0.0
) -> Trial:
    """Kill everything in turn `rounds` times on a platform with two ingress replicas."""
    workload = WORKLOADS["digits"](Path())
    loaded = deploy(platform, workload, replicas=_LOADED_REPLICAS)
    _await_replicas(platform, loaded["id"])
    target = target_of(platform, workload.name, workload.bodies)
    warm(target)
    key = new_key(platform, "churn")
    kills: list[Kill] = []
    with ServeRest(platform) as rest:
        began = time.monotonic()
        victims = victims_of(platform, rest, loaded["application"])
        with steady_load(target, workload, rate_per_s) as calls:
            with churning(platform, key) as churn:
                for number in range(rounds * len(victims)):
                    place, turn = number % len(victims), number // len(victims)
                    if (place + turn) % 2 == 0:
                        _await_deploy(churn, _SHARES[turn // 2 % len(_SHARES)])
                    kills.append(_kill(platform, victims[place], churn))
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        return Trial(kills, calls, churn.deploys, look_after(platform, rest, churn.deploys, key))


def _await_replicas(platform: RunningPlatform, name: str) -> None:
    """Until all of the deployment under load are there: with one that stood by it is ready before."""
    with platform.client() as client:
        until(
            lambda: client.get(f"/deployments/{name}").json()["replicas"]["ready"] == _LOADED_REPLICAS,
            timeout_s=_PATIENCE_S,
            what=f"{_LOADED_REPLICAS} replicas",
        )


def _await_deploy(churn: Churn, share: float) -> None:
    """Until so much of one that begins now is probably over."""
    seen = churn.begun
    until(lambda: churn.begun > seen, timeout_s=_BEGINS_WITHIN_S, what="another deployment")
    took = [each.ready_after_s for each in churn.deploys if each.ready_after_s is not None]
    time.sleep(share * took[-1] if took else 0.0)


def _kill(platform: RunningPlatform, victim: Victim, churn: Churn) -> Kill:
    stage = churn.stage
    at = time.monotonic()
    killed = kill(platform, victim)
    back_after_s = time_until_back(victim, killed, patience_s=_PATIENCE_S)
    print(f"{victim.kind} (during: {stage or 'nothing'}): back after {back_after_s:.1f} s", flush=True)
    return Kill(victim, at, stage, back_after_s)
