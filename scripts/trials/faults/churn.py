"""Deployments that come and go, one after another, by a caller who does not give up.

Each is created with an idempotency key, one of three from a package, the others from a registered model; waited for;
asked for one prediction; and deleted when the next one is ready, so that one is always there. A call without an answer,
or with a 5xx, says nothing of what happened: it is made again, with the same key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from scripts.benchmarks.comparison.workloads import WORKLOADS, Reference, Workload, WrongAnswerError
from tests.support.platform import RunningPlatform

REGISTERED = "registered"
_REGION = "us-east-1"
_PATIENCE_S = 400.0
_POLL_S = 0.1
_JSON = {"content-type": "application/json"}


@dataclass(slots=True)
class Deploy:
    """One deployment from its creation to its end, as its caller saw it."""

    body: dict[str, Any]
    """With its idempotency key."""
    id: str = ""
    """That the answer to its creation gave; empty before there was one."""
    ready_after_s: float | None = None
    """From the first POST to `ready`; None if it did not become ready."""
    error: str = ""
    """Why it did not; empty if it did, or is on its way."""
    is_deleted: bool = False
    """It was answered with 404 after its deletion."""


@dataclass(slots=True)
class Churn:
    """What one caller has done."""

    http: httpx.Client
    workload: Workload
    """Whose package is deployed."""
    deploys: list[Deploy] = field(default_factory=list)
    stage: str = ""
    """Of the deployment that is on its way; empty between two, `deleting` while the one before goes."""
    is_over: Event = field(default_factory=Event)

    @property
    def begun(self) -> int:
        """Deployments that were accepted so far."""
        return sum(bool(deploy.id) for deploy in self.deploys)

    @property
    def live(self) -> list[Deploy]:
        """Those that were not deleted."""
        return [deploy for deploy in self.deploys if not deploy.is_deleted]

    def run(self) -> None:
        """Until it is over; what was begun is ended."""
        register(self.http, REGISTERED, self.workload.package)
        reference = Reference(self.workload)
        before: Deploy | None = None
        for number in count():
            if self.is_over.is_set():
                return
            deploy = self._deployed(number, reference)
            if before is not None:
                self._delete(before)
            before = deploy

    def _deployed(self, number: int, reference: Reference) -> Deploy:
        body = {**self._source(number), "region": _REGION, "idempotency_key": f"churn-{number}"}
        deploy = Deploy(body)
        self.deploys.append(deploy)
        self.stage, began = "asked for", time.monotonic()
        deploy.id = persist(lambda: self.http.post("/deployments", json=deploy.body), 201).json()["id"]
        self.stage = "accepted"
        found = self._settled(deploy.id)
        if found["status"] == "ready":
            deploy.ready_after_s = time.monotonic() - began
            deploy.error = self._misanswered(found["endpoint"], reference)
        else:
            deploy.error = f"{found['status']}, {found['stage']}: {found['error']}"
        self.stage = ""
        return deploy

    def _source(self, number: int) -> dict[str, Any]:
        if number % 3:
            return {"model_uri": f"models://{REGISTERED}"}
        return {"model_uri": self.workload.package.as_uri(), "model_id": f"own-{number}"}

    def _settled(self, name: str) -> dict[str, Any]:
        """Once it is ready or has failed; as it is when nobody would wait any longer."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            found: dict[str, Any] = persist(lambda: self.http.get(f"/deployments/{name}"), 200).json()
            if found["status"] in ("ready", "failed") or time.monotonic() > deadline:
                return found
            self.stage = found["stage"]
            time.sleep(_POLL_S)

    def _misanswered(self, endpoint: str, reference: Reference) -> str:
        """What is wrong with its answer to one prediction; empty if nothing is."""
        body = self.workload.bodies[0]
        # An ingress that has not heard yet that it is ready says 409.
        answer = persist(lambda: self.http.post(endpoint, content=body, headers=_JSON), 200, again=(409,))
        try:
            reference.check(0, answer.content)
        except WrongAnswerError as error:
            return str(error)
        return ""

    def _delete(self, deploy: Deploy) -> None:
        self.stage = "deleting"
        persist(lambda: self.http.delete(f"/deployments/{deploy.id}"), 200)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and not deploy.is_deleted:
            answer = persist(lambda: self.http.get(f"/deployments/{deploy.id}"), 200, 404)
            deploy.is_deleted = answer.status_code == 404
            time.sleep(_POLL_S)
        self.stage = ""


@contextmanager
def churning(platform: RunningPlatform, key: str) -> Iterator[Churn]:
    """Deployments of this key's organization come and go within the block."""
    with (
        httpx.Client(base_url=platform.url, auth=(key, ""), timeout=15, trust_env=False) as http,
        ThreadPoolExecutor(1) as threads,
    ):
        churn = Churn(http, WORKLOADS["digits"](Path()))
        running = threads.submit(churn.run)
        try:
            yield churn
        finally:
            churn.is_over.set()
            running.result()


def register(http: httpx.Client, model_id: str, package: Path) -> None:
    """A model of this id, ready."""
    persist(lambda: http.post("/models", json={"id": model_id, "model_uri": package.as_uri()}), 201)
    deadline = time.monotonic() + _PATIENCE_S
    while persist(lambda: http.get(f"/models/{model_id}"), 200).json()["status"] != "ready":
        assert time.monotonic() < deadline, f"the model {model_id} is not ready"
        time.sleep(_POLL_S)


def persist(send: Callable[[], httpx.Response], *statuses: int, again: Sequence[int] = ()) -> httpx.Response:
    """The answer with one of these statuses to a call that is made again while it gets none, a 5xx or one of `again`.

    Raises:
        AssertionError: another answer came, or none in two minutes.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer = send()
        except httpx.TransportError as error:
            said = type(error).__name__
        else:
            if answer.status_code < 500 and answer.status_code not in again:
                assert answer.status_code in statuses, answer.text
                return answer
            said = answer.text
        assert time.monotonic() < deadline, f"no answer for {_PATIENCE_S:g} s: {said}"
        time.sleep(_POLL_S)
