"""Generated requests over the served OpenAPI document: what schemathesis makes of it, aimed where something is there.

Schemathesis generates path parameters and bodies from the schema alone, so nearly all of its requests would end at an
unknown id. Part of them get the ids of objects that exist, and bodies that can be accepted. What would load the
platform (replicas, jobs) is turned into what soon comes to nothing.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.conformance import GOOD, REGION, Caller, Organization

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
NOWHERE = "file:///not-here/a"
_AIMED_OF_TEN = 7
_ACCEPTED_AT_MOST = 6
_SHOWN_FAILURES = 20

Body = dict[str, Any]


@dataclass
class Report:
    """What was answered, and what was wrong with it."""

    statuses: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """By operation, caller and status."""
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many requests were answered."""
        return self.statuses.total()

    def with_status(self, status: int) -> int:
        """How many answers had this status."""
        return sum(count for (_, _, each), count in self.statuses.items() if each == status)

    def never_succeeded(self, caller: str) -> list[str]:
        """Operations of which no answer to this caller was 2xx."""
        operations = {label for label, name, _ in self.statuses if name == caller}
        succeeded = {label for label, name, status in self.statuses if name == caller and status < 300}
        return sorted(operations - succeeded)


class Targets:
    """Objects of one organization that requests are aimed at, and the bodies that their operations accept."""

    def __init__(self, org: Organization, operator: Caller) -> None:
        caller = self._caller = org.caller
        self.org = org
        scratch_org = operator.made("/organizations", {"name": "fuzzed"})["id"]
        scratch_key = caller.made("/api_keys", {"name": "fuzzed"})["id"]
        model = self._new_model()
        rows = caller.upload(f"text\n{GOOD}\n".encode(), "rows.csv")
        told = {"input_url": rows, "webhook": "http://127.0.0.1:9/"}  # nobody is there
        finished = caller.ended_job(caller.made("/batch/sentiment-v1", told)["id"])
        (delivery,) = caller.read(f"/jobs/{finished['id']}/deliveries")["data"]
        broken = caller.upload(f'text\n{GOOD}\n"a"b\n'.encode(), "broken.csv")
        failing = caller.ended_job(caller.made("/batch/sentiment-v1", {"input_url": broken})["id"])
        deployment = caller.settled_deployment(model_uri="models://digits")
        beside = caller.settled_deployment(model_uri="models://digits")
        assert (finished["status"], deployment["status"], beside["status"]) == ("completed", "ready", "ready")
        self.deployment = deployment["id"]
        going = caller.made("/deployments", {"model_uri": f"{NOWHERE}.onnx", "region": REGION})["id"]
        canceled = caller.made("/batch/digits", {"input_url": f"{NOWHERE}.csv"})["id"]
        caller.post(f"/jobs/{canceled}/cancel")
        self._ids = {"key_id": scratch_key, "organization_id": scratch_org, "model_id": model,
                     "deployment_id": self.deployment, "file_id": rows.rpartition("/")[2],
                     "job_id": finished["id"], "delivery_id": delivery["id"]}  # fmt: skip
        self._special: dict[str, Callable[[], str]] = {
            "POST /predict/{model_id}": lambda: "sentiment-v1",
            "POST /batch/{model_id}": lambda: "digits",
            "POST /models/{model_id}/publish": self._new_model,
            "POST /api_keys/{key_id}/rotate": lambda: str(caller.made("/api_keys", {"name": "x"})["id"]),
            "DELETE /deployments/{deployment_id}": lambda: str(going),
            "DELETE /files/{file_id}": lambda: caller.upload(b"x", "x.txt").rpartition("/")[2],
            "POST /jobs/{job_id}/cancel": lambda: str(canceled),
            "POST /jobs/{job_id}/retry": lambda: str(failing["id"]),
        }

    def _new_model(self) -> str:
        body = {"id": f"m-{secrets.token_hex(6)}", "status": "training"}
        return str(self._caller.made("/models", body)["id"])

    def path_of(self, case: Case) -> dict[str, str]:
        """The path parameters of objects that are there."""
        special = self._special.get(case.operation.label)
        return {name: special() if special else self._ids[name] for name in case.path_parameters}

    def clean_up(self) -> None:
        """Delete what goes on costing something."""
        for path in ("/deployments", "/files"):
            for each in self._caller.read(path, params={"limit": 100})["data"]:
                self._caller.delete(f"{path}/{each['id']}")


