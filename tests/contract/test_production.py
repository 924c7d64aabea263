"""What production mode and a proxy in front change for callers: whose keys work, and where links lead."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.settings import Settings
from fyretoolkit.store.organizations import create_first_admin
from tests.support.api_bench import Bench, open_bench
from tests.support.batch_jobs import end_job, post_job

pytestmark = pytest.mark.anyio


async def test_no_key_of_the_demo_organization_works_in_production(settings: Settings) -> None:
    """Whoever reached a development copy could make one with the public demo key, every scope in it."""
    production = settings.model_copy(update={"mode": "production"})
    async with open_bench(production) as bench:
        made_in_development = await bench.add_key(DEMO_ORG)
        first = await create_first_admin(bench.services.store)
        assert first is not None, "and it is not taken for an operator's key either"
        assert (await bench.request("GET", "/models", key=made_in_development)).status_code == 401
        assert (await bench.request("GET", "/models", key=first)).status_code == 200


async def test_no_organization_made_with_the_demo_key_works_in_production(settings: Settings) -> None:
    """Everybody could make one in development mode, and its key is as good as any."""
    async with open_bench(settings) as bench:
        made = await bench.request("POST", "/organizations", json={"name": "mine", "plan": "unlimited"})
        key = made.json()["api_key"]["key"]
        another = (
            await bench.request("POST", "/api_keys", key=key, json={"name": "b", "scopes": ["read"]})
        ).json()
        assert (await bench.request("GET", "/models", key=key)).status_code == 200
    async with open_bench(settings.model_copy(update={"mode": "production"})) as bench:
        for each in (key, another["key"]):
            assert (await bench.request("GET", "/models", key=each)).status_code == 401
        operator = await bench.add_key("org_operator")
        made = await bench.request(
            "POST", "/organizations", key=operator, json={"name": "yours", "plan": "free"}
        )
        key = made.json()["api_key"]["key"]
        assert (await bench.request("GET", "/models", key=key)).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True), ("LOCALHOST:8000", True), ("a.localhost:1", True), ("localhost.", True),
        ("127.0.0.1", True), ("127.8.8.8:9", True), ("[::1]:8000", True), ("", True),
        ("localhost.evil.example", False), ("evil.example:8000", False), ("192.168.1.1", False),
        ("127.0.0.1.evil.example", False), ("notlocalhost", False),
        ("[::2]", False), ("0.0.0.0", False), ("localhost:8000@evil.example", False),
    ],
)  # fmt: skip
async def test_development_mode_answers_at_this_machines_names_alone(
    bench: Bench, settings: Settings, host: str, is_own: bool
) -> None:
    """A page in a browser can have its own name lead to 127.0.0.1, and the demo key is known to all."""
    for path in ("/models", "/docs", "/healthz", "/nowhere"):
        answer = await bench.request("GET", path, headers=[(b"host", host.encode())])
        if is_own:
            assert answer.status_code != 403
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")
            assert "localhost" in answer.json()["error"]["message"]
            assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]
    async with open_bench(settings.model_copy(update={"mode": "production"})) as production:
        answer = await production.request("GET", "/healthz", headers=[(b"host", host.encode())])
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({}, "http://api.localhost"),
        ({"is_tls_terminated": True}, "https://api.localhost"),
        ({"public_url": "https://models.example.com"}, "https://models.example.com"),
        (
            {"public_url": "https://models.example.com", "is_tls_terminated": True},
            "https://models.example.com",
        ),
    ],
)
async def test_links_lead_to_where_callers_reach_the_platform(
    settings: Settings, changes: dict[str, Any], base: str
) -> None:
    """Behind a TLS proxy the platform itself sees plain HTTP, perhaps under another name."""
    async with open_bench(settings.model_copy(update=changes)) as bench:
        await bench.add_model("digits")
        job = (await post_job(bench)).json()
        await end_job(bench, job["id"], JobStatus.COMPLETED)
        ended = await found(bench, job["id"])
        for name, path in (("output_url", "output"), ("errors_url", "errors")):
            assert ended[name].startswith(f"{base}/jobs/{job['id']}/{path}?")


async def found(bench: Bench, job_id: str) -> dict[str, Any]:
    """The job as it is answered now."""
    job: dict[str, Any] = (await bench.request("GET", f"/jobs/{job_id}")).json()
    return job
