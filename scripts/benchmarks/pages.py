"""What a page of a list costs when the list is long: the time of the same page of a short list, as a ratio.

Two platforms in this process, each the real app over a Redis of its own, one with many objects and one with few. Every
round asks both for every page, in turn, so that whatever else the machine does falls on both alike. Requests go to
the app without HTTP in between, whose constant cost would only make the ratios look better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr
from starlette.types import ASGIApp, Message

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import DeploymentStatus, JobStatus, ModelStatus, Stage
from fyretoolkit.core.models import ORDER_PREFIX, Model
from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.settings import DEFAULT_PLANS, DEMO_KEY, PlanSettings, Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.embedded import EmbeddedRedis
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.models import ModelStore
from tests.support.api_bench import open_bench

HELP = "first and deep pages of long lists against the same pages of short ones"

_FEW = 100
_AT_ONCE = 200
_WARM_UP_ROUNDS = 10

Fill = Callable[[Store, int], Awaitable[list[str]]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench pages`."""
    parser.add_argument(
        "--lists", nargs="+", choices=sorted(FILLS), default=["jobs"], help="which lists to measure"
    )
    parser.add_argument("--count", type=int, default=100_000, help="objects in the long list (100000)")
    parser.add_argument("--rounds", type=int, default=200, help="requests for each page (200)")
    parser.add_argument("--max-ratio", type=float, default=2.0, help="the median ratio to stay below (2)")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 if a page of a long list takes more than `--max-ratio` times as long."""
    is_met = True
    for name in options.lists:
        pages = asyncio.run(measure(name, options.count, options.rounds))
        print(f"\n{name}: {options.count} against {_FEW}, {options.rounds} rounds, milliseconds")
        print(f"{'page':<24}{'many p50':>10}{'p95':>8}{'few p50':>10}{'p95':>8}{'ratio p50':>11}{'p95':>7}")
        for page in pages:
            print(page.row())
        is_met &= all(page.ratio <= options.max_ratio for page in pages)
    print(f"\n{'met' if is_met else 'NOT met'}: each median within {options.max_ratio:g} times")
    return int(not is_met)


@dataclass(frozen=True, slots=True)
class Page:
    """One page, as it is asked for in the long list and in the short one, with the times taken (s)."""

    name: str
    many: str
    few: str
    many_s: list[float] = field(default_factory=list)
    few_s: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.many_s) / statistics.median(self.few_s)

    def row(self) -> str:
        """Its line of the table."""
        many, few = _p50_p95_ms(self.many_s), _p50_p95_ms(self.few_s)
        return (
            f"{self.name:<24}{many[0]:>10.2f}{many[1]:>8.2f}{few[0]:>10.2f}{few[1]:>8.2f}"
            f"{many[0] / few[0]:>11.2f}{many[1] / few[1]:>7.2f}"
        )


def _p50_p95_ms(times_s: Sequence[float]) -> tuple[float, float]:
    return statistics.median(times_s) * 1000, statistics.quantiles(times_s, n=20)[-1] * 1000


async def measure(name: str, count: int, rounds: int) -> list[Page]:
    """The pages of one list with their times."""
    with tempfile.TemporaryDirectory(prefix="fyre-bench-") as folder:
        async with (
            _platform(Path(folder, "many"), FILLS[name], count) as (many, many_ids),
            _platform(Path(folder, "few"), FILLS[name], _FEW) as (few, few_ids),
        ):
            pages = _pages(name, many_ids, few_ids)
            for page in pages:
                await _check_alike(page, many, few)
            warm_up = min(_WARM_UP_ROUNDS, rounds)
            for number in range(warm_up + rounds):
                for page in pages:
                    await _ask_both(page, many, few, is_kept=number >= warm_up)
    return pages


def _pages(name: str, many: Sequence[str], few: Sequence[str]) -> list[Page]:
    """First pages and deep ones, with as many objects in both lists; ids are oldest first."""
    depth = min(len(many) * 9 // 10, len(many) - _FEW)
    after_many, after_few = many[-depth], few[-(_FEW - 20)]
    return [
        Page("first, limit 20", f"/{name}?limit=20", f"/{name}?limit=20"),
        Page("first, limit 100", f"/{name}?limit=100", f"/{name}?limit=100"),
        Page(
            f"depth {depth}, limit 20",
            f"/{name}?limit=20&starting_after={after_many}",
            f"/{name}?limit=20&starting_after={after_few}",
        ),
        Page(
            f"depth {depth}, limit 100",
            f"/{name}?limit=100&starting_after={after_many}",
            f"/{name}?limit=100",
        ),
    ]


async def _check_alike(page: Page, many: ASGIApp, few: ASGIApp) -> None:
    """Both answers must be 200 and hold as many objects."""
    counts = [
        len(json.loads(await _get(app, path))["data"]) for app, path in ((many, page.many), (few, page.few))
    ]
    assert counts[0] == counts[1] > 0, (page, counts)


async def _ask_both(page: Page, many: ASGIApp, few: ASGIApp, *, is_kept: bool) -> None:
    for app, path, times_s in ((many, page.many, page.many_s), (few, page.few, page.few_s)):
        began = time.perf_counter()
        await _get(app, path)
        if is_kept:
            times_s.append(time.perf_counter() - began)


async def _get(app: ASGIApp, target: str) -> bytes:
    path, _, query = target.partition("?")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {DEMO_KEY}".encode()), (b"host", b"api.localhost")],
    }
    await app(scope, receive, send)
    body = b"".join(message["body"] for message in sent[1:])
    assert sent[0]["status"] == 200, body
    return body


@asynccontextmanager
async def _platform(home: Path, fill: Fill, count: int) -> AsyncIterator[tuple[ASGIApp, list[str]]]:
    """The app over a Redis of its own with `count` objects of the demo organization, and their ids."""
    unlimited = dict.fromkeys(DEFAULT_PLANS, PlanSettings(read=None, write=None, inference=None))
    with EmbeddedRedis(home / "redis") as redis:
        settings = Settings(home=home, redis_url=SecretStr(redis.url), plans=unlimited)
        store = Store(redis.url)
        began = time.perf_counter()
        ids = await fill(store, count)
        await store.close()
        print(f"made {count} objects in {time.perf_counter() - began:.0f} s", flush=True)
        async with open_bench(settings) as bench:
            yield bench.app, ids


async def _many(count: int, create: Callable[[int], Awaitable[str]]) -> list[str]:
    ids: list[str] = []
    for start in range(0, count, _AT_ONCE):
        ids += await asyncio.gather(
            *(create(number) for number in range(start, min(count, start + _AT_ONCE)))
        )
    return ids


async def _fill_jobs(store: Store, count: int) -> list[str]:
    """Queued ones, the dearest: each has a position in the queue."""
    jobs = JobStore(store, job_ttl_s=86_400)

    async def create(number: int) -> str:
        job = BatchJob(
            id=new_id("job"),
            org=DEMO_ORG,
            status=JobStatus.QUEUED,
            model="digits",
            artifact="a" * 64,
            spec={"kind": "text"},
            input_url=f"https://data.example/{number}.jsonl",
            created=int(time.time()),
        )
        await jobs.create(job)
        return job.id

    return await _many(count, create)


async def _fill_models(store: Store, count: int) -> list[str]:
    models = ModelStore(store)

    async def create(number: int) -> str:
        model = Model(
            id=f"model-{number}",
            org=DEMO_ORG,
            status=ModelStatus.TRAINING,
            created=int(time.time()),
            order=new_id(ORDER_PREFIX),
        )
        await models.create(model)
        return model.id

    return await _many(count, create)


async def _fill_deployments(store: Store, count: int) -> list[str]:
    deployments = DeploymentStore(store, deleted_ttl_s=86_400)

    async def create(number: int) -> str:
        now = time.time()
        deployment = Deployment(
            id=new_id("dep"),
            org=DEMO_ORG,
            status=DeploymentStatus.FAILED,
            stage=Stage.FETCHING,
            model=f"model-{number}",
            model_uri=f"models://model-{number}",
            region="us-east-1",
            created=int(now),
            updated=int(now),
            stage_at=now,
        )
        await deployments.create(deployment)
        return deployment.id

    return await _many(count, create)


FILLS: dict[str, Fill] = {"jobs": _fill_jobs, "models": _fill_models, "deployments": _fill_deployments}
