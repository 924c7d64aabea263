"""The API that the conformance tests ask: the session's platform, or the one under `FYRE_CONFORMANCE_URL`.

What takes long to make and is only read is made once a session. With `FYRE_CONFORMANCE_CACHE`, a file, also once for
several sessions against one platform (`scripts/chaos violations`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fyretoolkit.settings import DEMO_KEY
from tests.conftest import RATE_WINDOW_S
from tests.contract.conformance.runs import LongRun, finished_jobs, run_long_jobs
from tests.support.conformance import Caller, Organization, Remember, new_organization
from tests.support.onnx_graphs import lookup
from tests.support.platform import until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks the API needs the running platform."""
    for item in items:
        if "api_url" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def api_url(request: pytest.FixtureRequest) -> str:
    """Where the API answers; starts the session's platform if no other is named."""
    given = os.environ.get("FYRE_CONFORMANCE_URL")
    return given or str(request.getfixturevalue("platform").url)


@pytest.fixture(scope="session")
def api(api_url: str) -> Iterator[Caller]:
    """The API without a key."""
    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=api_url, timeout=120, trust_env=False, limits=limits) as http:
        yield Caller(http, None)


@pytest.fixture(scope="session")
def operator(api: Caller) -> Caller:
    """The API under the demo key, which has every scope."""
    return api.with_key(os.environ.get("FYRE_CONFORMANCE_KEY", DEMO_KEY))


@pytest.fixture(scope="session")
def window_s() -> float:
    """The window of the rate limits."""
    is_own = "FYRE_CONFORMANCE_URL" not in os.environ
    return RATE_WINDOW_S if is_own else float(os.environ.get("FYRE_CONFORMANCE_WINDOW_S", "60"))


@pytest.fixture(scope="session")
def remember() -> Remember:
    """`remember(name, make)`: what `make()` gave, in this session or in an earlier one with the same cache."""
    path = os.environ.get("FYRE_CONFORMANCE_CACHE")

    def remembered(name: str, make: Callable[[], Any]) -> Any:
        known = json.loads(Path(path).read_text("utf-8")) if path and Path(path).exists() else {}
        if name not in known:
            known[name] = make()
            if path:
                Path(path).write_text(json.dumps(known), "utf-8")
        return known[name]

    return remembered


@pytest.fixture(scope="session")
def org(operator: Caller, remember: Remember) -> Organization:
    """An organization without limits, for whoever needs one and minds no neighbours."""
    return _known_organization(operator, remember, "org")


@pytest.fixture(scope="session")
def other(operator: Caller, remember: Remember) -> Organization:
    """Another organization, to which everything of `org` is foreign."""
    return _known_organization(operator, remember, "other")


def _known_organization(operator: Caller, remember: Remember, name: str) -> Organization:
    def make() -> dict[str, Any]:
        made = new_organization(operator)
        return {"id": made.id, "key": made.key}

    known = remember(name, make)
    return Organization(known["id"], operator.with_key(known["key"]["key"]), known["key"])


@pytest.fixture
def caller(org: Organization) -> Caller:
    """The API under the first key of `org`."""
    return org.caller


@pytest.fixture
def fresh(operator: Caller) -> Organization:
    """An organization that owns nothing yet."""
    return new_organization(operator)


@pytest.fixture
def new_org(operator: Caller) -> Callable[..., Organization]:
    """`new_org(plan)`: a new organization."""
    return lambda plan="unlimited": new_organization(operator, plan)


@pytest.fixture(scope="session")
def made_deployment(org: Organization, remember: Remember) -> Iterator[dict[str, Any]]:
    """The deployment of the fixture `deployment`, as it was when it became ready."""

    def make() -> dict[str, Any]:
        uri = org.caller.upload(lookup(), "table.onnx")
        made = org.caller.settled_deployment(model_uri=uri, model_id="table", region="us-west-2")
        assert made["status"] == "ready", made
        return made

    made = remember("deployment", make)
    yield made
    if "FYRE_CONFORMANCE_CACHE" not in os.environ:
        org.caller.delete(f"/deployments/{made['id']}")


@pytest.fixture
def deployment(org: Organization, made_deployment: dict[str, Any]) -> dict[str, Any]:
    """A ready deployment of `org`: the model `table` answers {"value": 10 × index} for an index of 0 to 3.

    Read it and predict with it, and leave it as it is. It answers again even if a test before restarted the platform.
    """

    def answers() -> bool:
        return org.caller.post("/predict/table", {"inputs": [0]}).status_code == 200

    until(answers, timeout_s=240, what="the shared deployment answering")
    return made_deployment


@pytest.fixture(scope="session")
def jobs(org: Organization, remember: Remember) -> dict[str, dict[str, Any]]:
    """Ended jobs of `org` by name; see `finished_jobs`. Read them only."""
    found: dict[str, dict[str, Any]] = remember("jobs", lambda: finished_jobs(org.caller))
    return found


@pytest.fixture(scope="session")
def long_run(org: Organization, remember: Remember) -> LongRun:
    """What was seen of a long job while it ran and was canceled, and of one that never began."""
    return LongRun.from_json(remember("long_run", lambda: run_long_jobs(org.caller).to_json()))
