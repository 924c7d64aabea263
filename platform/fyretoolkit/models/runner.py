"""`ModelRunner`: decode, run, encode over one loaded model. One object behind both doors.

A Serve replica and a Ray Data worker hold the same runner, so the same rows get the same answers whichever way they
came. A batch that fails is halved until only the rows that fail alone are left: log2(n) more runs for one bad row.
Rows of one request are company to each other as much as those of others, so all are split alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from fyretoolkit.core.batching import Batching
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.batching import measure, undisturbed_clock
from fyretoolkit.models.codec import Codec, ItemError
from fyretoolkit.models.package import PackageFiles
from fyretoolkit.models.readers import Arrays
from fyretoolkit.models.results import Result
from fyretoolkit.models.session import Placement, Session, open_session
from fyretoolkit.models.spec import ModelSpec


@dataclass(slots=True)  # to freeze it costs three times as much, of each of millions
class Prediction:
    """The result of one item; `index` is its place among the items given."""

    index: int
    result: Result


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch of which the rows in `failed` (row: why) failed alone.

    Row i of all the `outputs`, which are joined as far as their shapes agree, is row `kept[i]`.
    """

    outputs: list[Arrays]
    kept: list[int]
    failed: dict[int, str]


class ModelRunner:
    """One loaded model. Thread-safe."""

    def __init__(self, session: Session, spec: ModelSpec, tokenizer_json: str | None = None) -> None:
        self.spec = spec
        self.codec = Codec(spec, tokenizer_json)
        self.max_batch_size = spec.max_batch_size
        """Rows of one inference. A replica sets what was found where it runs."""
        self._session = session

    @property
    def placement(self) -> Placement:
        """Where it runs."""
        return self._session.placement

    @classmethod
    def load(
        cls,
        files: PackageFiles,
        spec: ModelSpec,
        *,
        num_gpus: float = 0.0,
        device_id: int = 0,
        threads: int = 1,
    ) -> ModelRunner:
        """Loads the package's graph; `num_gpus` > 0: this process holds the GPU `device_id`, which it must run on.

        Raises:
            PlatformError: `invalid_onnx`, `unsupported_operator`, `gpu_unavailable`, `invalid_package`, or
                `signature_mismatch`: the file is not the one that the spec was made from.
        """
        session = open_session(files.onnx, num_gpus=num_gpus, device_id=device_id, threads=threads)
        if session.signature != spec.signature:
            raise PlatformError(
                "signature_mismatch", "The graph is not the one that was inspected. Deploy it again."
            )
        return cls(session, spec, read_tokenizer(files.tokenizer))

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs over all rows (at least one), at most `max_batch_size` of them in one inference.

        Raises:
            PlatformError: `row_failed`, some row of the batch fails.
        """
        batches = []
        for _, batch in self._batches(arrays):
            batches.append(self._session.run(batch))
            _check_rows(batches[-1], _rows(batch))
        return batches[0] if len(batches) == 1 else _joined(batches)

    def run_isolating(self, arrays: Mapping[str, np.ndarray]) -> Ran:
        """The outputs over the rows that the model can run, and why it cannot run the others. Raises nothing."""
        outputs: list[Arrays] = []
        kept: list[int] = []
        failed: dict[int, str] = {}
        for start, result in self._run_parts(arrays):
            if isinstance(result, str):
                failed[start] = result
            else:
                outputs.append(result)
                kept += range(start, start + _rows(result))
        return Ran([_joined(list(group)) for _, group in groupby(outputs, _row_shapes)], kept, failed)

    def measure(self) -> Batching:
        """How many rows run together best, found by running some; for about two seconds.

        Raises:
            PlatformError: `row_failed` or `invalid_manifest`, the model does not run its own example.
        """
        with undisturbed_clock() as clock:
            return measure(self._session.run, self.codec, clock=clock)

    def predict(
        self, items: Sequence[object], cells_are_text: bool = False, has_booleans: bool = True
    ) -> list[Prediction | ItemError]:
        """One outcome per item, in the order of the items; for the flags see `Codec.decode`."""
        calls, errors = self.codec.decode_all(items, cells_are_text, has_booleans)
        if not errors and len(calls) == 1:
            ((kept, arrays),) = calls
            return list(self._predict_rows(arrays, kept))
        outcomes: dict[int, Prediction | ItemError] = {error.index: error for error in errors}
        for kept, arrays in calls:
            for outcome in self._predict_rows(arrays, kept):
                outcomes[outcome.index] = outcome
        return [outcomes[index] for index in range(len(items))]

    def example_items(self) -> list[object]:
        """One item that fits, for a first inference."""
        return [self.spec.example]

    def _predict_rows(self, arrays: Arrays, kept: list[int]) -> Iterator[Prediction | ItemError]:
        for start, part in self._run_parts(arrays):
            if isinstance(part, str):
                yield ItemError(kept[start], "", part, code="row_failed")
                continue
            results = self.codec.encode(part)
            yield from map(Prediction, kept[start : start + len(results)], results)

    def _run_parts(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, Arrays | str]]:
        """(first row, outputs) of each stretch of rows that ran together, (row, reason) of each that fails alone."""
        waiting = list(self._batches(arrays))[::-1]
        while waiting:
            start, batch = waiting.pop()
            count = _rows(batch)
            try:
                outputs = self._session.run(batch)
                _check_rows(outputs, count)
            except PlatformError as error:
                if count == 1:
                    yield start, error.message
                    continue
                middle = count // 2
                waiting.append((start + middle, {name: array[middle:] for name, array in batch.items()}))
                waiting.append((start, {name: array[:middle] for name, array in batch.items()}))
                continue
            yield start, outputs

    def _batches(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, Arrays]]:
        size = self.max_batch_size
        for start in range(0, _rows(arrays), size):
            batch = {name: array[start : start + size] for name, array in arrays.items()}
            # A row that runs alone runs without the padding that it got beside longer ones.
            yield start, self.codec.trim(batch) if size == 1 else batch


def read_tokenizer(path: Path | None) -> str | None:
    """The text of a package's tokenizer.json, None if it has none.

    Raises:
        PlatformError: `invalid_package`.
    """
    try:
        return None if path is None else path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise PlatformError("invalid_package", "tokenizer.json is not UTF-8.") from error


def _check_rows(outputs: Mapping[str, np.ndarray], rows: int) -> None:
    """Refuses outputs that do not have a row for each row that went in: nobody could say whose they are.

    Raises:
        PlatformError: `row_failed`.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise PlatformError(
                "row_failed",
                f"The model gave {name!r} the shape {list(array.shape)} for {rows} rows; "
                "its first axis must be theirs.",
            )


def _rows(arrays: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(arrays.values())))


def _row_shapes(arrays: Mapping[str, np.ndarray]) -> list[tuple[int, ...]]:
    return [array.shape[1:] for array in arrays.values()]


def _joined(batches: Sequence[Arrays]) -> Arrays:
    try:
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    except ValueError as error:
        raise PlatformError(
            "row_failed",
            "The model's outputs have another shape in each batch; send fewer inputs in one call.",
        ) from error
