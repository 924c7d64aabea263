"""Rate limits: exact for reads and writes, sliding, one for each key, shared by all replicas."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from pydantic import SecretStr

from fyretoolkit.api.auth import CACHE_S, GRACE_S
from fyretoolkit.settings import PROJECT_ROOT, Settings
from fyretoolkit.store.embedded import EmbeddedRedis
from tests.support import api_bench
from tests.support.api_bench import open_bench
from tests.support.conformance import GOOD, Caller, Organization, error_of
from tests.support.platform import until
from tests.support.sentences import sentence

READS, WRITES, FREE_INFERENCE = 120, 60, 600
UNLIMITED = "1000000000"
_MOST_BURSTS = 5
HEADERS = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}

NewOrg = Callable[..., Organization]


@dataclass(frozen=True, slots=True)
class Try:
    """One request: when it was sent, when its answer came, and the answer."""

    sent: float
    answered: float
    answer: httpx.Response

    @property
    def is_accepted(self) -> bool:
        """Whether the limit let it through, whatever came of it."""
        return self.answer.status_code != 429


def attempt(caller: Caller, method: str, path: str) -> Try:
    """One request, timed."""
    sent = time.monotonic()
    answer = caller.request(method, path, json={} if method == "POST" else None)
    return Try(sent, time.monotonic(), answer)


def write(caller: Caller) -> Try:
    """A write that changes nothing."""
    return attempt(caller, "DELETE", "/files/file_01ARZ3NDEKTSV4RRFFQ69G5FAV")


def most_in_a_window(tries: list[Try], window_s: float) -> int:
    """The most accepted requests that were surely within one window: sent and answered within it."""
    accepted = [each for each in tries if each.is_accepted]
    return max(
        sum(first.sent <= each.sent and each.answered < first.sent + window_s for each in accepted)
        for first in accepted
    )


def spent(caller: Caller, count: int) -> list[Try]:
    """As many writes as the limit has, all of them accepted."""
    with ThreadPoolExecutor(4) as threads:
        tries = list(threads.map(lambda _: write(caller), range(count)))
    assert [each.answer.status_code for each in tries] == [404] * count
    return tries


def burst(caller: Caller) -> list[Try]:
    """More writes than the limit has, by eight at once."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: write(caller), range(WRITES + 30)))


@sentence("limits-1", "limits-4")
@pytest.mark.parametrize("path", ["/models", "/models/digits", "/deployments", "/jobs", "/files"])
def test_reads(new_org: NewOrg, path: str) -> None:
    """GET and HEAD count as reads."""
    caller = new_org("free").caller
    for method in ("GET", "HEAD"):
        assert caller.request(method, path).headers["x-ratelimit-limit"] == str(READS)


@sentence("limits-2", "limits-4")
def test_writes(new_org: NewOrg) -> None:
    """POST, PATCH and DELETE on everything that can be changed."""
    caller = new_org("free").caller
    for method, path in [
        ("POST", "/deployments"), ("PATCH", "/deployments/dep_x"), ("DELETE", "/deployments/dep_x"),
        ("POST", "/deployments/dep_x/promote"), ("POST", "/deployments/dep_x/rollback"),
        ("POST", "/batch/digits"), ("POST", "/jobs/job_x/cancel"), ("POST", "/models"),
        ("POST", "/models/digits/publish"), ("POST", "/models/digits/archive"), ("POST", "/files"),
        ("DELETE", "/files/file_x"), ("POST", "/api_keys"), ("POST", "/api_keys/key_x/rotate"),
        ("DELETE", "/api_keys/key_x"), ("POST", "/organizations"), ("PATCH", "/organizations/org_x"),
    ]:  # fmt: skip
        answer = caller.request(method, path)
        assert answer.headers["x-ratelimit-limit"] == str(WRITES), (method, path)


@sentence("limits-3")
@pytest.mark.parametrize(("plan", "limit"), [("free", 600), ("pro", 60_000), ("development", 1_000_000)])
def test_predictions_by_plan(new_org: NewOrg, plan: str, limit: int) -> None:
    """Counted on their own."""
    answer = new_org(plan).caller.post("/predict/sentiment-v1", {"inputs": [GOOD]})
    assert (answer.status_code, answer.headers["x-ratelimit-limit"]) == (200, str(limit))


