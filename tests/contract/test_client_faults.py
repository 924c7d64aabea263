"""The Python client behind a proxy that drops, cuts, holds, drips and refuses.

Whatever happens on the way, a call ends in an answer or in one of the client's errors within its time, and nothing is
made twice.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.client import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    FyreError,
    RateLimitError,
    ServerError,
    retries,
)
from fyretoolkit.core.lifecycles import JobStatus
from tests.support.api_bench import Bench, until
from tests.support.batch_jobs import OUTPUT, commit, end_job, post_job, start_job, stored_job
from tests.support.clients import WORLDS, call, run_scenario
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.http_server import serve_over_http

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("world", WORLDS)]

_TOO_LONG_S = 60
"""Far beyond every time that is given here: a call that takes it hangs."""
_BEFORE = (Fault.DROP_BEFORE, Fault.HANG_BEFORE, Fault.BUSY, Fault.AWAY)
_AFTER = (Fault.DROP_AFTER, Fault.HANG_AFTER, Fault.CUT, Fault.DRIP, Fault.STRANGE)
_PATIENT = {"attempt_timeout": 15.0, "timeout": 50.0}
_HANGS = (Fault.HANG_BEFORE, Fault.HANG_AFTER, Fault.DRIP)
_SHORT = {"attempt_timeout": 1.0}


_HELD = {"attempt_timeout": 3.0}


def _for(fault: Fault) -> dict[str, float]:
    """How long an attempt may take: what hangs need not be waited for, what comes late on a busy machine does."""
    return _SHORT if fault in _HANGS else {}


@dataclass
class Faulty:
    """The app, and the proxy before it."""

    bench: Bench
    proxy: FaultProxy
    world: str
    folder: Path

    async def call(self, make: Any, **options: Any) -> Any:
        """What one call through the proxy answers, or the error that it ends in."""
        async with asyncio.timeout(_TOO_LONG_S):
            return await call(self.world, self.proxy.url, make, **{**_PATIENT, **options})


@pytest.fixture
async def faulty(
    bench: Bench, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Faulty]:
    """Two public models that answer, behind a proxy; pauses are short."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    await bench.deploy("sentiment-v1")
    await bench.add_model("digits")
    async with serve_over_http(bench.app) as url, fault_proxy(url) as proxy:
        yield Faulty(bench, proxy, world, tmp_path)


def _job(client: Any) -> Any:
    return client.batch.create("digits", "https://data.example/rows.jsonl")


def _model(client: Any) -> Any:
    return client.models.create(id="mine")


def _file(client: Any) -> Any:
    return client.files.upload(b"x" * 200_000, filename="x.csv")


def _deployment(client: Any) -> Any:
    return client.deployments.create("models://digits", region="us-east-1")


def _key(client: Any) -> Any:
    return client.api_keys.create("ci")


def _models(client: Any) -> Any:
    return client.models.list()


async def test_a_creation_that_went_wrong_on_the_way_makes_one_object(faulty: Faulty) -> None:
    """All attempts of a call carry one idempotency key, so the answer is that of the object that was made first."""
    cases = [
        *((_job, "/jobs", fault) for fault in (*_BEFORE, *_AFTER)),
        (_model, "/models?status=training", Fault.DROP_AFTER),
        (_file, "/files", Fault.CUT),
        (_file, "/files", Fault.DROP_BEFORE),
        (_deployment, "/deployments", Fault.STRANGE),
    ]
    made: dict[str, list[str]] = {}
    for make, collection, fault in cases:
        faulty.proxy.next(fault)
        made.setdefault(collection, []).append((await faulty.call(make, **_for(fault))).id)
        keys = [seen.idempotency_key for seen in faulty.proxy.seen]
        assert len(keys) >= 2
        assert len({*keys, None}) == 2
        listed = (await faulty.bench.request("GET", collection)).json()["data"]
        assert [each["id"] for each in listed] == made[collection][::-1], fault


