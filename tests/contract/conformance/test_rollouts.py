"""A new version of a model beside the old one: promoted, rolled back, and helped where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.conformance import Caller, Organization, error_of
from tests.support.onnx_graphs import lookup
from tests.support.platform import until
from tests.support.sentences import sentence

MODEL = "rolling"
BOTH_KNOW, OLD_KNOWS, NOBODY_KNOWS = [1], [6], [10**6]


@dataclass(frozen=True)
class Rollout:
    """Two ready deployments of a model: the old one has 60 of its traffic, a new version 40."""

    caller: Caller
    old: str
    new: str

    def weigh(self, old: int, new: int) -> None:
        """Set both weights."""
        for name, weight in ((self.old, old), (self.new, new)):
            assert self.caller.patch(f"/deployments/{name}", {"traffic": weight}).status_code == 200

    def answered_by(self, *exactly: str) -> None:
        """Predictions are answered by these deployments, once all of the platform knows."""

        def is_so() -> bool:
            answers = [self.caller.post(f"/predict/{MODEL}", {"inputs": BOTH_KNOW}) for _ in range(24)]
            assert {answer.status_code for answer in answers} == {200}
            return {answer.json()["usage"]["deployment"] for answer in answers} == set(exactly)

        until(is_so, timeout_s=60, what=f"predictions by {exactly}")

    def failures(self, name: str) -> int:
        """Failed rows of a deployment's metrics."""
        errors = self.caller.read(f"/metrics/{name}", params={"period": "5m"})["metrics"]["errors"]["by_code"]
        return int(errors.get("row_failed", 0))


@pytest.fixture(scope="module")
def rollout(org: Organization) -> Iterator[Rollout]:
    """The new version knows less than the old one."""
    caller = org.caller
    old = caller.settled_deployment(model_uri=caller.upload(lookup(8), f"{MODEL}.onnx"), traffic=60)
    caller.made("/models", {"id": "rolling-2", "model_uri": caller.upload(lookup(4), "rolling-2.onnx")})
    caller.settle("/models/rolling-2", ("ready",))
    new = caller.settled_deployment(model_uri="models://rolling-2", model_id=MODEL, traffic=40)
    assert (old["status"], new["status"]) == ("ready", "ready"), (old, new)
    assert [each["model"] for each in (old, new)] == [MODEL, MODEL]
    yield Rollout(caller, old["id"], new["id"])
    for each in (old, new):
        caller.delete(f"/deployments/{each['id']}")


@sentence("deploy-35", "deploy-36", "deploy-38")
def test_promotion_and_rollback(rollout: Rollout) -> None:
    """One call each; the old one has its traffic again as if nothing had been."""
    rollout.weigh(60, 40)
    rollout.answered_by(rollout.old, rollout.new)
    promoted = rollout.caller.post(f"/deployments/{rollout.new}/promote")
    assert (promoted.status_code, promoted.json()["traffic"]) == (200, 100)
    rollout.answered_by(rollout.new)
    back = rollout.caller.post(f"/deployments/{rollout.new}/rollback")
    assert (back.status_code, back.json()["traffic"]) == (200, 0)
    rollout.answered_by(rollout.old)
    assert rollout.caller.read(f"/deployments/{rollout.old}")["traffic"] == 60


@sentence("deploy-35", "deploy-36")
def test_what_cannot_be_shifted(caller: Caller) -> None:
    """One that failed."""
    failed = caller.settled_deployment(model_uri="file:///not-here/b.onnx", model_id="alone")
    for call in ("promote", "rollback"):
        error_of(caller.post(f"/deployments/{failed['id']}/{call}"), 409, "deployment_not_changeable")


@sentence("deploy-37")
def test_what_a_canary_fails_at_the_incumbent_answers(rollout: Rollout) -> None:
    """No caller sees it; it counts as the canary's failure. What both fail at is the caller's."""
    rollout.weigh(60, 40)
    rollout.answered_by(rollout.old, rollout.new)
    before = rollout.failures(rollout.new), rollout.failures(rollout.old)
    for _ in range(30):
        answer = rollout.caller.post(f"/predict/{MODEL}", {"inputs": OLD_KNOWS})
        assert (answer.status_code, answer.json()["results"]) == (200, [{"value": 60.0}])
    until(lambda: rollout.failures(rollout.new) > before[0], timeout_s=60, what="failures of the canary")
    assert rollout.failures(rollout.old) == before[1]
    error_of(rollout.caller.post(f"/predict/{MODEL}", {"inputs": NOBODY_KNOWS}), 422, "row_failed")


@sentence("deploy-38")
def test_a_version_of_nothing(caller: Caller) -> None:
    """Its `model_id` names a model that is not there."""
    body = {"model_uri": "models://digits", "model_id": "not-there", "region": "us-east-1"}
    error_of(caller.post("/deployments", body), 404, "model_not_found")
