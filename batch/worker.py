"""`ShardWorker`: one shard after another, from bytes to a committed part.

Read, parse, predict and write are fused in one object, so nothing but a shard's number travels between processes
(150,000 rows/s on 2 cores against 11,000 for Ray Data over rows, measured with a tiny model). It is the class of Ray
Data's actor pool, and the runner calls it directly for small inputs.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import islice
from typing import Protocol, TypeVar, cast

import numpy as np
from anyio.from_thread import start_blocking_portal

from batch.attempts import Attempts
from batch.background import step_back
from batch.failed_rows import read_numbers, renumbered
from batch.failpoints import reach
from batch.gpus import held_device
from batch.isolation import IsolatedModel
from batch.joblog import JobLog
from batch.loading import LoadableModel
from batch.model_process import ModelProcess
from batch.parts import Answer, PartLines, write_part
from batch.records import BadRecord, Columns, Record, RecordReader
from batch.runs import Run, RunOverError, is_final, row_shape, to_failure
from batch.shards import Plan, Shard
from batch.turns import Turns
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob, CommitOutcome, ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.egress.room import require_room, room_translated
from fyretoolkit.models.codec import ItemError
from fyretoolkit.models.runner import Prediction
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.store.batch_share import read_share
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore

_CHECK_EVERY_S = 2.0
_PATIENCE_S = 15.0
_ASK_AGAIN_S = 0.5
_GC_THRESHOLD = 50_000
"""Containers, between two looks at the young ones; 700 is Python's own."""
_OF_THE_MODEL = frozenset({"row_failed", "row_crashed"})
"""Codes of rows that fit the model, and were too much for it."""

T = TypeVar("T")
Ask = Callable[[Sequence[object]], Sequence[Prediction | ItemError]]
Flags = Mapping[str, bool]


class Commits(Protocol):
    """What a worker asks of a job's store (`JobStore`), or of what stands for one (`batch.ledger`)."""

    async def get(self, org: str, job_id: str, /) -> BatchJob | None: ...

    async def is_committed(self, org: str, job_id: str, shard: int, /) -> bool: ...

    async def commit_shard(
        self, org: str, job_id: str, epoch: int, shard: int, counts: ShardCounts, /
    ) -> CommitOutcome: ...


class Predictor(Protocol):
    """What a worker asks of a loaded model."""

    def predict(
        self, items: Sequence[object], cells_are_text: bool = False, has_booleans: bool = True
    ) -> Sequence[Prediction | ItemError]:
        """One outcome per item, in order; a model over texts is not told of booleans."""


def load_model(run: Run) -> Predictor:
    """The job's model, in this process: loaded once, and kept with the run."""
    if run.here.model is None:
        run.here.model = loadable(run).load()
    return cast(Predictor, run.here.model)


def isolate_model(run: Run) -> IsolatedModel:
    """The job's model, in a process that its rows may kill."""
    return IsolatedModel(lambda: ModelProcess(loadable(run), Attempts(run.folder).note_life))


def loadable(run: Run) -> LoadableModel:
    """What a process needs to load the job's model on the GPU that this one holds, if it holds one."""
    return LoadableModel(run.settings, run.artifact, run.spec, held_device(run.model.resources.num_gpus))


def collect_rarely() -> None:
    """Let Python look for cycles less often: rows are lists by the thousand, none of which is in one."""
    if gc.get_threshold()[0] == _GC_THRESHOLD:
        return
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])