async def test_a_retry_of_which_the_answer_was_lost_makes_one_job(faulty: Faulty) -> None:
    parent = await start_job(faulty.bench)
    await commit(faulty.bench, parent, 0)
    kept = {"failed_rows": {"rows": "failed-rows-1", "numbers": "failed-rows-1.numbers", "count": 1}}
    await faulty.bench.services.jobs.finish(
        await stored_job(faulty.bench, parent), JobStatus.COMPLETED, output=kept
    )
    faulty.proxy.next(Fault.DROP_AFTER)
    child = await faulty.call(lambda client: client.jobs.retry(parent, output_format="csv"))
    assert (child.retry_of, child.output_format) == (parent, "csv")
    listed = (await faulty.bench.request("GET", "/jobs")).json()["data"]
    assert [each["id"] for each in listed] == [child.id, parent]


async def test_a_publication_of_which_the_answer_was_lost_is_done(faulty: Faulty) -> None:
    """Also when the model has become ready before it is sent again: no conflict with itself."""
    models = faulty.bench.services.models
    await faulty.call(_model)

    async def is_published() -> bool:
        return bool(await models.preparing())

    async def make_ready() -> None:
        await until(is_published)
        epoch = await faulty.bench.services.deployments.new_controller_epoch()
        (model,) = await models.preparing()
        assert await models.complete(model, epoch=epoch, artifact="f" * 64)
        faulty.proxy.release()

    faulty.proxy.next(Fault.HOLD_AFTER)
    ready = asyncio.create_task(make_ready())
    answer = await faulty.call(
        lambda client: client.models.publish("mine", "https://data.example/mine.onnx"), attempt_timeout=30.0
    )
    await ready
    assert (answer.id, answer.source_uri) == ("mine", "https://data.example/mine.onnx")
    assert len(faulty.proxy.seen) == 2
    assert (await faulty.call(lambda client: client.models.get("mine"))).status == "ready"


async def test_reads_and_predictions_are_repeated(faulty: Faulty) -> None:
    for fault in (*_BEFORE, *_AFTER):
        faulty.proxy.next(fault)
        answer = await faulty.call(lambda client: client.predict("sentiment-v1", ["good"]), **_for(fault))
        assert answer.results[0]["label"] == "positive"
        assert len(faulty.proxy.seen) >= 2
    faulty.proxy.next(Fault.CUT, Fault.DROP_AFTER)
    assert (await faulty.call(lambda client: client.models.get("digits"))).id == "digits"


async def test_a_new_key_is_not_asked_for_twice(faulty: Faulty) -> None:
    """Its creation takes no idempotency key, and nobody knows whether it was made: that is for the caller to see.

    But when it certainly was not made, it is asked for again.
    """
    for fault, kind in (
        (Fault.DROP_AFTER, APIConnectionError),
        (Fault.CUT, APIConnectionError),
        (Fault.HANG_AFTER, APITimeoutError),
        (Fault.STRANGE, ServerError),
        (Fault.AWAY, ServerError),
    ):
        faulty.proxy.next(fault)
        with pytest.raises(kind) as failed:
            await faulty.call(_key, **(_HELD if fault is Fault.HANG_AFTER else {}))
        assert failed.value.attempts == len(faulty.proxy.seen) == 1
    faulty.proxy.next(Fault.BUSY, Fault.BUSY)
    assert (await faulty.call(_key)).name == "ci"


async def test_a_storm_ends_in_a_typed_error(faulty: Faulty) -> None:
    """After two retries, whatever the storm is of; the last failure says how often it was tried."""
    for fault, kind in (
        (Fault.DROP_BEFORE, APIConnectionError),
        (Fault.CUT, APIConnectionError),
        (Fault.HANG_BEFORE, APITimeoutError),
        (Fault.DRIP, APITimeoutError),
        (Fault.BUSY, RateLimitError),
        (Fault.AWAY, ServerError),
        (Fault.STRANGE, ServerError),
    ):
        faulty.proxy.next(*[fault] * 9)
        with pytest.raises(kind) as failed:
            await faulty.call(_models, **_for(fault))
        assert failed.value.attempts == 3
        assert fault in _HANGS or len(faulty.proxy.seen) == 3
        assert not isinstance(failed.value, APIError) or failed.value.code


