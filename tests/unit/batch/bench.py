"""A job in a real store, and a model whose answers are known beforehand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import orjson

from batch.runner import BatchRunner, Work
from batch.runs import RunOverError
from batch.worker import Predictor, ShardWorker
from fyretoolkit.core.files import StoredFile
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.models.codec import ItemError
from fyretoolkit.models.runner import Prediction
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import resolve
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.jobs import JobStore
from tests.support.uploads import add_upload

T = TypeVar("T")
ORG = "org_test"

SPEC = resolve(
    None,
    Signature((TensorSpec("text", "string", (None, 1)),), (TensorSpec("length", "int64", (None, 1)),)),
)


def run_inline(worker: ShardWorker, shards: Sequence[int], stop: threading.Event) -> None:
    """Work on `shards` with one worker, in this process."""
    try:
        for shard in shards:
            if stop.is_set():
                raise RunOverError
            worker.work(shard)
    finally:
        worker.close()


class LengthModel:
    """Answers the length of each text; anything but text does not fit; "poison" fails in the model."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(
        self,
        items: Sequence[object],
        cells_are_text: bool = False,
    ) -> list[Prediction | ItemError]:
        """One outcome per item."""
        self.calls.append(len(items))
        return [self._outcome(index, item) for index, item in enumerate(items)]

    def _outcome(self, index: int, item: object) -> Prediction | ItemError:
        if not isinstance(item, str):
            return ItemError(index, "", "expected a string, got a number")
        if item == "poison":
            return ItemError(index, "", "The model failed.", code="row_failed")
        return Prediction(index, {"length": len(item)})


@dataclass
class Bench:
    """What a test needs to make jobs and run them."""

    settings: Settings
    folder: Path
    model: Predictor = field(default_factory=LengthModel)

    def store(self) -> Store:
        """A connection for the running loop."""
        return Store(self.settings.redis_url.get_secret_value())

    @asynccontextmanager
    async def uploads(self) -> AsyncIterator[Uploads]:
        """What the organization of the jobs uploaded."""
        store = self.store()
        yield Uploads(ORG, FileStore(store), self.settings.files_dir)
        await store.close()

    async def upload(self, content: bytes, filename: str, org: str = ORG) -> StoredFile:
        """An uploaded file."""
        store = self.store()
        file = await add_upload(store, self.settings.files_dir, content, filename=filename, org=org)
        await store.close()
        return file

    async def create_job(self, content: bytes, name: str = "rows.jsonl", **more: object) -> BatchJob:
        """A queued job over a file with this content."""
        path = self.folder / name
        path.write_bytes(content)
        return await self.create_job_over(f"file://{path}", **more)

    async def create_job_over(self, input_url: str, **more: object) -> BatchJob:
        """A queued job over what is at the URL."""
        job = BatchJob(
            id=new_id("job"),
            org=ORG,
            status=JobStatus.QUEUED,
            model="lengths",
            artifact="0" * 64,
            spec=SPEC.to_json(),
            input_url=input_url,
            created=int(time.time()),
        )
        job = replace(job, **more)  # type: ignore[arg-type]
        store = self.store()
        await JobStore(store, 60).create(job)
        await store.close()
        return job

    async def read_job(self, job: BatchJob) -> BatchJob:
        """The job as it is now."""
        store = self.store()
        current = await JobStore(store, 60).get(job.org, job.id)
        await store.close()
        assert current is not None
        return current

    async def epoch_after(self, job: BatchJob, dead_epoch: int) -> int | None:
        """That of a run that follows one that died."""
        store = self.store()
        epoch = await JobStore(store, 60).claim_run(job.org, job.id, lease_s=1, dead_epoch=dead_epoch)
        await store.close()
        return epoch

    def inline(self) -> Work:
        """The work of a run, in the runner's own process, with this bench's model."""
        return lambda run, shards, stop: run_inline(
            ShardWorker(run, load=lambda _: self.model, is_niced=False), shards, stop
        )

    async def run(self, job: BatchJob, *, work: Work | None = None, epoch: int | None = None) -> BatchJob:
        """Run the job once and read it again."""
        runner = BatchRunner(self.settings, job.org, job.id, epoch=epoch, work=work or self.inline())
        await asyncio.wait_for(runner.run(), timeout=180)
        return await self.read_job(job)

    async def in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Call what blocks, as the runner does."""
        return await asyncio.to_thread(call, *arguments)

    def input_path(self, job: BatchJob) -> Path:
        """The file that the job reads."""
        return Path(job.input_url.removeprefix("file://"))

    def job_folder(self, job: BatchJob) -> Path:
        """The job's folder."""
        return self.settings.jobs_dir / job.id

    def file(self, job: BatchJob, kind: str = "results") -> Path:
        """One of the files that the job's output names."""
        assert job.output is not None
        return self.job_folder(job) / str(job.output[kind]["name"])  # type: ignore[index]

    def lines(self, job: BatchJob, kind: str = "results") -> list[dict[str, object]]:
        """The lines of a JSONL output."""
        return [orjson.loads(line) for line in self.file(job, kind).read_bytes().splitlines()]
