"""`--local`: the same shards, model runner, parts and output on a laptop, without Redis, Ray or a platform.

Everything lies in one folder beside the output, `.scores.jsonl.fyre` for `scores.jsonl`, until the output is complete.
The same command again goes on behind what it committed, if input and model are the same; else it begins anew.
Shards go to as many processes as there are cores, since parsing holds Python's lock. Rejected: the platform's store on
the embedded Redis, which is not there on every laptop.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize
from pathlib import Path
from urllib.parse import quote

import onnxruntime
import orjson
from pydantic import SecretStr

from batch.destinations import check_destination, deliver
from batch.endings import assemble_committed, decide_ending
from batch.ledger import Ledger
from batch.packages import opened_package
from batch.progress import Display, open_display
from batch.runner import make_plan
from batch.runs import Run
from batch.sources import Source, stage
from batch.submission import Wish
from batch.worker import ShardWorker
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import URI_PREFIX, StoredFile
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.egress.urls import ParsedUrl, UnsafeUrlError, parse_url
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.settings import BatchSettings, EgressSettings, FileSettings, S3SourceSettings, Settings

_ORG, _JOB = "local", "local"
_EPOCH = 1
_STATE = "state.json"
_FATAL = 4
_PROCESSES_WORTH_SHARDS = 8
"""With fewer shards, starting a process (a second) costs more than it brings."""
COMPLETED, FAILED, STOPPED = 0, 1, 4


def run_local(wish: Wish, *, workers: int | None = None, display: Display | None = None) -> int:
    """Do here what a platform would; the exit code, as `batch.run` documents it.

    Raises:
        PlatformError: nothing was begun: input, model or output turned out to be unusable.
    """
    if wish.destination is None:
        raise PlatformError("invalid_request", "--local needs --output: the path of the file to write.")
    target, input_url = _url_of(wish.destination), _url_of(wish.body.input_url)
    workspace = _workspace(target)
    count = workers or os.cpu_count() or 1
    settings = _settings(workspace, (input_url, target), count)
    check_destination(target, settings)
    with _locked(workspace), display or open_display() as shown:
        try:
            work = _prepare(settings, wish, input_url)
        except PlatformError:
            if not (settings.jobs_dir / _JOB / _STATE).exists():  # nothing to go on with is lost
                shutil.rmtree(workspace)
            raise
        try:
            if not _work(work, wish.body.timeout_s, shown):
                shown.say("Stopped. The same command goes on from here.")
                return STOPPED
            return _finish(work, target, wish.body.max_error_rate, shown)
        except PlatformError as error:
            shown.say(f"{error.code}: {error.message}")
            return FAILED


@dataclass(frozen=True, slots=True)
class _Work:
    """A prepared job."""

    settings: Settings
    job: BatchJob
    run: Run
    ledger: Ledger


def _url_of(given: str) -> str:
    """A path becomes a URL; a URL stays."""
    if "://" in given:
        if given.lower().startswith(URI_PREFIX):
            raise PlatformError(
                "invalid_request", f"{URI_PREFIX} names a platform's file; --local takes a path or URL."
            )
        return given
    return f"file://{quote(str(Path(given).expanduser().absolute()))}"


def _parsed(url: str) -> ParsedUrl:
    try:
        return parse_url(url)
    except UnsafeUrlError as error:
        raise PlatformError("url_not_allowed", f"The URL cannot be used: {error}.") from error


def _workspace(target: str) -> Path:
    url = _parsed(target)
    folder = Path(url.path).parent if url.scheme == "file" else Path.cwd()
    if not folder.is_dir():
        raise PlatformError("invalid_request", f"There is no folder {folder} for the output.")
    return folder / f".{url.file_name}.fyre"


def _settings(workspace: Path, urls: Sequence[str], workers: int) -> Settings:
    """The defaults. Whoever runs this reads and writes with their own rights and credentials: no root is closed."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    buckets = tuple(url.host for url in map(_parsed, urls) if url.scheme == "s3")
    return Settings(
        home=workspace,
        redis_url=SecretStr("redis://127.0.0.1:1"),  # nothing connects
        batch=BatchSettings(workers=workers),
        files=FileSettings(min_free_bytes=0),  # no Redis shares this disk
        egress=EgressSettings(
            development_file_roots=(Path("/"),),
            s3=S3SourceSettings(endpoint=endpoint.rstrip("/") or None, roots=buckets, write_roots=buckets),
        ),
    )


