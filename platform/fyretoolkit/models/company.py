"""Whether a model answers a row alike alone and in company.

A dynamically quantized model takes its scale from the whole batch, a badly exported one normalizes over it, one that
ignores its attention mask sees its neighbours' padding. No graph says so, so rows are run alone and together, and what
callers would read is compared. The rows are made from the one example there is: floats of quite different ranges,
integers and booleans out of the example's own values, which stay valid, texts of differing length out of its words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import Codec
from fyretoolkit.models.manifest import OutputSettings
from fyretoolkit.models.readers import Arrays
from fyretoolkit.models.results import softmax

Run = Callable[[Mapping[str, np.ndarray]], Arrays]
Clock = Callable[[], float]

TOLERANCE = 1e-6
"""Of float32 and float64: absolute, and relative to the value."""
HALF_TOLERANCE = 2e-3
"""Of float16, which has 11 binary digits: two units in the last place."""
_ROWS = 8
_SCALES = (1.0, 0.125, 8.0, -1.0, 0.5, 2.0, 1.0, 0.03)
_SEED = 20260


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that fit a model; the first is its example."""

    alone: Sequence[Arrays]
    join: Callable[[Sequence[Arrays]], Arrays]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What answering rows alone and together showed."""

    largest: int
    """The most rows that ran together: 1 if no two did."""
    max_difference: float | None = None
    """The largest difference found; None if no two rows ran together."""
    is_alike: bool = True
    """Whether every difference was within the tolerance."""


def varied_rows(codec: Codec) -> Rows:
    """Rows made from the example of the codec's model.

    Raises:
        PlatformError: `invalid_manifest`, the example does not fit.
    """
    example = codec.spec.example
    draw = np.random.default_rng(_SEED)
    if codec.spec.tokenizer is not None:
        texts = varied_texts(str(example["text"] if isinstance(example, Mapping) else example), draw)
        return Rows([_decoded(codec, example), *(_decoded(codec, text) for text in texts[1:])], codec.join)
    first = _decoded(codec, example)
    others = [{name: varied(array, scale, draw) for name, array in first.items()} for scale in _SCALES[1:]]
    return Rows([first, *others], codec.join)


def _decoded(codec: Codec, item: object) -> Arrays:
    decoded = codec.decode([item])
    if decoded.errors:
        error = decoded.errors[0]
        raise PlatformError("invalid_manifest", f"model.yaml, example{error.path}: {error.message}.")
    return decoded.arrays


def varied(array: np.ndarray, scale: float, draw: np.random.Generator) -> np.ndarray:
    """Another row of the shape and type of `array`, itself one row."""
    if array.dtype.kind == "f":
        noise = draw.standard_normal(array.shape) * max(
            1.0, float(np.nan_to_num(np.abs(array)).max(initial=0.0))
        )
        result: np.ndarray = (scale * (array.astype(np.float64) + noise)).astype(array.dtype)
        return result
    values = array.reshape(-1)
    if not values.size:
        return array
    if array.dtype.kind == "O":
        texts = [draw.choice(np.array(varied_texts(str(value), draw), object)) for value in values]
        return np.array(texts, object).reshape(array.shape)
    if np.all(
        values == values[0]
    ):  # nothing to permute; a smaller number than a valid one mostly is valid too
        nearby = np.unique(np.array([0, 1, *range(int(min(values[0], _ROWS)))], array.dtype))
        return draw.choice(nearby, array.shape)
    return draw.permutation(values).reshape(array.shape)


def varied_texts(text: str, draw: np.random.Generator) -> list[str]:
    """The text, and others of different lengths and orders made of its words."""
    words = text.split() or [text]
    lengths = (1, 2 * len(words), max(1, len(words) // 2), 3 * len(words), len(words) + 1, len(words), 2)
    return [text, *(" ".join(draw.choice(np.array(words, object), length)) for length in lengths)]


def compare(
    run: Run,
    rows: Rows,
    sizes: Sequence[int],
    settings: OutputSettings,
    *,
    budget_s: float,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Runs the rows alone and in companies of each of `sizes`, ascending from 2, and compares the answers.

    Within about `budget_s`; the example alone and a company of two are run in any case. A row that fails alone, which
    a made-up one may, is left out.

    Raises:
        PlatformError: `row_failed`, the example does not run.
    """
    deadline = clock() + budget_s
    answers = {0: _shown(run(rows.alone[0]), settings)}
    candidates = [0]
    for index in range(1, len(rows.alone)):
        if clock() > deadline - budget_s / 2:
            candidates.append(index)  # unverified: where it fails, the example keeps itself company
            break
        try:
            answers[index] = _shown(run(rows.alone[index]), settings)
        except PlatformError:
            continue
        candidates.append(index)
    found = Comparison(1)
    for size in sizes:
        if size > 2 and clock() > deadline:
            break
        together = _together(run, rows, candidates, size, settings)
        if together is None:
            break
        differences = [
            _difference(answers[member], _row(together.outputs, place))
            for place, member in enumerate(together.members)
            if member in answers
        ]
        found = Comparison(
            size,
            max(found.max_difference or 0.0, *(each for each, _ in differences)),
            found.is_alike and all(is_alike for _, is_alike in differences),
        )
    return found


