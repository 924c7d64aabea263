"""How a job ends: what its output holds whoever ends it, and what is left on the disk."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from batch import gpus
from batch.joblog import read_events
from batch.leftovers import Leftovers, remove_unowned
from batch.runs import Run
from batch.worker import ShardWorker
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.models.manifest import Resources
from fyretoolkit.store import keys
from fyretoolkit.store.jobs import JobStore
from tests.support.disks import free_with
from tests.unit.batch.bench import Bench, LengthModel
from tests.unit.batch.test_runner import ROWS, KilledError

pytestmark = pytest.mark.anyio

KEPT = {"output-1.jsonl", "errors-1.jsonl", "plan-1.json", "log.jsonl"}


async def nobody(job: BatchJob) -> bool:
    """No runner is alive."""
    return False


async def killed_job(
    bench: Bench, shards: int, content: bytes = ROWS, name: str = "rows.jsonl", **more: object
) -> BatchJob:
    """A job whose runner died with `shards` shards committed."""

    def die(run: Run, pending: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, pending[:shards], stop)
        raise KilledError

    job = await bench.create_job(content, name, **more)
    with pytest.raises(KilledError):
        await bench.run(job, work=die)
    return job


async def test_the_output_of_a_failed_job_holds_every_committed_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """A worker of the pool commits while the runner is about to end the job: that shard is in the output too."""
    runs: list[Run] = []

    def fail_after_two(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        runs.append(run)
        bench.inline()(run, shards[:2], stop)
        raise PlatformError("input_changed")

    finish = JobStore.finish

    async def finish_behind_a_commit(self: JobStore, job: BatchJob, *args: Any, **more: Any) -> Any:
        worker = ShardWorker(runs[0], load=lambda _: LengthModel(), is_niced=False)
        await asyncio.to_thread(worker.work, 2)
        await asyncio.to_thread(worker.close)
        return await finish(self, job, *args, **more)

    monkeypatch.setattr(JobStore, "finish", finish_behind_a_commit)
    ended = await bench.run(await bench.create_job(ROWS), work=fail_after_two)
    assert (ended.status, ended.succeeded) == (JobStatus.FAILED, 6)
    assert [line["index"] for line in bench.lines(ended)] == list(range(6))


async def test_an_end_that_takes_long_to_assemble_is_not_cut_short(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """The lease of an ended job is refused; its runner goes on with the output all the same."""
    monkeypatch.setattr("batch.runner._STOP_GRACE_S", 0.1)
    assembled = []

    def slow(*arguments: Any) -> Any:
        time.sleep(1.0)  # four renewals of this bench's lease
        assembled.append(arguments)
        return assemble(*arguments)

    from batch.endings import assemble_committed as assemble

    monkeypatch.setattr("batch.partials.assemble_committed", slow)

    def fail_after_two(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, shards[:2], stop)
        raise PlatformError("input_changed")

    ended = await bench.run(await bench.create_job(ROWS), work=fail_after_two)
    assert ended.output is not None
    assert len(assembled) == 1


@pytest.mark.parametrize("status", [JobStatus.CANCELED, JobStatus.FAILED])
async def test_a_job_that_ends_without_a_runner_gets_its_partial_output(bench: Bench, status: JobStatus):
    """Canceled, or given up by the controller, after its runner died: what was committed is there in the end."""
    job = await killed_job(bench, 3)
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, status)
    assert (await bench.read_job(job)).output is None
    await Leftovers(jobs, bench.settings, nobody).look()
    assert await jobs.unassembled() == []
    await store.close()
    ended = await bench.read_job(job)
    assert ended.output is not None
    assert ended.output["partial"] is True
    assert [line["index"] for line in bench.lines(ended)] == list(range(6))


async def test_a_runner_assembles_its_own_job(bench: Bench):
    """While it is alive nobody else does; the job stays noted."""
    job = await killed_job(bench, 1)
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, JobStatus.CANCELED)

    async def everybody(job: BatchJob) -> bool:
        return job.status is JobStatus.CANCELED

    await Leftovers(jobs, bench.settings, everybody).look()
    assert await jobs.unassembled() == [(job.org, job.id)]
    await store.close()


async def test_a_storage_that_hangs_delays_nobody_elses_output(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Two deliveries of the organization hang; the third waits for them, the job without one and others do not."""
    store = bench.store()
    jobs = JobStore(store, 60)
    to = f"file://{bench.folder}/scores.jsonl"
    hanging = [await killed_job(bench, 1, destination=to) for _ in range(3)]
    local, other = await killed_job(bench, 1), await killed_job(bench, 1, destination=to, org="org_other")
    for job in (*hanging, local, other):
        await jobs.finish(job, JobStatus.CANCELED)
    go_on, hung = threading.Event(), list[Path]()

    def hang(url: str, folder: Path, *more: Any) -> Any:
        if folder.name != other.id:
            hung.append(folder)
            assert go_on.wait(60)

    monkeypatch.setattr("batch.partials.deliver", hang)
    leftovers = Leftovers(jobs, bench.settings, nobody)

    async def left(count: int) -> None:
        async with asyncio.timeout(60):
            while len(await jobs.unassembled()) > count:
                await leftovers.look()

    await left(3)
    assert {job_id for _, job_id in await jobs.unassembled()} == {job.id for job in hanging}
    async with asyncio.timeout(60):
        while len(hung) < 2:  # a delivery hangs as soon as its thread has a core
            await leftovers.look()
    assert len(hung) == 2
    go_on.set()
    await left(0)
    await store.close()


