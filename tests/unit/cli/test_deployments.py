"""`fyre deploy`, `fyre deployments` and `fyre metrics`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from fyretoolkit.cli import metrics
from fyretoolkit.cli.main import app
from fyretoolkit.cli.metrics import sparkline
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench, until
from tests.support.fyre_command import Fyre

REFUSED, MISUSED, INTERRUPTED = 1, 2, 130
DEPLOY = ("deploy", "digits", "--region", "us-east-1")


@pytest.fixture
def fyre(fyre: Fyre) -> Fyre:
    """With a registered model."""
    fyre.act(fyre.bench.add_model, "digits")
    return fyre


async def settle(bench: Bench, status: DeploymentStatus) -> None:
    """What the controller does to the next deployment that starts."""
    deployments = bench.services.deployments

    async def has_begun() -> bool:
        return any(each.status is DeploymentStatus.PROVISIONING for each in await deployments.live())

    await until(has_begun)
    (deployment,) = [
        each for each in await deployments.live() if each.status is DeploymentStatus.PROVISIONING
    ]
    changes: dict[str, Any] = {"stage": Stage.READY}
    if status is DeploymentStatus.FAILED:
        changes = {"error": {"code": "no_capacity", "message": "No node has room."}}
    assert await deployments.transition(deployment, status, message="So it is.", **changes)


def deployed(fyre: Fyre, *options: str) -> str:
    """A deployment that is ready; its id."""
    settled = fyre.soon(settle, fyre.bench, DeploymentStatus.READY)
    made: str = fyre.json(*DEPLOY, *options)["id"]
    settled.result(60)
    return made


def test_a_deployment_is_followed_until_it_is_ready(fyre: Fyre) -> None:
    """Its stages on stderr, the deployment on stdout."""
    settled = fyre.soon(settle, fyre.bench, DeploymentStatus.READY)
    result = fyre.run(*DEPLOY, "--min", "1", "--max", "3")
    settled.result(60)
    assert result.exit_code == 0, result.stderr
    shown = dict(line.split("\t", 1) for line in result.stdout.splitlines())
    assert (shown["status"], shown["model"]) == ("ready", "digits")
    assert "(1 to 3)" in shown["replicas"]
    assert result.stderr.splitlines() == ["accepted: The request was accepted.", "ready: So it is."]


def test_one_that_never_will_be_ready_says_why(fyre: Fyre) -> None:
    settled = fyre.soon(settle, fyre.bench, DeploymentStatus.FAILED)
    result = fyre.run(*DEPLOY)
    settled.result(60)
    assert (result.exit_code, result.stdout) == (REFUSED, "")
    assert "no_capacity: No node has room." in result.stderr.splitlines()[-1]


def test_without_waiting_the_id_is_printed(fyre: Fyre) -> None:
    result = fyre.run(*DEPLOY, "--no-wait")
    assert result.exit_code == 0
    settled = fyre.soon(settle, fyre.bench, DeploymentStatus.READY)
    assert fyre.json("deployments", "watch", result.stdout.strip())["status"] == "ready"
    settled.result(60)


def test_a_deployment_is_changed_rolled_out_and_deleted(fyre: Fyre) -> None:
    """Each command shows the deployment as it is then."""
    old = deployed(fyre)
    new = deployed(fyre, "--traffic", "10")
    assert fyre.json("deployments", "scale", old, "3")["replicas"]["desired"] == 3
    bounds = {"min_replicas": 1, "max_replicas": 4}
    assert fyre.json("deployments", "scale", old, "--min", "1", "--max", "4")["autoscaling"] == bounds
    assert fyre.json("deployments", "scale", old, "2", "--fixed")["autoscaling"] is None
    assert fyre.json("deployments", "promote", new)["traffic"] == 100
    assert fyre.json("deployments", "rollback", new)["traffic"] == 0
    assert fyre.done("deployments", "delete", new) == f"{new} is deleted.\n"
    rows = fyre.done("deployments", "list").splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == [old]
    assert "ready: So it is." in fyre.run("deployments", "get", old).stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Say what to change"),
        (("--min", "1"), "both --min and --max"),
        (("--min", "1", "--max", "2", "--fixed"), "either bounds or --fixed"),
    ],
)
def test_a_change_that_is_none(options: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["deployments", "scale", "dep_x", *options])
    assert (result.exit_code, result.stdout) == (MISUSED, "")
    assert said in result.stderr


@pytest.fixture
def busy(fyre: Fyre) -> str:
    """A deployment that answered three predictions and refused one; its id."""

    async def work(bench: Bench) -> str:
        deployment = await bench.deploy("sentiment-v1", org=DEMO_ORG)
        for inputs in (["good"], ["bad"], ["so so"], [3]):
            await bench.predict("sentiment-v1", inputs)
        await bench.services.recorder.flush()
        return deployment.id

    found: str = fyre.act(work, fyre.bench)
    return found


def test_metrics_of_a_model_are_those_of_its_deployments(fyre: Fyre, busy: str) -> None:
    """And without a name, those of all deployments; with their course."""
    for named in ((), ("sentiment-v1",), (busy, busy)):
        (found,) = fyre.json("metrics", *named)["data"]
        assert (found["deployment_id"], found["period"]) == (busy, "5m")
        assert (found["metrics"]["requests"]["total"], found["metrics"]["requests"]["failed"]) == (4, 1)
    header, row = fyre.done("metrics", busy).splitlines()
    shown = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert (shown["requests"], shown["failed"]) == ("4", "1")
    assert "█" in shown["course"]


def test_metrics_are_watched_until_it_is_enough(
    fyre: Fyre, busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of JSON at each look, for a program that reads them."""
    pauses = iter([None])

    def pause(seconds: float) -> None:
        assert seconds == metrics.WATCH_S
        if next(pauses, "over"):
            raise KeyboardInterrupt

    monkeypatch.setattr("fyretoolkit.cli.metrics.time.sleep", pause)
    result = fyre.run("metrics", busy, "--watch", "--json")
    assert result.exit_code == INTERRUPTED
    looks = [json.loads(line) for line in result.stdout.splitlines()]
    assert [look["data"][0]["deployment_id"] for look in looks] == [busy, busy]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([0, 0], "▁▁"),
        ([0, 7, 14], "▁▅█"),
        ([None, 1], " █"),
        ([1, 8, 0, 0, 4], "▂█▅"),
    ],
)
def test_a_course_is_drawn_with_its_peaks(values: list[float | None], drawn: str) -> None:
    """Of five values in three blocks the newest two are one: a peak is not averaged away."""
    assert sparkline(values, width=3) == drawn
