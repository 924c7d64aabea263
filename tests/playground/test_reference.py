"""Every call of the sidebar, sent; the failures that people meet; the same call in three languages."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser

from fyretoolkit import Client
from fyretoolkit.core.ids import new_id
from fyretoolkit.settings import DEMO_KEY, PlanSettings, Settings
from tests.support.browser import Served, Visit, serving, visiting

UNKNOWN = {"delivery_id": new_id("msg"), "model_id": "no-such-model"}
"""Of these the account has none: no delivery, and no model in training."""
FIRST = ("create_file", "create_deployment", "create_job")
"""What others then choose from."""


def operations(served: Served) -> dict[str, dict[str, Any]]:
    """What the API says it has, by id."""
    paths = served.bench.app.openapi()["paths"]
    return {each["operationId"]: each for path in paths.values() for each in path.values()}


def test_the_sidebar_has_every_call_of_the_description(visit: Visit, served: Served) -> None:
    """It is read from there, so it cannot drift."""
    links = visit.page.locator("#sidebar a[href^='#/operation/']").evaluate_all(
        "all => all.map(each => each.hash)"
    )
    assert sorted(links) == sorted(f"#/operation/{name}" for name in operations(served))


def test_each_call_is_sent_once(visit: Visit, served: Served) -> None:
    """As it stands there, but for ids of what the account does not have; each is answered in the API's own words."""
    visit.sign_in()
    statuses = {}
    found = operations(served)
    deleting = [name for name in found if name.startswith(("delete", "revoke"))]
    others = [name for name in found if name not in (*FIRST, *deleting)]
    for name in (*FIRST, *others, *deleting):
        visit.go(f"operation/{name}")
        assert visit.page.locator("h1").inner_text() == found[name]["summary"]
        for field, value in UNKNOWN.items():
            box = visit.page.locator(".request").get_by_label(field, exact=True)
            if box.count() and box.is_visible() and box.evaluate("each => each.tagName") == "INPUT":
                box.fill(value)
        statuses[name] = visit.send()
    known = {name: {int(status) for status in each["responses"]} for name, each in found.items()}
    assert {name: status for name, status in statuses.items() if status not in known[name]} == {}
    good = {name for name, status in statuses.items() if status < 300}
    assert good >= {
        "predict", "list_models", "get_model", "get_metrics", "create_job", "list_jobs", "create_file", "list_files",
        "get_file", "create_deployment", "list_deployments", "create_api_key", "list_api_keys", "create_organization",
        "list_organizations", "get_organization", "get_webhook_secret", "healthz", "readyz",
    }  # fmt: skip
    visit.page.get_by_role("link", name="History").click()
    visit.page.get_by_role("heading", name="History", level=1).wait_for()
    assert visit.page.locator(".history-row").count() == len(statuses)


def test_a_prediction_from_the_fields_to_the_headers(visit: Visit) -> None:
    """The model's own example is filled in; status, time, request id, limits and body come back."""
    visit.sign_in()
    visit.go("operation/predict")
    inputs = visit.page.get_by_label("inputs", exact=True)
    visit.page.get_by_label("model_id", exact=True).select_option("sentiment-v1")
    visit.page.wait_for_function("() => document.querySelector('textarea').value.includes('complete waste')")
    inputs.fill('["a joy", "dull"]')
    assert visit.send() == 200
    answer = visit.page.locator(".answer")
    assert re.search(r'"label": "positive"', answer.inner_text())
    assert re.fullmatch(r"req_\w+", answer.locator(".request-id code").inner_text())
    assert "left" in answer.locator(".gauge").get_attribute("aria-label")
    answer.get_by_role("tab", name=re.compile("Headers")).click()
    assert "x-ratelimit-remaining" in answer.inner_text()
    visit.shoot("predict")


