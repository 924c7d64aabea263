"""The other views: keys, the Quick Test, operations; by keyboard, in both colours, on a phone, for screen readers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.nodes import Occupant
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.browser import Served, Visit, visiting
from tests.support.cluster import a_node

VIEWS = (
    "guide/quickstart", "guide/authentication", "guide/rate-limits", "guide/pagination", "guide/errors",
    "operation/predict", "operation/create_deployment", "operation/create_file", "operation/create_api_key",
    "test", "test/predict", "test/batch", "test/deploy", "test/metrics", "history", "operations", "key",
)  # fmt: skip
LOOKS = {
    "desktop": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}


@pytest.fixture(params=LOOKS)
def looked_at(
    request: pytest.FixtureRequest, browser: Browser, served: Served
) -> Iterator[tuple[str, Visit]]:
    """A signed-in tab of each look, with a deployment of the organization's own."""

    async def add() -> None:
        deployment = await served.bench.deploy("sentiment-v2", org=DEMO_ORG)
        await served.bench.services.nodes.write([a_node(0, [Occupant(DEMO_ORG, deployment.id, 1)])])

    served.portal.call(add)
    with visiting(
        browser, served.url, bypass_csp=True, reduced_motion="reduce", **LOOKS[request.param]
    ) as visit:
        visit.sign_in()
        yield request.param, visit


def test_every_view_is_sound_for_those_who_cannot_see_it(looked_at: tuple[str, Visit]) -> None:
    """axe-core finds nothing serious in either colour; nothing is too wide; a screenshot of each is kept."""
    look, visit = looked_at
    for view in VIEWS:
        visit.go(view)
        if view == "operation/predict":
            assert visit.send() == 200
        wide = visit.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{view} is {wide} px too wide"
        visit.shoot(f"{look}-{view.replace('/', '-')}")
        assert look == "phone" or visit.troubles() == [], view


def test_get_api_key_makes_a_key_with_an_organization_of_its_own(visit: Visit, served: Served) -> None:
    """Shown once, in use at once, kept by this tab alone; and its holder may see the operations."""
    visit.page.get_by_role("link", name="Get API Key").first.click()
    visit.page.get_by_label("Name of your organization").fill("Acme")
    visit.page.get_by_role("button", name="Create the key").click()
    key = visit.page.locator(".issued pre").first.inner_text()
    assert re.fullmatch(r"sk_live_key_\w+_[\w-]+", key)
    assert served.ask("GET", "/models", key=key).status_code == 200
    assert visit.page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
    visit.page.get_by_role("link", name="Operations").click()
    assert "has no deployments" in visit.page.locator(".empty").inner_text()
    visit.go("key")
    assert key not in visit.page.content()
    visit.page.get_by_role("button", name="Sign out").click()
    visit.page.get_by_role("link", name="Get API Key").first.wait_for()
    assert visit.page.evaluate("() => sessionStorage.length") == 0


def test_a_prediction_in_the_quick_test(visit: Visit) -> None:
    """Sentences in, labels out."""
    visit.sign_in()
    visit.page.get_by_role("link", name="Predict sentiment").click()
    visit.page.get_by_label("Inputs").fill("an utterly compelling film\na complete waste of time")
    visit.page.get_by_role("button", name="Run the prediction").click()
    labels = visit.page.locator(".prediction-label strong")
    labels.nth(1).wait_for()
    assert labels.all_inner_texts() == ["positive", "negative"]
    visit.page.get_by_label("Model", exact=True).select_option("digits")
    visit.page.get_by_role("button", name="Run the prediction").click()
    visit.page.get_by_role("img", name="8 by 8 pixels").wait_for()
    assert labels.all_inner_texts() == ["1"]
    visit.shoot("flow-digits")


def test_metrics_are_drawn_from_what_was_sent(visit: Visit) -> None:
    """Forty predictions, counted and charted."""
    visit.sign_in()
    visit.go("test/metrics")
    visit.page.get_by_role("button", name="Send 40 predictions").click()
    visit.page.get_by_text("40 predictions sent, 40 counted here.").wait_for(timeout=90_000)
    assert visit.page.locator(".tile dd").first.inner_text() == "40"
    assert visit.page.get_by_role("img", name=re.compile("^Latency: p50 at most")).is_visible()
    assert visit.page.locator("rect.bar").count() > 0