@sentence("limits-19")
def test_no_limit(org: Organization) -> None:
    """More requests than any plan's limit of reads; the headers say that there is none."""
    answers = [org.caller.get("/files/file_x") for _ in range(READS + 5)]
    assert {answer.status_code for answer in answers} == {404}
    assert answers[-1].headers["x-ratelimit-limit"] == UNLIMITED
    assert answers[-1].headers["x-ratelimit-remaining"] == UNLIMITED


@sentence("limits-5", "limits-6")
def test_remaining_falls_by_one(new_org: NewOrg) -> None:
    """From the first request on; the reset lies ahead."""
    caller = new_org("free").caller
    answers = [caller.get("/models") for _ in range(4)]
    remaining = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers]
    assert remaining == [READS - 1, READS - 2, READS - 3, READS - 4]
    for answer in answers:
        reset = int(answer.headers["x-ratelimit-reset"])
        assert time.time() - 1 <= reset <= time.time() + 61


@sentence("limits-7", "limits-4")
def test_failures_count(new_org: NewOrg) -> None:
    """Each of these takes one write."""
    organization = new_org("free")
    caller = organization.caller
    caller.post("/models", {"id": "mine", "status": "training"})
    conflict = {"id": "mine", "status": "training"}
    deployment = {"model_uri": "models://digits", "region": "mars"}
    calls = [
        (400, lambda: caller.post("/deployments", {})),
        (403, lambda: caller.post("/organizations", {})),
        (404, lambda: caller.delete("/files/file_x")),
        (409, lambda: caller.post("/models", conflict)),
        (415, lambda: caller.post("/deployments", content=b"x", headers={"content-type": "text/plain"})),
        (422, lambda: caller.post("/deployments", deployment)),
    ]
    for before, (status, call) in enumerate(calls, start=1):
        answer = call()
        assert answer.status_code == status, answer.text
        assert answer.headers["x-ratelimit-remaining"] == str(WRITES - before - 1), status
        assert set(answer.headers) >= HEADERS


@sentence("limits-8", "limits-9", "limits-18")
def test_above_the_limit(new_org: NewOrg) -> None:
    """429 that says how long to wait; reads go on meanwhile; after the wait it works."""
    caller = new_org("free").caller
    spent(caller, WRITES)
    refused = write(caller)
    error_of(refused.answer, 429, "rate_limit_exceeded")
    assert refused.answer.headers["x-ratelimit-remaining"] == "0"
    assert refused.answer.headers["x-ratelimit-limit"] == str(WRITES)
    retry_after = int(refused.answer.headers["retry-after"])
    assert retry_after >= 1
    assert caller.get("/models").status_code == 200
    assert caller.post("/predict/digits", {}).status_code == 400
    waited_until = refused.answered + retry_after
    until(lambda: time.monotonic() >= waited_until, timeout_s=retry_after + 30, what="Retry-After")
    assert write(caller).is_accepted


@sentence("limits-10")
def test_no_window_holds_more(new_org: NewOrg, window_s: float) -> None:
    """One write, most of a window later the others, then again and again: a counter that is reset lets 60 more in."""
    caller = new_org("free").caller
    tries = spent(caller, 1)
    began = tries[0].sent
    late = began + 0.6 * window_s
    until(lambda: time.monotonic() >= late, timeout_s=window_s + 30, what="most of a window")
    tries += spent(caller, WRITES - 1)
    while time.monotonic() < began + 1.3 * window_s:
        tries.append(write(caller))
    assert any(not each.is_accepted for each in tries)
    assert most_in_a_window(tries, window_s) <= WRITES


@sentence("limits-11")
def test_each_key_has_its_own(new_org: NewOrg) -> None:
    """A second key of the same organization starts with its full limit."""
    organization = new_org("free")
    second = organization.scoped("read", "write")
    spent(organization.caller, WRITES - 1)
    assert write(organization.caller).answer.status_code == 429
    assert write(second).answer.headers["x-ratelimit-remaining"] == str(WRITES - 1)