async def test_storages_that_hang_use_up_no_place_of_others(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Five organizations with two deliveries each that hang, and as few threads to share: a sixth has its own."""
    limiter = to_thread.current_default_thread_limiter()
    monkeypatch.setattr(limiter, "total_tokens", 4)
    store = bench.store()
    jobs = JobStore(store, 60)
    to = f"file://{bench.folder}/scores.jsonl"
    orgs = [f"org_{index}" for index in range(5)] * 2
    hanging = [await killed_job(bench, 1, destination=to, org=org) for org in orgs]
    last = await killed_job(bench, 1, destination=to, org="org_z")
    go_on, hung = threading.Event(), list[Path]()

    def hang(url: str, folder: Path, *more: Any) -> Any:
        if folder.name != last.id:
            hung.append(folder)
            assert go_on.wait(60)

    monkeypatch.setattr("batch.partials.deliver", hang)
    leftovers = Leftovers(jobs, bench.settings, nobody)
    for job in hanging:
        await jobs.finish(job, JobStatus.CANCELED)
    async with asyncio.timeout(60):
        while len(hung) < len(hanging):
            await leftovers.look()
        await jobs.finish(last, JobStatus.CANCELED)
        while (last.org, last.id) in await jobs.unassembled():
            await leftovers.look()
        go_on.set()
        while await jobs.unassembled():
            await leftovers.look()
    await store.close()


async def test_damaged_parts_do_not_stay_to_be_assembled(bench: Bench):
    """They would be tried for ever; the log says why there is no output."""
    job = await killed_job(bench, 1)
    for part in (bench.job_folder(job) / "parts").iterdir():
        part.write_bytes(b"{}")
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, JobStatus.CANCELED)
    await Leftovers(jobs, bench.settings, nobody).look()
    assert await jobs.unassembled() == []
    await store.close()
    assert (await bench.read_job(job)).output is None
    assert read_events(bench.job_folder(job))[-1]["event"] == "output_damaged"


async def test_an_output_that_cannot_be_written_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A full disk; the other jobs get theirs."""
    jobs_ended = [await killed_job(bench, 1), await killed_job(bench, 1)]
    store = bench.store()
    jobs = JobStore(store, 60)
    for job in jobs_ended:
        await jobs.finish(job, JobStatus.CANCELED)
    from batch.endings import assemble_committed as assemble

    def no_space(folder: Path, *more: Any) -> Any:
        if folder.name == jobs_ended[0].id:
            raise OSError("no space left on device")
        return assemble(folder, *more)

    monkeypatch.setattr("batch.partials.assemble_committed", no_space)
    await Leftovers(jobs, bench.settings, nobody).look()
    assert await jobs.unassembled() == [(jobs_ended[0].org, jobs_ended[0].id)]
    await store.close()


async def test_a_completed_job_keeps_its_output_and_log_alone(bench: Bench):
    """Parts and the unpacked input are freed."""
    job = await bench.run(await bench.create_job(gzip.compress(ROWS), "rows.jsonl.gz"))
    assert job.status is JobStatus.COMPLETED
    assert {path.name for path in bench.job_folder(job).iterdir()} == KEPT
    assert len(bench.lines(job)) == 30
    assert bench.input_path(job).exists()


@pytest.mark.parametrize("status", [JobStatus.CANCELED, JobStatus.FAILED])
async def test_a_job_that_did_not_complete_keeps_no_more(bench: Bench, status: JobStatus):
    """Its partial output, the rows for a retry and its log; the input was spooled and unpacked, nobody reads it."""
    job = await killed_job(bench, 3, gzip.compress(b'5\n"a"\n' + ROWS), "rows.jsonl.gz")
    assert list(bench.job_folder(job).glob("input-*/*"))
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, status)
    await Leftovers(jobs, bench.settings, nobody).look()
    await store.close()
    ended = await bench.read_job(job)
    assert ended.output is not None
    assert ended.output["failed_rows"]
    found = {path.name for path in bench.job_folder(job).iterdir()}
    assert found == KEPT | {"failed-rows-1", "failed-rows-1.numbers"}