class ShardWorker:
    """Works on shards of one run. Loads the model at the first shard, so that its errors keep their codes.

    Two threads may call `work`: while one of them predicts, the other writes its part, waits for the disk and commits.
    """

    def __init__(
        self,
        run: Run,
        *,
        load: Callable[[Run], Predictor] = load_model,
        isolate: Callable[[Run], IsolatedModel] = isolate_model,
        is_niced: bool = True,
        is_wary: bool = False,
        ledger: Commits | None = None,
    ) -> None:
        """`is_wary`: workers died of the shards that it will be given. `ledger`: where commits go, instead of the
        platform's store.
        """
        if is_niced:
            step_back(run.settings.batch.worker_niceness)
        self._run = run
        self._load = load
        self._isolated = isolate(run)
        self._is_wary = is_wary
        self._attempts = Attempts(run.folder)
        self._isolated.on_answer = self._attempts.note_life
        self.turns = Turns(
            self._attempts.folder, run.settings.batch.workers, _nobody_says if ledger else self._read_share
        )
        self._log = JobLog(run.folder, run.epoch)
        self._portal_context = start_blocking_portal()
        self._portal = self._portal_context.__enter__()
        self._store = Store(run.settings.redis_url.get_secret_value())
        self._jobs: Commits = ledger or JobStore(self._store, run.settings.batch.job_ttl_s)
        self._checked_at = time.monotonic()
        self._turn = threading.Lock()
        self._failure = ""

    @cached_property
    def _model(self) -> Predictor:
        model = self._load(self._run)
        collect_rarely()
        return model

    @cached_property
    def _reader(self) -> RecordReader:
        return reader_of(self._run, self._run.plan)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Ray Data's call: shard numbers in; the same out, each with the failure that ended the run, or ""."""
        failures = [self._attempt(index) for index in batch["shard"].tolist()]
        return {"shard": batch["shard"], "failure": np.array(failures, dtype=object)}

    def _attempt(self, index: int) -> str:
        """Work on a shard unless an earlier one ended the run."""
        if not self._failure:
            try:
                self.work(index)
            except RunOverError as over:
                self._failure = to_failure(over)
            except PlatformError as error:
                if not is_final(error):
                    raise
                self._failure = to_failure(error)
        return self._failure

    def work(self, index: int) -> None:
        """Bring one shard to its commit; a shard that is committed already is left alone.

        Raises:
            RunOverError: the run must stop.
            PlatformError: the job cannot be done (`input_changed`, the model does not load), or `unavailable`.
        """
        if self.is_committed(index):
            return
        with self._turn, self.at_work(), self._attempts.at(index) as deaths:
            self._log.append("shard_started", shard=index, deaths=deaths)
            reach("shard.started", str(index))
            lines = self._predicted(self._run.plan.shards[index], self._chosen(deaths))
        self.commit(index, lines)

    def prepare(self) -> None:
        """Load the model before the first shard, if that one would; what goes wrong is left for it to say."""
        with contextlib.suppress(Exception):
            self._chosen(0)

    def at_work(self) -> AbstractContextManager[None]:
        """Around the work on a shard, but for its commit: waits until it is this worker's turn."""
        return self.turns.held(self._check_run)

    def is_committed(self, index: int) -> bool:
        """Whether the shard is in the output already."""
        return self._await(self._jobs.is_committed, self._run.org, self._run.job_id, index)

    def _chosen(self, deaths: int) -> Predictor:
        """The model in this process, or in one that may die: for a shard of which a worker died, and once rows kill."""
        if not (deaths or self._is_wary or self._attempts.is_poisoned):
            return self._model
        self.__dict__.pop("_model", None)  # its memory, and its share of a GPU
        self._run.here.model = None
        return self._isolated

    def commit(self, index: int, lines: PartLines) -> None:
        """Publish a shard's part. Raises as `work`; `storage_full` among what ends the job."""
        run = self._run
        if self._isolated.has_condemned:
            self._attempts.note_poison()
        reach("part.before", str(index))
        try:
            require_room(run.parts_folder, lines.size_bytes, run.settings.files.min_free_bytes)
            with room_translated():
                part = write_part(run.parts_folder, index, run.epoch, lines)
        except FileNotFoundError:  # the folder of a job that ended may be freed already
            self._require_run()
            raise
        counts = ShardCounts(lines.succeeded, lines.failed, part.to_json())
        reach("commit.before", str(index))
        outcome = self._await(self._jobs.commit_shard, run.org, run.job_id, run.epoch, index, counts)
        reach("commit.after", str(index))
        if outcome is CommitOutcome.FENCED:
            raise RunOverError
        self._log.append(f"shard_{outcome}", shard=index, succeeded=counts.succeeded, failed=counts.failed)

    def close(self) -> None:
        """Give back the connection and the event loop behind it, the model, and end its process.

        A runner has many workers, one after another, and what was frozen with one is never collected.
        """
        self._isolated.close()
        self.__dict__.pop("_model", None)
        self._run.here.model = None
        self._portal.call(self._store.close)
        self._portal_context.__exit__(None, None, None)

    def _predicted(self, shard: Shard, model: Predictor) -> PartLines:
        """The lines of a shard's part."""
        lines = PartLines()
        source = self._run.source
        if source.numbers:
            for records, flags in self.groups(shard, lines):
                add_outcomes(records, model.predict([record.value for record in records], **flags), lines)
            return lines
        chunk = source.read(shard)
        flags = flags_of(self._reader, self._run.model, chunk)
        for group in self._reader.read_groups(shard, chunk, group_size(self._run)):
            predict_group(model, group, flags, lines)
            self._check_run()
            self.turns.take(self._check_run)
        return lines

    def groups(self, shard: Shard, lines: PartLines) -> Iterator[tuple[list[Record], Flags]]:
        """The rows of each call of the model, how it is to be asked of them (`Codec.decode`); bad ones go to `lines`.

        Raises:
            RunOverError: the run must stop.
        """
        source = self._run.source
        chunk = source.read(shard)
        flags = flags_of(self._reader, self._run.model, chunk)
        records = iter(renumbered(self._reader.read(shard, chunk), read_numbers(source, shard)))
        while group := list(islice(records, group_size(self._run))):
            good = split_off_bad(group, lines)
            if good:
                yield good, flags
            self._check_run()
            self.turns.take(self._check_run)

    def _check_run(self) -> None:
        """Ask every few seconds whether the run still holds its job, so that a slow shard does not outlive it."""
        if time.monotonic() - self._checked_at < _CHECK_EVERY_S:
            return
        self._require_run()

    def _require_run(self) -> None:
        job = self._await(self._jobs.get, self._run.org, self._run.job_id)
        self._checked_at = time.monotonic()
        if job is None or job.epoch != self._run.epoch or job.status is not JobStatus.PROCESSING:
            raise RunOverError

    def _read_share(self) -> int | None:
        try:
            return self._portal.call(read_share, self._store)
        except PlatformError:  # what was said last holds
            return None

    def _await(self, call: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Ask the store; while it is away, ask again for a while. Every call made here may be made twice."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._portal.call(call, *arguments)
            except PlatformError as error:
                if error.code != "unavailable" or time.monotonic() > until:
                    raise
            time.sleep(_ASK_AGAIN_S)


def _nobody_says() -> None:
    """The share of a job that no platform knows."""


def reader_of(run: Run, plan: Plan) -> RecordReader:
    """Reads the shards of `plan` for the run's model."""
    batch = run.settings.batch
    return RecordReader(
        plan, row_shape(run.model), max_record_bytes=batch.max_line_bytes, max_columns=batch.max_columns
    )


def group_size(run: Run) -> int:
    """Rows of one call. Texts that go through a tokenizer are padded to the longest of their call."""
    wanted = run.settings.batch.rows_per_call
    return min(wanted, run.model.max_batch_size) if run.model.tokenizer else wanted


def flags_of(reader: RecordReader, spec: ModelSpec, chunk: bytes) -> Flags:
    """How a model is to be asked for values that come from `chunk`; see `Codec.decode`."""
    if reader.cells_are_text:
        return {"cells_are_text": True}
    return {} if spec.kind == "text" or has_booleans(chunk) else {"has_booleans": False}


def has_booleans(chunk: bytes) -> bool:
    """Whether JSON may hold a boolean. One byte is looked for at ten times the speed of a word."""
    return (b"u" in chunk and b"true" in chunk) or (b"f" in chunk and b"false" in chunk)


def predict_group(
    model: Predictor, group: Columns | list[Record | BadRecord], flags: Flags, lines: PartLines
) -> None:
    """Have a group of rows answered; each becomes a line."""
    if not isinstance(group, Columns):
        good = split_off_bad(group, lines)
        if good:
            add_outcomes(good, model.predict([record.value for record in good], **flags), lines)
        return
    outcomes = model.predict(group.values, **flags)
    if set(map(type, outcomes)) == {Prediction}:
        results = [outcome.result for outcome in cast(Sequence[Prediction], outcomes)]
        lines.add_columns(range(group.first, group.first + len(results)), group.ids, results)
    else:
        add_outcomes(group.records(), outcomes, lines)


def split_off_bad(group: Sequence[Record | BadRecord], lines: PartLines) -> list[Record]:
    """The rows that the model can be asked about; the others become error lines."""
    good = [record for record in group if type(record) is Record]
    if len(good) < len(group):
        _add_bad(group, lines)
    return good


def add_outcomes(
    group: Sequence[Record], outcomes: Sequence[Prediction | ItemError], lines: PartLines
) -> None:
    """The model's answers to a group of rows, as lines."""
    answers = []
    for record, outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, ItemError):
            code = outcome.code if outcome.code in _OF_THE_MODEL else "invalid_row"
            lines.add_error(record.index, record.line, record.id, code, error_text(outcome))
        else:
            answers.append(Answer(record.index, record.id, outcome.result))
    lines.add_results(answers)


def _add_bad(records: Iterable[Record | BadRecord], lines: PartLines) -> None:
    """Those that the model cannot be asked about become error lines."""
    for record in records:
        if isinstance(record, BadRecord):
            lines.add_error(record.index, record.line, record.id, record.code, record.message)


def error_text(error: ItemError) -> str:
    """The message of an error line: where in the row, and what was expected there."""
    if error.code in _OF_THE_MODEL:
        return error.message
    where = f"The field {error.path.removeprefix('.')}" if error.path else "The value"
    return f"{where}: {error.message}."
