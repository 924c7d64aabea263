"""Rate limits through two ingress replicas: together they admit the limit, all of it and no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Barrier

import httpx
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform, deployed
from tests.system.conftest import SMALL_PLAN, TWO_INGRESSES

pytestmark = pytest.mark.system

WINDOW_S = TWO_INGRESSES["limits"]["rate_window_s"]
WINDOWS = 3
CLIENTS = 8
PAUSE_S = 0.2
"""Between two tries of a client that is over the limit: eight of them ask forty times a second."""
USABLE = {"read": 0.98, "write": 0.98, "inference": 0.95}
DIGITS = PROJECT_ROOT / "configs" / "demo_models" / "digits"

Send = Callable[[httpx.Client], httpx.Response]
SENDS: dict[str, Send] = {
    "read": lambda client: client.get("/models"),
    "write": lambda client: client.delete("/deployments/dep_unknown"),
    "inference": lambda client: client.post("/predict/digits", json={"inputs": [[0.0] * 64]}),
}
ADMITTED = {"read": 200, "write": 404, "inference": 200}


@dataclass(frozen=True, slots=True)
class Try:
    """One request; it was admitted or refused at some moment between `sent` and `answered`."""

    sent: float
    answered: float
    status: int


def hammer(client: httpx.Client, send: Send, start: Barrier) -> list[Try]:
    """One caller that asks again and again for three windows."""
    tries = []
    start.wait()
    deadline = time.monotonic() + WINDOWS * WINDOW_S
    while (sent := time.monotonic()) < deadline:
        answer = send(client)
        tries.append(Try(sent, time.monotonic(), answer.status_code))
        if answer.status_code == 429:
            assert {"retry-after", "x-ratelimit-reset"} <= set(answer.headers)
            time.sleep(PAUSE_S)
    return tries


def most_within(tries: list[Try], window_s: float) -> int:
    """The most tries that any window of this length holds from end to end."""
    return max(
        sum(first.sent <= each.sent and each.answered < first.sent + window_s for each in tries)
        for first in tries
    )


def test_the_limit_is_never_passed_and_nearly_all_of_it_is_usable(
    two_ingress_platform: RunningPlatform,
) -> None:
    """Eight clients a category, all categories at once, for three windows.

    When a request was counted is not seen from outside, only that it was between its being sent and its answer. So two
    bounds are asserted that hold for every possible moment in between. Never above: requests that lie in a window from
    end to end were certainly counted within it, so that they exceed the limit proves that the limit was passed; a
    limit that is kept cannot fail this, and what it overlooks is the length of a request at either end of a window
    (milliseconds of six seconds). Usable: answers that came within three windows of the first request were counted
    within them; three windows have room for three times the limit.
    """
    platform = two_ingress_platform
    assert sum("Ingress" in each.name() for each in platform.processes()) == 2
    with caller_on_small_plan(platform) as client, ThreadPoolExecutor(CLIENTS * len(SENDS)) as pool:
        start = Barrier(CLIENTS * len(SENDS))
        running = {
            category: [pool.submit(hammer, client, send, start) for _ in range(CLIENTS)]
            for category, send in SENDS.items()
        }
        tries = {
            category: [each for one in callers for each in one.result()]
            for category, callers in running.items()
        }
    for category, made in tries.items():
        limit = SMALL_PLAN[category]
        assert {each.status for each in made} == {ADMITTED[category], 429}, category
        admitted = [each for each in made if each.status != 429]
        assert most_within(admitted, WINDOW_S) <= limit, category
        deadline = min(each.sent for each in made) + WINDOWS * WINDOW_S
        in_time = sum(each.answered <= deadline for each in admitted)
        assert in_time >= USABLE[category] * WINDOWS * limit, (category, in_time)


@contextmanager
def caller_on_small_plan(platform: RunningPlatform) -> Iterator[httpx.Client]:
    """A client whose key has used nothing of its limit, of an organization with one ready model."""
    with platform.client() as operator:
        made = operator.post("/organizations", json={"name": "hammers", "plan": "unlimited"}).json()
        owner = httpx.BasicAuth(made["api_key"]["key"], "")
        with httpx.Client(base_url=platform.url, auth=owner, timeout=60, trust_env=False) as client:
            body = {"model_uri": DIGITS.as_uri(), "model_id": "digits", "region": "us-east-1"}
            assert deployed(client, body)["status"] == "ready"
            changed = operator.patch(f"/organizations/{made['id']}", json={"plan": "small"})
            assert changed.json()["plan"] == "small", changed.text
            fresh = client.post("/api_keys", json={"name": "fresh"}).json()  # no replica remembers it
            client.auth = httpx.BasicAuth(fresh["key"], "")
            yield client