@sentence("limits-12")
@pytest.mark.anyio
async def test_replicas_share_one_limit(settings: Settings) -> None:
    """Requests in turn to two replicas around one Redis: together as many as the limit."""
    async with open_bench(settings) as first, open_bench(settings) as second:
        key = await first.add_key("org_01ARZ3NDEKTSV4RRFFQ69G5FAV", plan="free")
        statuses = [
            (await bench.request("DELETE", "/files/file_x", key=key)).status_code
            for _ in range(WRITES // 2 + 5)
            for bench in (first, second)
        ]
    assert statuses == [404] * WRITES + [429] * 10


@sentence("limits-13")
def test_spellings_share_one_bucket(new_org: NewOrg) -> None:
    """Another way to write a path or method is no way around the limit."""
    caller = new_org("free").caller
    calls = [("GET", "/models"), ("HEAD", "/models"), ("GET", "/m%6Fdels"), ("GET", "/models?limit=5")]
    answers = [caller.request(method, path) for method, path in calls]
    remaining = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers]
    assert remaining == [READS - 1, READS - 2, READS - 3, READS - 4]


@sentence("limits-14")
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs", "/"])
def test_free_of_limits(api: Caller, new_org: NewOrg, path: str) -> None:
    """Without a key, and with one whose limit stays as it was."""
    caller = new_org("free").caller
    for each in (api, caller):
        answer = each.get(path)
        assert answer.status_code == 200
        assert not HEADERS & set(answer.headers)
    assert caller.get("/models").headers["x-ratelimit-remaining"] == str(READS - 1)


@sentence("limits-15")
def test_simultaneous_requests_are_counted_exactly(new_org: NewOrg, window_s: float) -> None:
    """Eight clients at once: the limit is used up and not passed. A burst that outlasts a window is repeated."""
    for _ in range(_MOST_BURSTS):
        tries = burst(new_org("free").caller)
        assert most_in_a_window(tries, window_s) <= WRITES
        if max(each.answered for each in tries) - min(each.sent for each in tries) < window_s:
            assert sum(each.is_accepted for each in tries) == WRITES
            return
    raise AssertionError("no burst within a window")


@sentence("limits-16")
def test_inference_is_leased(new_org: NewOrg, window_s: float) -> None:
    """`Remaining` never promises more than there is; what is let through stays within the limit."""
    caller = new_org("free").caller
    for made in range(1, 11):
        remaining = int(attempt(caller, "POST", "/predict/digits").answer.headers["x-ratelimit-remaining"])
        assert 0 <= remaining <= FREE_INFERENCE - made
    with ThreadPoolExecutor(8) as threads:
        ask = range(FREE_INFERENCE + 50)
        tries = list(threads.map(lambda _: attempt(caller, "POST", "/predict/digits"), ask))
    assert most_in_a_window(tries, window_s) <= FREE_INFERENCE - 10
    assert any(not each.is_accepted for each in tries)


@sentence("limits-17")
@pytest.mark.anyio
async def test_redis_away(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions go on for a minute, with keys that cannot be confirmed either; writes say 503."""
    with EmbeddedRedis(tmp_path_factory.mktemp("r")) as server:
        own = settings.model_copy(update={"redis_url": SecretStr(server.url)})
        async with open_bench(own) as bench:
            await bench.deploy("sentiment-v1")
            passed = [0.0]
            monkeypatch.setattr(bench.services.keys, "_clock", lambda: time.monotonic() + passed[0])
            await api_bench.until(bench.is_watching)
            assert (await bench.predict("sentiment-v1", [GOOD])).status_code == 200
            server.stop()
            for passed[0] in (0.0, CACHE_S, GRACE_S / 2):
                assert (await bench.predict("sentiment-v1", [GOOD])).status_code == 200
                error_of(await bench.create_deployment(), 503, "unavailable")
            error_of(await bench.request("GET", "/models"), 503, "unavailable")
            passed[0] = GRACE_S
            error_of(await bench.predict("sentiment-v1", [GOOD]), 503, "unavailable")


@sentence("limits-20")
def test_the_plans_of_the_file(operator: Caller, new_org: NewOrg) -> None:
    """The file's plans are those that can be chosen, and its figures those that are counted with."""
    plans = yaml.safe_load(Path(PROJECT_ROOT / "configs" / "plans.yaml").read_text("utf-8"))
    refused = operator.post("/organizations", {"name": "x", "plan": "no-such-plan"})
    assert set(error_of(refused, 422, "invalid_plan")["details"]["plans"]) == set(plans)
    caller = new_org("pro").caller
    limits = [
        caller.request(method, path).headers["x-ratelimit-limit"]
        for method, path in (("GET", "/models"), ("DELETE", "/files/x"), ("POST", "/predict/digits"))
    ]
    assert limits == [str(plans["pro"][category]) for category in ("read", "write", "inference")]
