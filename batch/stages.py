"""A GPU model's shards in three stages, so that the GPU never waits for text: parse, predict, write.

Ray Data moves a row for each shard between three pools, and its columns hold bytes: what is known of a shard's rows
goes past the GPU unopened, only arrays are unpacked there. CPU models keep the three in one actor (`worker.py`): there
it is the moving that costs. Rows are joined for the model as that worker joins them, so both give the same bytes.

A shard of which a predicting process died comes out unpredicted, as left over, and is worked on again where rows may
kill (`isolation.py`), by a worker that does all of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from batch.attempts import Attempts
from batch.parts import PartLines
from batch.records import Record
from batch.runs import Run, RunOverError, is_final, to_failure
from batch.worker import ShardWorker, add_outcomes, loadable
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import Codec, ItemError
from fyretoolkit.models.readers import Arrays
from fyretoolkit.models.runner import ModelRunner, Prediction, Ran, read_tokenizer
from fyretoolkit.objects.artifacts import open_artifacts

Item = dict[str, np.ndarray]


class Carried(NamedTuple):
    """A shard between two stages: Ray Data's columns."""

    shard: int
    failure: str = ""
    """What ended the run, as `to_failure` writes it."""
    is_left: bool = False
    rows: bytes = b""
    """Pickle of `Parsed`; empty: there is nothing left to do."""
    arrays: bytes = b""
    """Pickle of a list, by call of the model: `Arrays` before it, `Ran` after."""


@dataclass(slots=True)
class Group:
    """Rows that the model is asked of together, as far as their shapes agree."""

    records: list[Record]
    errors: list[ItemError]
    calls: list[list[int]]
    """Which of them each call is about."""


@dataclass(slots=True)
class Parsed:
    """A shard's rows but for their arrays; `lines` holds what is wrong with those that no model can be asked about."""

    lines: PartLines = field(default_factory=PartLines)
    groups: list[Group] = field(default_factory=list)


def carry(item: Item, work: Callable[[Carried], Carried]) -> Item:
    """Do a stage's work to one shard, unless nothing is left to do."""
    given = Carried(*(item[name].tolist()[0] for name in Carried._fields if name in item))
    if not given.failure and not given.is_left:
        try:
            given = work(given)
        except RunOverError as over:
            given = Carried(given.shard, to_failure(over))
        except PlatformError as error:
            if not is_final(error):
                raise
            given = Carried(given.shard, to_failure(error))
    return {
        name: np.array([value], dtype=object if isinstance(value, (str, bytes)) else None)
        for name, value in given._asdict().items()
    }


class ParseStage:
    """From bytes to arrays, on a CPU, when it is this worker's turn."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._worker = ShardWorker(run)

    @cached_property
    def _codec(self) -> Codec:
        return load_codec(self._run)

    def __call__(self, item: Item) -> Item:
        """Ray Data's call."""
        return carry(item, self._parse)

    def _parse(self, given: Carried) -> Carried:
        if self._worker.is_committed(given.shard):
            return given
        parsed, arrays = Parsed(), list[Arrays]()
        with self._worker.at_work():
            for records, flags in self._worker.groups(self._run.plan.shards[given.shard], parsed.lines):
                calls, errors = self._codec.decode_all([record.value for record in records], **flags)
                known = [Record(record.index, record.line, record.id, None) for record in records]
                parsed.groups.append(Group(known, errors, [kept for kept, _ in calls]))
                arrays += [call for _, call in calls]
        return given._replace(rows=pickle.dumps(parsed), arrays=pickle.dumps(arrays))


class PredictStage:
    """From arrays to arrays, on a GPU that this process holds."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._attempts = Attempts(run.folder)

    @cached_property
    def _model(self) -> ModelRunner:
        return loadable(self._run).load()

    def __call__(self, item: Item) -> Item:
        """Ray Data's call."""
        return carry(item, self._predict)

    def _predict(self, given: Carried) -> Carried:
        if not given.rows:
            return given
        with self._attempts.at(given.shard) as deaths:
            if deaths or self._attempts.is_poisoned:
                return Carried(given.shard, is_left=True)
            calls = cast("list[Arrays]", pickle.loads(given.arrays))  # noqa: S301 - from the stage before
            return given._replace(arrays=pickle.dumps([self._model.run_isolating(call) for call in calls]))


class WriteStage:
    """From arrays to a committed part, on a CPU."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._worker = ShardWorker(run)

    @cached_property
    def _codec(self) -> Codec:
        return load_codec(self._run)

    def __call__(self, item: Item) -> Item:
        """Ray Data's call."""
        return carry(item, self._write)

    def _write(self, given: Carried) -> Carried:
        if given.rows:
            parsed = cast("Parsed", pickle.loads(given.rows))  # noqa: S301 - from the stages before
            ran = iter(cast("list[Ran]", pickle.loads(given.arrays)))  # noqa: S301 - as above
            for group in parsed.groups:
                outcomes: dict[int, Prediction | ItemError] = {error.index: error for error in group.errors}
                for rows in group.calls:
                    outcomes |= outcomes_of(next(ran), rows, self._codec)
                ordered = [outcomes[row] for row in range(len(group.records))]
                add_outcomes(group.records, ordered, parsed.lines)
            self._worker.commit(given.shard, parsed.lines)
        return Carried(given.shard)


def outcomes_of(ran: Ran, rows: list[int], codec: Codec) -> dict[int, Prediction | ItemError]:
    """What came of one call of the model, by row; `rows` are those that it was about, in its order."""
    found: dict[int, Prediction | ItemError] = {
        rows[at]: ItemError(rows[at], "", reason, code="row_failed") for at, reason in ran.failed.items()
    }
    results = (result for outputs in ran.outputs for result in codec.encode(outputs))
    for at, result in zip(ran.kept, results, strict=True):
        found[rows[at]] = Prediction(rows[at], result)
    return found


def load_codec(run: Run) -> Codec:
    """Both ends of the job's model, without the model."""
    files = open_artifacts(run.settings).open(run.artifact)
    return Codec(run.model, read_tokenizer(files.tokenizer))