async def test_what_a_run_published_that_died_then_goes_when_another_ended_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """It assembled everything, and its job's record never heard of it."""
    job = await bench.create_job(b'5\n"a"\n' + ROWS)

    async def die(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(JobStore, "finish", die)
        with pytest.raises(KilledError):
            await bench.run(job)
    first = {"output-1.jsonl", "errors-1.jsonl", "failed-rows-1", "failed-rows-1.numbers"}
    assert first <= {path.name for path in bench.job_folder(job).iterdir()}
    ended = await bench.run(job, epoch=await bench.epoch_after(job, 1))
    assert ended.status is JobStatus.COMPLETED
    found = {path.name for path in bench.job_folder(job).iterdir()}
    assert {name for name in found if name.startswith(("output", "errors", "failed-rows"))} == {
        name.replace("1", "2", 1) for name in first
    }
    assert len(bench.lines(ended)) == ended.succeeded


async def test_an_input_that_was_never_cut_is_freed(bench: Bench):
    """Neither by a run that ended its job for what it found there, nor by one that died in the middle of it."""
    damaged = await bench.run(await bench.create_job(gzip.compress(b"x" * 99)[:-9], "rows.jsonl.gz"))
    died = await bench.create_job(ROWS)
    store = bench.store()
    jobs = JobStore(store, 60)
    assert await jobs.claim_run(died.org, died.id, lease_s=60) == 1
    (bench.job_folder(died) / "input-1").mkdir(parents=True)
    (bench.job_folder(died) / "input-1" / ".input.fetched.x").write_bytes(ROWS)
    await jobs.finish(died, JobStatus.CANCELED)
    await Leftovers(jobs, bench.settings, nobody).look()
    await store.close()
    for job in (damaged, died):
        assert (await bench.read_job(job)).output is None
        assert {path.name for path in bench.job_folder(job).iterdir()} <= {"log.jsonl"}


async def test_a_runner_that_dies_before_it_frees_the_parts_leaves_that_to_the_controller(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """The job has completed: there is no other run that would do it."""

    def die(folder: Path) -> None:
        raise KilledError

    job = await bench.create_job(ROWS)
    with monkeypatch.context() as patched:
        patched.setattr("batch.partials.free_parts", die)
        with pytest.raises(KilledError):
            await bench.run(job)
    assert list(bench.job_folder(job).glob("parts/*"))
    store = bench.store()
    await Leftovers(JobStore(store, 60), bench.settings, nobody).look()
    await store.close()
    assert {path.name for path in bench.job_folder(job).iterdir()} == KEPT


async def test_who_assembles_second_finds_the_parts_gone_and_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Runner and controller may both be at it: no output is lost or called damaged."""
    job = await killed_job(bench, 2, b'5\n"a"\n' + ROWS)
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, JobStatus.CANCELED)
    prefix = JobStore.committed_prefix

    async def overtaken(self: JobStore, *arguments: Any) -> Any:
        monkeypatch.setattr(JobStore, "committed_prefix", prefix)
        await Leftovers(jobs, bench.settings, nobody).look()
        return await self.committed_prefix(*arguments)

    monkeypatch.setattr(JobStore, "committed_prefix", overtaken)
    await Leftovers(jobs, bench.settings, nobody).look()
    await store.close()
    ended = await bench.read_job(job)
    assert ended.output is not None
    assert ended.output["failed_rows"]
    assert "output_damaged" not in [event["event"] for event in read_events(bench.job_folder(job))]
    assert len(bench.lines(ended)) == ended.succeeded


async def test_a_disk_that_fills_up_ends_the_job_with_what_fits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Typed, and at once; the committed rows are there when there is room again, and the reserve was never touched."""

    def fill_after_two(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, shards[:2], stop)
        free_with(monkeypatch, bench.settings.files.min_free_bytes + 1)
        bench.inline()(run, shards[2:], stop)

    ended = await bench.run(await bench.create_job(ROWS), work=fill_after_two)
    assert ended.error is not None
    assert (ended.status, ended.error["code"], ended.output) == (JobStatus.FAILED, "storage_full", None)
    assert len(list(bench.job_folder(ended).glob("parts/*"))) == 4
    free_with(monkeypatch, bench.settings.files.min_free_bytes + (1 << 20))
    store = bench.store()
    await Leftovers(JobStore(store, 60), bench.settings, nobody).look()
    await store.close()
    ended = await bench.read_job(ended)
    assert [line["index"] for line in bench.lines(ended)] == list(range(4))


async def test_an_output_that_does_not_fit_fails_the_job_and_keeps_its_parts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """They are what the API answers with until the output fits."""

    def fill(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, shards, stop)
        free_with(monkeypatch, bench.settings.files.min_free_bytes + 1)

    ended = await bench.run(await bench.create_job(ROWS), work=fill)
    assert ended.error is not None
    assert (ended.status, ended.error["code"], ended.output) == (JobStatus.FAILED, "storage_full", None)
    assert (ended.succeeded, ended.is_partial) == (30, True)
    assert len(list(bench.job_folder(ended).glob("parts/*"))) == 2 * ended.shard_count


async def test_a_folder_goes_with_its_record(bench: Bench):
    """As old as records live and without one: removed. Younger, recorded, or not a job's: left alone.

    A platform started on an empty Redis has no records: yesterday's results must survive that.
    """
    recorded = await bench.run(await bench.create_job(ROWS))
    old, young, foreign = (bench.settings.jobs_dir / name for name in (new_id("job"), new_id("job"), "notes"))
    for folder in (old, young, foreign):
        (folder / "parts").mkdir(parents=True)
    ttl_s = bench.settings.batch.job_ttl_s
    for folder in (old, foreign, bench.job_folder(recorded)):
        os.utime(folder, (time.time() - ttl_s - 100,) * 2)
    os.utime(young, (time.time() - ttl_s + 100,) * 2)
    store = bench.store()
    await remove_unowned(JobStore(store, 60), bench.settings)
    await store.close()
    assert {path.name for path in bench.settings.jobs_dir.iterdir()} == {recorded.id, young.name, "notes"}


async def test_leftovers_of_an_expired_job_are_forgotten(bench: Bench):
    """Its record is gone: there is nobody to give an output to."""
    job = await killed_job(bench, 1)
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, JobStatus.CANCELED)
    await store.redis.delete(keys.job(job.org, job.id))
    await Leftovers(jobs, bench.settings, nobody).look()
    assert await jobs.unassembled() == []
    assert not await store.redis.exists(keys.job(job.org, job.id))
    await store.close()


async def test_time_in_the_queue_does_not_count(bench: Bench):
    """`timeout_s` is from the start on: a job that waited for a day has all of it."""
    waited = await bench.create_job(ROWS, created=int(time.time()) - 86_400, timeout_s=3600)
    ended = await bench.run(waited)
    assert (ended.status, ended.succeeded) == (JobStatus.COMPLETED, 30)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"format": "jsonl", "header": "", "total": 1, "sha'])
async def test_a_plan_that_is_gone_or_damaged_ends_the_job(bench: Bench, content: bytes | None):
    """With what was committed: twenty more runs would find it no better."""
    job = await killed_job(bench, 2)
    (plan,) = bench.job_folder(job).glob("plan-*.json")
    if content is None:
        plan.unlink()
    else:
        plan.write_bytes(content)
    ended = await bench.run(job, epoch=await bench.epoch_after(job, 1))
    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == (JobStatus.FAILED, "run_failed")
    assert [line["index"] for line in bench.lines(ended)] == list(range(4))


async def test_a_gpu_model_without_a_gpu_fails_its_job_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Ray would wait for a GPU without end, and the job would hold its slot."""
    monkeypatch.setattr(gpus, "_resources_of_nodes", lambda: [{"CPU": 2.0}])
    job = await bench.create_job(ROWS)
    spec = {**job.spec, "resources": {**job.spec["resources"], "num_gpus": 1.0}}  # type: ignore[dict-item]
    store = bench.store()
    await store.redis.hset(keys.job(job.org, job.id), "spec", json.dumps(spec))
    await store.close()
    ended = await bench.run(job)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "gpu_unavailable"


@pytest.mark.parametrize(
    ("wanted", "is_there"),
    [
        (Resources(), True),
        (Resources(num_gpus=0.5), True),
        (Resources(num_gpus=4), True),
        (Resources(num_gpus=5), False),
        (Resources(num_gpus=2, accelerator_type="A100"), True),
        (Resources(num_gpus=3, accelerator_type="A100"), False),
        (Resources(num_gpus=1, accelerator_type="L4"), False),
        (Resources(accelerator_type="L4"), True),
    ],
)
def test_a_node_with_enough_gpus_is_enough(
    wanted: Resources, is_there: bool, monkeypatch: pytest.MonkeyPatch
):
    """Of the kind that is wanted. Whether they are busy does not matter: the pool waits for its turn."""
    nodes = [
        {"CPU": 2.0},
        {"GPU": 2.0, "accelerator_type:A100": 1.0},
        {"GPU": 4.0, "accelerator_type:T4": 1.0},
    ]
    monkeypatch.setattr(gpus, "_resources_of_nodes", lambda: nodes)
    if is_there:
        gpus.require_gpus(wanted)
        return
    with pytest.raises(PlatformError) as refused:
        gpus.require_gpus(wanted)
    assert refused.value.code == "gpu_unavailable"