def test_the_python_program_runs(
    visit: Visit, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What is shown is what works: the program is run as it stands."""
    monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
    visit.sign_in()
    for name, said in (("list_models", "sentiment-v1"), ("predict", "probabilities")):
        visit.go(f"operation/{name}")
        visit.page.get_by_role("tab", name="Python").click()
        exec(visit.page.locator(".call pre").inner_text(), {})  # noqa: S102 - our own program
        assert said in capsys.readouterr().out


def test_the_curl_line_runs(visit: Visit) -> None:
    """In a shell, with the key in the environment."""
    visit.sign_in()
    visit.go("operation/predict")
    visit.page.get_by_label("model_id", exact=True).select_option("sentiment-v1")
    visit.page.wait_for_function(
        "() => document.querySelector('.call pre').textContent.includes('complete waste')"
    )
    line = visit.page.locator(".call pre").inner_text()
    done = subprocess.run(
        ["sh", "-c", line],
        env={"FYRE_API_KEY": DEMO_KEY, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"object":"prediction"' in done.stdout


def test_the_javascript_program_runs(visit: Visit, tmp_path: Path) -> None:
    """In Node, as a module, with the key in the environment: a call with a body, and one whose body is a file."""
    node, _ = compute_driver_executable()
    (tmp_path / "rows.jsonl").write_text('{"text": "a joy"}\n', "utf-8")
    visit.sign_in()
    for name, said in (("predict", "object: 'prediction'"), ("create_file", "object: 'file'")):
        visit.go(f"operation/{name}")
        if name == "create_file":
            visit.page.locator("input[type=file]").set_input_files(tmp_path / "rows.jsonl")
        visit.page.get_by_role("tab", name="JavaScript").click()
        program = tmp_path / f"{name}.mjs"
        program.write_text(visit.page.locator(".call pre").inner_text(), "utf-8")
        done = subprocess.run(
            [node, program.name],
            cwd=tmp_path,
            env={"FYRE_API_KEY": DEMO_KEY},
            capture_output=True,
            text=True,
            check=False,
        )
        assert said in done.stdout, done.stdout + done.stderr


def test_the_client_has_what_the_python_programs_name(visit: Visit, served: Served) -> None:
    """Every operation that needs a key, with the arguments that the client takes by place."""
    known = visit.page.evaluate("async () => (await import('/playground/modules/sdk.js')).SDK")
    assert set(known) == set(operations(served)) - {"healthz", "readyz"}
    with Client(DEMO_KEY, base_url=served.url) as client:
        for name, said in known.items():
            method: Any = client
            for part in said["call"].split("."):
                method = getattr(method, part)
            parameters = inspect.signature(method).parameters.values()
            placed = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
            assert len(said.get("positional", [])) <= len(placed), name
            assert set(said.get("renamed", {}).values()) <= {each.name for each in parameters}, name


def test_a_wrong_key_is_refused_in_words(visit: Visit) -> None:
    visit.go("key")
    visit.page.get_by_label("API key", exact=True).fill("sk_live_nobody_wrong")
    visit.page.get_by_role("button", name="Use this key").click()
    assert "does not know this key" in visit.page.get_by_role("alert").inner_text()
    visit.page.evaluate("() => sessionStorage.setItem('fyre.key', 'sk_live_nobody_wrong')")
    visit.page.reload()
    visit.go("operation/list_models")
    assert visit.send() == 401
    assert "The key is not valid." in visit.page.get_by_role("alert").inner_text()
    visit.page.get_by_role("alert").get_by_role("link", name="Get or enter a key").click()
    visit.page.get_by_role("heading", name="Get an API key").wait_for()


def test_a_field_that_does_not_fit_says_so_itself(visit: Visit) -> None:
    """400 of the API at its field; 422 with what the model wants; what is no JSON before it is sent."""
    visit.sign_in()
    visit.go("operation/create_deployment")
    visit.page.get_by_label("region", exact=True).select_option(label="another value …")
    visit.page.get_by_label("region, another value").fill("atlantis")
    assert visit.send() == 422
    assert "not possible" in visit.page.get_by_role("alert").inner_text()
    visit.shoot("failure-422")
    visit.go("operation/predict")
    visit.page.get_by_label("inputs", exact=True).fill("[1,")
    visit.page.get_by_role("button", name="Send Request").click()
    assert "This is not JSON" in visit.page.locator(".trouble:visible").inner_text()


def test_a_limit_that_is_used_up_counts_down(browser: Browser, settings: Settings) -> None:
    """The ring is empty, and the seconds until the next request are said."""
    few = {**settings.plans, "development": PlanSettings(read=8, write=10, inference=10)}
    with (
        serving(settings.model_copy(update={"plans": few})) as served,
        visiting(browser, served.url) as visit,
    ):
        visit.sign_in()
        visit.go("operation/get_webhook_secret")
        status = 200
        for _ in range(10):
            status = visit.send()
            if status == 429:
                break
        assert status == 429
        alert = visit.page.get_by_role("alert")
        assert "Too many requests." in alert.inner_text()
        assert re.search(r"accepted again in \d+ s", alert.inner_text())
        assert "0 of 8 left" in visit.page.locator(".answer .gauge").inner_text()
        visit.shoot("failure-429")


def test_a_platform_that_is_down_is_said_to_be(visit: Visit, served: Served) -> None:
    """Not an empty page, not a code: words, and it works again by itself when the platform does."""
    visit.sign_in()
    visit.go("operation/list_models")
    served.stop()
    assert visit.send() == 0
    assert "The platform does not answer." in visit.page.get_by_role("alert").inner_text()


@pytest.fixture
def production(browser: Browser, settings: Settings) -> Iterator[Visit]:
    """A platform in production mode."""
    with (
        serving(settings.model_copy(update={"mode": "production"})) as served,
        visiting(browser, served.url) as visit,
    ):
        yield visit


def test_production_mode_signs_in_by_key(production: Visit) -> None:
    """There is no demo key to issue keys with."""
    production.page.get_by_role("link", name="Sign in", exact=True).click()
    production.page.get_by_role("heading", name="Sign in", level=1).wait_for()
    assert production.page.get_by_role("button", name="Create the key").count() == 0
    assert DEMO_KEY not in production.page.content()