ACCEPTED: Mapping[str, Callable[[Body], Body]] = {
    "POST /predict/{model_id}": lambda body: {
        "inputs": [GOOD], **{name: body[name] for name in body.keys() & {"metadata"}}
    },
    "POST /batch/{model_id}": lambda body: {
        **{name: value for name, value in body.items() if name != "webhook"}, "input_url": f"{NOWHERE}.csv"
    },
    "POST /deployments": lambda body: {**body, "model_uri": f"{NOWHERE}.onnx", "region": REGION},
    "POST /models": lambda body: {"id": f"m-{secrets.token_hex(6)}", "status": "training"},
    "POST /models/{model_id}/publish": lambda body: {"model_uri": f"{NOWHERE}.onnx"},
    "PATCH /deployments/{deployment_id}": lambda body: {"traffic": body.get("traffic", 50)},
    "POST /organizations": lambda body: {"name": "fuzzed"},
    "PATCH /organizations/{organization_id}": lambda body: {"name": "fuzzed"},
    "POST /api_keys": lambda body: {**body, "scopes": ["read"]},
}  # fmt: skip
"""A body that is accepted, made of a generated one."""


class Fuzz:
    """Sends generated requests as one caller after another and keeps a report."""

    def __init__(self, url: str, targets: Targets, operator: Caller) -> None:
        self.report = Report()
        self._url = url
        self._targets = targets
        self._operator = operator
        self._accepted: Counter[str] = Counter()
        self._session = requests.Session()
        self._session.trust_env = False
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        self._operations = [found.ok() for found in schema.get_all_operations()]

    def run(self, name: str, key: str | None, cases: int) -> None:
        """About `cases` requests to each operation as the holder of this key."""
        for operation in self._operations:
            for mode in GenerationMode:
                self._run_one(operation, mode, name, key, max(1, cases // len(GenerationMode)))

    def _run_one(self, operation: Any, mode: GenerationMode, name: str, key: str | None, cases: int) -> None:
        @settings(
            max_examples=cases,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), aim=st.integers(0, 9))
        def send(case: Case, aim: int) -> None:
            nonlocal is_first
            self._send(case, mode, name, key, is_aimed=is_first or aim < _AIMED_OF_TEN)
            is_first = False

        is_first = True
        try:
            send()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing can be wrong with a request without parameters

    def _send(self, case: Case, mode: GenerationMode, name: str, key: str | None, *, is_aimed: bool) -> None:
        label = case.operation.label
        if key is not None:
            case.headers = {
                key: value for key, value in (case.headers or {}).items() if key != "Authorization"
            }
        if is_aimed:
            case.path_parameters = self._targets.path_of(case)
            if mode is GenerationMode.POSITIVE:
                self._make_acceptable(case)
        _defuse(case)
        if key is not None and "/organizations" in label and name == "valid":
            key = self._operator.key
        try:
            answer = case.call(
                base_url=self._url, session=self._session, auth=(key, "") if key else None, timeout=60
            )
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
            return  # cannot be sent
        self.report.statuses[label, name, answer.status_code] += 1
        try:
            case.validate_response(cast(Any, answer), checks=cast(Any, CHECKS))
        except Exception as error:  # noqa: BLE001 - every kind of failure is kept, and the others are looked for
            self.report.failures.append(f"{label} as {name}, {answer.status_code}: {str(error)[:1500]}")

    def _make_acceptable(self, case: Case) -> None:
        label = case.operation.label
        change = ACCEPTED.get(label)
        if change is None or not isinstance(case.body, dict) or self._accepted[label] >= _ACCEPTED_AT_MOST:
            return
        self._accepted[label] += 1
        case.body = change(cast(Body, case.body))


def _defuse(case: Case) -> None:
    """No replicas of existing models, none beyond one of the deployment that is there."""
    if not isinstance(case.body, dict):
        return
    body = cast(Body, case.body)
    uri = body.get("model_uri")
    if case.operation.label == "POST /deployments" and isinstance(uri, str) and "models" in uri:
        body["model_uri"] = f"{NOWHERE}.onnx"
    if case.operation.label == "PATCH /deployments/{deployment_id}":
        for name in body.keys() & {"replicas", "autoscaling"}:
            body[name] = 1 if name == "replicas" else None