def test_operations_scale_and_drain(visit: Visit, served: Served) -> None:
    """What is asked for here stands in the API; draining asks first, and Escape leaves all as it is."""

    async def add() -> str:
        return (await served.bench.deploy("sentiment-v2", org=DEMO_ORG)).id

    name = served.portal.call(add)
    visit.sign_in()
    visit.page.get_by_role("link", name="Operations").click()
    card = visit.page.locator(f"[data-deployment={name}]")
    card.get_by_label("Replicas").fill("3")
    card.get_by_role("button", name="Scale").click()
    visit.page.get_by_text("3 replicas are wanted now").wait_for()
    assert served.ask("GET", f"/deployments/{name}").json()["replicas"]["desired"] == 3
    card.get_by_role("button", name="Drain").click()
    visit.page.get_by_role("dialog").wait_for()
    visit.page.keyboard.press("Escape")
    assert visit.page.get_by_role("dialog").count() == 0
    card.get_by_role("button", name="Drain").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    visit.page.get_by_text("Draining: requests under way finish").wait_for()
    assert served.ask("GET", f"/deployments/{name}").json()["status"] == "draining"


def test_operations_tell_of_nodes_and_of_what_happened(visit: Visit, served: Served) -> None:
    """What each node has free and whose replicas are there, which of them is dead; a deployment's events."""

    async def add() -> str:
        ours = await served.bench.deploy("sentiment-v2", org=DEMO_ORG, ready_replicas=0)
        await served.bench.services.deployments.transition(
            ours, DeploymentStatus.DEGRADED, message="A replica left."
        )
        occupants = [Occupant(DEMO_ORG, ours.id, 2), Occupant("org_b", "dep_theirs", 1)]
        await served.bench.services.nodes.write([a_node(0, occupants), a_node(1, is_alive=False)])
        return ours.id

    name = served.portal.call(add)
    visit.sign_in()
    visit.page.get_by_role("link", name="Operations").click()
    rows = visit.page.get_by_role("region", name="Nodes").get_by_role("row")
    rows.nth(2).wait_for()
    head, dead, alive = ([cell.strip() for cell in text.split("\t")] for text in rows.all_inner_texts())
    assert head[3:] == ["CPUs free", "GPUs free", "Memory free", "Replicas here"]
    assert (alive[1], alive[3:]) == ("head", ["1.5 of 2", "–", "1.07 GB of 2.15 GB", "sentiment-v2 × 2"])
    assert "us-east-1" in alive[2]
    assert (dead[1], set(dead[2:])) == ("dead", {"–"})
    card = visit.page.locator(f"[data-deployment={name}]")
    card.get_by_text("Events (").click()
    assert "A replica left." in card.locator(".events").inner_text()
    visit.shoot("operations-nodes")


def test_a_call_by_keyboard_alone(visit: Visit) -> None:
    """From the first Tab to the answer, without a pointer."""
    visit.sign_in()
    visit.go("operation/list_models")
    visit.page.reload()
    visit.go("operation/list_models")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("() => document.activeElement.id") == "content"
    reached = []
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("() => document.activeElement.textContent"))
        if reached[-1] == "curl":
            visit.page.keyboard.press("ArrowRight")
            assert "from fyretoolkit import Client" in visit.page.locator(".call pre").inner_text()
        if reached[-1] == "Send Request":
            break
    assert reached[-1] == "Send Request"
    visit.page.keyboard.press("Enter")
    visit.page.locator(".answer[data-status='200']").wait_for()


def test_the_calls_on_a_phone(browser: Browser, served: Served) -> None:
    """Behind the menu, which closes when one is chosen or Escape is pressed."""
    with visiting(browser, served.url, **LOOKS["phone"]) as visit:
        sidebar = visit.page.locator("#sidebar")
        assert not sidebar.is_visible()
        visit.page.get_by_role("button", name="Menu").click()
        visit.shoot("phone-menu")
        visit.page.keyboard.press("Escape")
        assert not sidebar.is_visible()
        visit.page.get_by_role("button", name="Menu").click()
        sidebar.get_by_role("link", name="List models").click()
        visit.page.get_by_role("heading", name="List models").wait_for()
        assert not sidebar.is_visible()


def test_dark_is_chosen_and_stays(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Use dark colours").click()
    visit.page.reload()
    visit.page.get_by_role("button", name="Use light colours").wait_for()
    assert visit.page.evaluate("() => getComputedStyle(document.body.parentElement).colorScheme") == "dark"


def test_the_filter_of_the_sidebar(visit: Visit) -> None:
    visit.page.get_by_role("searchbox", name="Filter calls").fill("cancel")
    shown = visit.page.locator("#sidebar li:visible").all_inner_texts()
    assert [each.splitlines()[0] for each in shown] == ["Cancel a batch job"]
