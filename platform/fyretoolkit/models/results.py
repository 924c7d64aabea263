"""Output arrays to JSON-ready results, one a row, as the spec's output settings say.

A classifier answers `label`, `score` (the largest probability) and `probabilities`; any other model answers its
outputs by name. Results hold Python's own types alone, and null for NaN and infinities, which JSON cannot say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import OutputSettings

Result = dict[str, object]


def encode_results(
    outputs: Mapping[str, np.ndarray], settings: OutputSettings, *, lists: Collection[str] = ()
) -> list[Result]:
    """One result per row of the outputs.

    `lists` names the outputs whose rows are lists of open length: a list even where it happens to hold one value.

    Raises:
        PlatformError: `signature_mismatch`, the outputs do not have a row for each input, or not the classes promised.
    """
    _row_count(outputs)
    if settings.raw or (settings.label is None and settings.probabilities is None):
        return _named(outputs, lists)
    if settings.probabilities is None:
        return [{"label": label} for label in _labels(outputs[str(settings.label)], settings)]
    return _classified(outputs, settings)


def jsonable(array: np.ndarray) -> list[object]:
    """The rows of an array as Python values; shape (N, 1) gives scalars, NaN and infinities give None."""
    return _plain(array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array)


def _plain(array: np.ndarray) -> list[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        objects = array.astype(object)
        objects[~np.isfinite(array)] = None
        array = objects
    rows: list[Any] = array.tolist()
    return rows


def _row_count(outputs: Mapping[str, np.ndarray]) -> int:
    counts = {array.shape[0] if array.ndim else -1 for array in outputs.values()}
    if len(counts) != 1 or -1 in counts:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        raise PlatformError(
            "signature_mismatch", f"Every output must have one row for each input; got {shapes}."
        )
    return counts.pop()


def _named(outputs: Mapping[str, np.ndarray], lists: Collection[str]) -> list[Result]:
    columns = [_plain(array) if name in lists else jsonable(array) for name, array in outputs.items()]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]


def _classified(outputs: Mapping[str, np.ndarray], settings: OutputSettings) -> list[Result]:
    scores = outputs[str(settings.probabilities)]
    if scores.ndim != 2 or scores.shape[1] != (
        len(settings.labels) if settings.labels else scores.shape[1] or -1
    ):
        raise PlatformError(
            "signature_mismatch",
            f"{settings.probabilities!r} has shape {list(scores.shape)}, not [N, classes].",
        )
    if settings.softmax:
        scores = softmax(scores)
    if settings.label is None or settings.argmax:
        labels = _best_labels(scores, settings)
    else:
        labels = _labels(outputs[settings.label], settings)
    best = _plain(scores.max(axis=1))
    if settings.top_k is not None:
        tops = _top(scores, settings, settings.top_k)
        return [
            {"label": label, "score": score, "top": top}
            for label, score, top in zip(labels, best, tops, strict=True)
        ]
    rows = _probabilities(scores, settings)
    return [
        {"label": label, "score": score, "probabilities": row}
        for label, score, row in zip(labels, best, rows, strict=True)
    ]


def _probabilities(scores: np.ndarray, settings: OutputSettings) -> list[object]:
    rows = _plain(scores)
    if settings.labels is None:
        return rows
    names = [str(label) for label in settings.labels]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _top(scores: np.ndarray, settings: OutputSettings, count: int) -> list[object]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    values = _plain(np.take_along_axis(scores, order, axis=1))
    names = settings.labels or range(scores.shape[1])
    return [
        [{"label": names[index], "score": score} for index, score in zip(indices, row, strict=True)]
        for indices, row in zip(order.tolist(), values, strict=True)
    ]


def _best_labels(scores: np.ndarray, settings: OutputSettings) -> list[object]:
    names = settings.labels or range(scores.shape[1])
    return [names[index] for index in scores.argmax(axis=1).tolist()]


def _labels(array: np.ndarray, settings: OutputSettings) -> list[object]:
    """The label output's values; a class number is replaced by its name if the spec names classes."""
    values = jsonable(array)
    names = settings.labels
    if names is None or array.dtype.kind not in "iu" or all(isinstance(name, int) for name in names):
        return values
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else value for value in values]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Logits `(batch, classes)` as probabilities in the dtype given, safe for large logits.

    Of halves the steps between are float32: the sum over 70,000 classes is none of theirs.
    """
    wide = scores.astype(np.float32) if scores.dtype == np.float16 else scores
    with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, which the result shows as null
        shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
        result: np.ndarray = (shifted / shifted.sum(axis=1, keepdims=True)).astype(scores.dtype, copy=False)
    return result
