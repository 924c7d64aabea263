"""A disk without room: the platform's reserve stays, what does not fit is said, and the job that filled it frees it."""

from __future__ import annotations

import pytest

from batch.retries import keep_for_retry
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.store.jobs import JobStore
from tests.support.disks import free_with
from tests.unit.batch.bench import Bench
from tests.unit.batch.test_ends import killed_job
from tests.unit.batch.test_runner import ROWS

pytestmark = pytest.mark.anyio

FAILING = b'5\n"a"\n' + ROWS


def room_for(monkeypatch: pytest.MonkeyPatch, bench: Bench, room_bytes: int) -> None:
    """Let the disk have room for so much above the reserve."""
    free_with(monkeypatch, bench.settings.files.min_free_bytes + room_bytes)


async def test_failed_rows_are_not_copied_into_the_reserve(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """As many as the input has may fail. It is said as what it is, and nothing is left aside."""
    job = await bench.read_job(await killed_job(bench, 1, FAILING))
    store = bench.store()
    committed = await JobStore(store, 60).committed(job.org, job.id)
    await store.close()
    folder, reserve_bytes = bench.job_folder(job), bench.settings.files.min_free_bytes
    room_for(monkeypatch, bench, 1)
    with pytest.raises(PlatformError) as caught:
        keep_for_retry(folder, job, committed, reserve_bytes)
    assert caught.value.code == "storage_full"
    assert [path for path in folder.iterdir() if "failed-rows" in path.name] == []
    room_for(monkeypatch, bench, 1 << 20)
    kept = keep_for_retry(folder, job, committed, reserve_bytes)
    assert kept is not None
    assert (kept.count, (folder / kept.rows).read_bytes()) == (1, b"5\n")
