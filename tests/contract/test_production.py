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


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({}, "http://api.test"),
        ({"is_tls_terminated": True}, "https://api.test"),
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