async def test_the_time_of_a_call_holds_whatever_its_attempts_may_take(faulty: Faulty) -> None:
    """Also when bytes keep coming, so that no single read ever times out."""
    for fault in _HANGS:
        faulty.proxy.next(*[fault] * 9)
        with pytest.raises(APITimeoutError):
            await faulty.call(_models, timeout=0.3, attempt_timeout=_TOO_LONG_S, max_retries=9)
        assert len(faulty.proxy.seen) <= 1


async def test_nobody_listens(faulty: Faulty) -> None:
    """Not even a creation without idempotency key was carried out, so it is tried as often as any."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(APIConnectionError) as failed:
            await call(faulty.world, url, _key)
    assert (failed.value.attempts, failed.value.is_sent) == (3, False)


async def test_a_deletion_of_which_the_answer_was_lost_is_done(faulty: Faulty) -> None:
    sent = await faulty.call(_file)
    faulty.proxy.next(Fault.DROP_AFTER)
    assert (await faulty.call(lambda client: client.files.delete(sent.id))).deleted


async def test_a_download_goes_on_where_it_was_cut(faulty: Faulty) -> None:
    """More often than a call is retried, as long as something came in between."""
    content = bytes(range(256)) * 4000
    sent = await faulty.call(lambda client: client.files.upload(content, filename="x.csv"))
    faulty.proxy.next(Fault.CUT, Fault.DROP_AFTER, Fault.CUT, Fault.AWAY, Fault.CUT, Fault.CUT)
    assert await faulty.call(lambda client: client.files.content(sent.id)) == content
    assert sum("range: bytes=" in seen.head.lower() for seen in faulty.proxy.seen) >= 4


async def test_results_are_whole_although_their_download_was_cut(faulty: Faulty) -> None:
    job_id = (await post_job(faulty.bench)).json()["id"]
    await end_job(faulty.bench, job_id, JobStatus.COMPLETED)
    given = {"job_id": job_id, "saved": faulty.folder / "results.jsonl"}
    faulty.proxy.next(Fault.NONE, Fault.CUT, Fault.CUT, Fault.CUT)
    await run_scenario(faulty.world, "downloaded", faulty.proxy.url, given, **_PATIENT)
    assert given["saved"].read_bytes() == OUTPUT


async def test_waiting_outlasts_an_outage(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """More failures in a row than a call is retried; the job goes on meanwhile, and so does the waiting."""
    monkeypatch.setattr(retries, "POLL_FIRST_S", 0.01)
    monkeypatch.setattr(retries, "POLL_MAX_S", 0.02)
    job_id = await start_job(faulty.bench)
    await faulty.bench.request("POST", f"/jobs/{job_id}/cancel")
    faulty.proxy.next(Fault.NONE, *[Fault.DROP_BEFORE, Fault.AWAY, Fault.BUSY, Fault.CUT] * 3)
    await run_scenario(
        faulty.world, "waited_for", faulty.proxy.url, {"job_id": job_id}, **_PATIENT, max_retries=0
    )
    assert Counter(seen.fault for seen in faulty.proxy.seen)[Fault.AWAY] == 3


async def test_many_calls_at_once_in_bad_weather(faulty: Faulty) -> None:
    """Each ends in an answer or in an error of the client, and no call made two jobs, whichever faults it met."""
    weather = random.Random(20261126)
    faulty.proxy.next(
        *weather.choices([fault for fault in Fault if fault not in (*_HANGS, Fault.HOLD_AFTER)], k=40)
    )

    async def one(number: int) -> str | FyreError:
        try:
            made = await faulty.call(
                lambda client: client.batch.create(
                    "digits", "https://data.example/x.csv", metadata={"n": number}
                )
            )
        except FyreError as error:
            return error
        return str(made.id)

    ends = await asyncio.gather(*(one(number) for number in range(20)))
    listed = (await faulty.bench.request("GET", "/jobs?limit=100")).json()["data"]
    assert len({job["metadata"]["n"] for job in listed}) == len(listed)
    assert {end for end in ends if isinstance(end, str)} <= {job["id"] for job in listed}
    assert any(isinstance(end, str) for end in ends)
