"""A platform to put under load, who asks it, and how a benchmark says what it found.

It is started as `scripts/up` starts it, everything on: callers have limits that no load here reaches, so that they are
counted as anyone's are (the plan `unlimited` would leave the counting out).
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fyretoolkit.settings import DEMO_KEY
from scripts.benchmarks.comparison.machine import busy_note, busy_share, describe_machine
from scripts.benchmarks.comparison.measurements import ask
from scripts.benchmarks.comparison.workloads import Workload
from scripts.benchmarks.load import Target
from tests.support.platform import RunningPlatform, deployed

INGRESS, REPLICA = "Ingress", "ModelServer"
"""Parts of the titles of the processes that serve the API and the models."""

_LIMITS = {"read": 1_000_000, "write": 1_000_000, "inference": 1_000_000_000}
_PLAN = "bench"
PLANS = {"development": _LIMITS, _PLAN: _LIMITS}
"""What a platform's configuration must know for `new_key` and for any load."""
_REGION = "us-east-1"
_WARM_UP_REQUESTS = 20


class NotReadyError(Exception):
    """The platform does not serve what a benchmark needs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what must be shown, with what was measured."""

    what: str
    is_met: bool


def conclude(findings: Sequence[Finding]) -> int:
    """Print each with its verdict; the exit code, 1 if one is missed."""
    for finding in findings:
        print(f"{'met' if finding.is_met else 'MISSED'}: {finding.what}", flush=True)
    return int(not all(finding.is_met for finding in findings))


def introduce() -> None:
    """Print the machine, and whether others use it: the first thing that a benchmark does."""
    note = busy_note(busy_share())
    print("\n".join([*describe_machine(), *filter(None, [note])]), flush=True)


@contextmanager
def running_platform(
    overrides: Mapping[str, Any] | None = None,
    *,
    has_demo_models: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Iterator[RunningPlatform]:
    """A platform of its own, ended and removed afterwards; `overrides` change sections of its configuration.

    `environ` is added to its environment.
    """
    folder = Path(tempfile.mkdtemp(prefix="fb-"))  # short: Redis' socket lies in it
    platform = RunningPlatform.in_folder(folder, dict(overrides or {}), PLANS)
    platform.environ.update(environ or {})
    try:
        platform.up(*([] if has_demo_models else ["--no-demo"]))
        yield platform
    finally:
        platform.down()
        shutil.rmtree(folder, ignore_errors=True)


def deploy(platform: RunningPlatform, workload: Workload, **fields: Any) -> dict[str, Any]:
    """Deploy a workload's package with the demo key and wait until it is ready; the resource.

    Raises:
        NotReadyError: the deployment failed.
    """
    body = {
        "model_uri": f"file://{workload.package}",
        "model_id": workload.name,
        "region": _REGION,
        **fields,
    }
    with platform.client() as client:
        deployment = deployed(client, body)
    if deployment["status"] != "ready":
        raise NotReadyError(f"{workload.name}: {deployment['error']}")
    return deployment


def new_key(platform: RunningPlatform, name: str) -> str:
    """The key of a new organization."""
    with platform.client() as operator:
        made = operator.post("/organizations", json={"name": name, "plan": _PLAN})
    made.raise_for_status()
    key: str = made.json()["api_key"]["key"]
    return key


def target_of(
    platform: RunningPlatform, model: str, bodies: Sequence[bytes], *, key: str = DEMO_KEY
) -> Target:
    """Where predictions of a model go."""
    basic = base64.b64encode(f"{key}:".encode()).decode()
    headers = {"authorization": f"Basic {basic}"}
    return Target("127.0.0.1", platform.port, f"/predict/{model}", headers, bodies)


def warm(target: Target) -> None:
    """Have a few requests answered, so that keys, routes and codecs are known.

    Raises:
        NotReadyError: one was not answered with 200.
    """
    for number in range(_WARM_UP_REQUESTS):
        status, content = ask(target, number % len(target.bodies))
        if status != 200:
            raise NotReadyError(f"{target.path} answers {status}: {content[:300]!r}")