@dataclass(frozen=True, slots=True)
class _Together:
    members: list[int]
    outputs: Arrays


def _together(
    run: Run, rows: Rows, candidates: Sequence[int], size: int, settings: OutputSettings
) -> _Together | None:
    """One run of `size` rows; None if the model cannot."""
    # Each size begins at another row, so that neighbours differ from one company to the next.
    companies = [[candidates[(size // 2 - 1 + place) % len(candidates)] for place in range(size)], [0] * size]
    for members in companies:
        try:
            outputs = _shown(run(rows.join([rows.alone[member] for member in members])), settings)
        except PlatformError:
            continue
        if all(array.ndim and len(array) == size for array in outputs.values()):
            return _Together(members, outputs)
    return None


def _shown(outputs: Arrays, settings: OutputSettings) -> Arrays:
    """What of the outputs callers read, in the form in which they read it."""
    if settings.raw or (settings.label is None and settings.probabilities is None):
        return outputs
    shown = {}
    if settings.label is not None and not settings.argmax:
        shown[settings.label] = outputs[settings.label]
    if settings.probabilities is not None:
        scores = outputs[settings.probabilities]
        shown[settings.probabilities] = softmax(scores) if settings.softmax and scores.ndim == 2 else scores
    return shown


def _row(outputs: Arrays, place: int) -> Arrays:
    return {name: array[place : place + 1] for name, array in outputs.items()}


def _difference(alone: Arrays, together: Arrays) -> tuple[float, bool]:
    """(the largest difference between two answers of one row, whether all are within the tolerance)."""
    worst, is_alike = 0.0, True
    for name, array in alone.items():
        difference, is_near = _distance(array, together[name])
        worst, is_alike = max(worst, difference), is_alike and is_near
    return worst, is_alike


def _distance(alone: np.ndarray, together: np.ndarray) -> tuple[float, bool]:
    """Of one output. What has no distance (a label, a text, another shape, NaN against a number) counts as 1."""
    if alone.shape != together.shape or alone.dtype != together.dtype:
        return 1.0, False
    if alone.dtype.kind != "f":
        is_equal = bool(np.array_equal(alone, together))
        return (0.0, True) if is_equal else (1.0, False)
    tolerance = HALF_TOLERANCE if alone.dtype == np.float16 else TOLERANCE
    left, right = alone.astype(np.float64), together.astype(np.float64)
    is_number = np.isfinite(left) & np.isfinite(right)
    if not np.array_equal(left[~is_number], right[~is_number], equal_nan=True):
        return 1.0, False
    left, right = left[is_number], right[is_number]
    with np.errstate(over="ignore"):
        gaps = np.minimum(np.abs(left - right), np.finfo(np.float64).max)
    is_near = bool((gaps <= tolerance + tolerance * np.abs(left)).all())
    return float(gaps.max(initial=0.0)), is_near
