"""The batch flow of the Quick Test, step by step: a test does here what a runner does on the platform."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.batch_jobs import commit, complete
from tests.support.browser import Served, Visit


def started(visit: Visit, served: Served, rows: list[dict[str, Any]]) -> str:
    """A job of these rows, created in the browser and claimed by a run; its id."""
    visit.sign_in()
    visit.go("test/batch")
    visit.page.get_by_label("Rows as JSONL").fill("".join(f"{json.dumps(row)}\n" for row in rows))
    visit.page.get_by_role("button", name="Run the job").click()
    visit.page.locator("[data-step=create].done").wait_for()
    job_id = visit.page.locator("[data-step=create] .step-note").inner_text()
    claim = partial(served.bench.services.jobs.claim_run, DEMO_ORG, job_id, lease_s=60)
    assert served.portal.call(claim) == 1
    return job_id


def test_the_bar_moves_and_the_results_can_be_taken_home(visit: Visit, served: Served) -> None:
    """Rows as they are committed, the texts beside their labels, both files by their signed links."""
    job_id = started(visit, served, [{"text": f"text {number}"} for number in range(6)])
    for shards in (1, 2):
        served.portal.call(commit, served.bench, job_id, shards - 1)
        visit.page.get_by_text(re.compile(f"^{shards * 3} ")).wait_for()
    served.portal.call(complete, served.bench, job_id)
    visit.page.get_by_text("completed: 4 results, 2 errors").wait_for()
    visit.page.locator(".prediction-input").nth(3).wait_for()
    assert visit.page.locator(".prediction-input").all_inner_texts() == [
        "text 0",
        "text 2",
        "text 3",
        "text 5",
    ]
    for name, lines in (("results", 4), ("errors", 2)):
        with visit.page.expect_download() as download:
            visit.page.locator("main").get_by_role("link", name=f"Download the {name}").click()
        assert download.value.suggested_filename.startswith(job_id)
        assert len(download.value.path().read_text("utf-8").splitlines()) == lines


def test_a_job_is_canceled_where_it_is_watched(visit: Visit, served: Served) -> None:
    job_id = started(visit, served, [{"text": "a joy"}])
    visit.page.get_by_role("button", name="Cancel the job").click()
    visit.page.get_by_text("canceled: 0 results, 0 errors").wait_for()
    assert served.ask("GET", f"/jobs/{job_id}").json()["status"] == "canceled"
