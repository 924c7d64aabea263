"""`scripts/chaos deploy` and `scale` in short: kills while deployments come and go, and after an operator scaled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.benchmarks.behaviour.stage import running_platform
from scripts.trials import scale
from scripts.trials.deploy import TWO_INGRESSES, conduct
from scripts.trials.faults.report import judge, rows
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def two_ingresses() -> Iterator[RunningPlatform]:
    """A platform with two ingress replicas and no models."""
    with running_platform(TWO_INGRESSES) as platform:
        yield platform


def test_kills_lose_no_deployment_and_hardly_a_prediction(two_ingresses: RunningPlatform) -> None:
    """Controllers, a model replica and an ingress replica killed, some of them during a deploy.

    Deploys finish, each key has its one deployment, what is deleted stays so, and no answer is wrong.
    """
    trial = conduct(two_ingresses, rounds=1)
    assert len({kill.victim.kind for kill in trial.kills}) == 4
    assert any(row.mid_deploy for row in rows(trial))
    assert [finding.what for finding in judge(trial) if not finding.is_met] == []


def test_what_an_operator_scaled_in_serve_stays_scaled(two_ingresses: RunningPlatform) -> None:
    """Two replicas through Serve's REST endpoint, our controller killed: the same two, and our API says so."""
    assert [finding.what for finding in scale.conduct(two_ingresses) if not finding.is_met] == []