@contextmanager
def _locked(workspace: Path) -> Iterator[None]:
    """One process at a time, however it ends."""
    workspace.mkdir(exist_ok=True)
    with (workspace / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlatformError("invalid_request", "Another process is writing this output.") from error
        yield


def _prepare(settings: Settings, wish: Wish, input_url: str) -> _Work:
    """The staged and cut input and the inspected model; those of an earlier call, if nothing changed."""
    with opened_package(wish.model) as packaged:
        artifact = open_artifacts(settings).put(packaged.files).sha256
    folder = settings.jobs_dir / _JOB
    job = BatchJob(
        id=_JOB, org=_ORG, status=JobStatus.PROCESSING, model=wish.model, artifact=artifact,
        spec=packaged.spec.to_json(), input_url=input_url, created=int(time.time()), epoch=_EPOCH,
        output_format=wish.body.output_format, max_error_rate=wish.body.max_error_rate,
    )  # fmt: skip
    run = Run(_ORG, _JOB, _EPOCH, artifact, job.spec, Source("", 0, 0, 0), "plan.json", settings)
    run = replace(run, source=_resumable(folder, artifact, input_url) or _staged(run, input_url))
    return _Work(settings, job, run, Ledger(folder / "committed.jsonl", job))


def _resumable(folder: Path, artifact: str, input_url: str) -> Source | None:
    """The staged input of an earlier call with this model and input, if that is still as it was."""
    try:
        state = orjson.loads((folder / _STATE).read_bytes())
        source = Source.from_json(state["source"])
        source.check(Path(source.path).stat())
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, PlatformError):
        return None
    return source if (state["artifact"], state["input_url"]) == (artifact, input_url) else None


def _staged(run: Run, input_url: str) -> Source:
    """Stage and cut the input of a run that has none yet."""
    folder, settings = run.folder, run.settings
    shutil.rmtree(folder, ignore_errors=True)
    for each in ("parts", "input"):
        (folder / each).mkdir(parents=True)
    uploads = Uploads(_ORG, _NoUploads(), settings.files_dir)
    source = asyncio.run(stage(input_url, folder / "input", settings, uploads))
    make_plan(replace(run, source=source))
    state = {"artifact": run.artifact, "input_url": input_url, "source": source.to_json()}
    (folder / _STATE).write_bytes(orjson.dumps(state))  # last: without it nothing here counts
    return source


class _NoUploads:
    """Nobody uploaded anything."""

    async def get(self, _org: str, _file_id: str, /) -> StoredFile | None:
        """None, whatever is asked for."""
        return None


def _work(work: _Work, timeout_s: int | None, display: Display) -> bool:
    """Commit every shard; False if Ctrl-C came first.

    Raises:
        PlatformError: from a worker; `deadline_exceeded`.
    """
    plan = work.run.plan
    committed = work.ledger.committed()
    done = sum(counts.succeeded + counts.failed for counts in committed.values())
    failed = sum(counts.failed for counts in committed.values())
    if committed:
        display.say(f"{done} rows were done before.")
    display.show(done, plan.total, failed)
    pending = [shard.index for shard in plan.shards if shard.index not in committed]
    until = time.monotonic() + timeout_s if timeout_s else None
    try:
        for rows, bad in _finished(work, pending):
            done, failed = done + rows, failed + bad
            display.show(done, plan.total, failed)
            if until is not None and time.monotonic() > until:
                raise PlatformError(
                    "deadline_exceeded", f"Not done within {timeout_s} s. The same command goes on."
                )
    except KeyboardInterrupt:
        return False
    return True


def _finished(work: _Work, pending: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(rows, failed rows) of each shard, once it is committed."""
    workers = work.settings.batch.workers
    if workers == 1 or len(pending) < _PROCESSES_WORTH_SHARDS:
        _open_worker(work)
        try:
            yield from map(_work_on, pending)
        finally:
            _close_worker()
        return
    # Not forked: ONNX Runtime's and Arrow's threads do not survive it.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_process, initargs=(work,))
    try:
        for future in as_completed([pool.submit(_work_on, shard) for shard in pending]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_worker: list[tuple[ShardWorker, Ledger]] = []
"""This process's own."""


def _begin_process(work: _Work) -> None:
    """Of the pool: Ctrl-C is its parent's business, and when that is killed nobody else would end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _open_worker(work)
    Finalize(None, _close_worker, exitpriority=1)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _open_worker(work: _Work) -> None:
    onnxruntime.set_default_logger_severity(_FATAL)  # it writes a line for each row that fails; so do we
    _worker[:] = [(ShardWorker(work.run, is_niced=False, ledger=work.ledger), work.ledger)]


def _close_worker() -> None:
    """Its thread would keep the process from ending."""
    worker, _ = _worker.pop()
    worker.close()


def _work_on(shard: int) -> tuple[int, int]:
    worker, ledger = _worker[0]
    worker.work(shard)
    counts = ledger.own[shard]
    return counts.succeeded + counts.failed, counts.failed


def _finish(work: _Work, target: str, max_error_rate: float, display: Display) -> int:
    """Write the output and let go of the workspace."""
    committed = work.ledger.committed()
    succeeded = sum(counts.succeeded for counts in committed.values())
    failed = sum(counts.failed for counts in committed.values())
    ending = decide_ending(succeeded, failed, max_error_rate)
    folder = work.settings.jobs_dir / _JOB
    output = assemble_committed(folder, work.job, committed, ending.status)
    if output is not None:
        names = deliver(target, folder, output, work.settings)
        display.say(f"results: {names.results.shown}\nerrors: {names.errors.shown}")
    display.say(f"{ending.status}: {succeeded} rows have results, {failed} failed")
    if ending.error is not None:
        display.say(f"{ending.error.code}: {ending.error.message}")
        return FAILED
    shutil.rmtree(work.settings.home)
    return COMPLETED
