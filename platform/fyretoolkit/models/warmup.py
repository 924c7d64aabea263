"""The first inference: what only running a model can tell.

A graph may declare an open batch axis and still reshape to one row inside, or answer a ZipMap whose classes no
signature shows; it may answer a row otherwise in company. So the spec's example runs alone and beside other rows, and
what is learnt settles the spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import Codec
from fyretoolkit.models.company import compare, varied_rows
from fyretoolkit.models.results import Result
from fyretoolkit.models.session import Session
from fyretoolkit.models.spec import ModelSpec

_SIZES = (2, 8)
_COMPARISON_S = 1.0
"""A slow model's comparison ends after two more runs of it, one of them of two rows."""


def settle(session: Session, spec: ModelSpec, tokenizer_json: str | None) -> ModelSpec:
    """The spec, with ZipMap classes filled in, and with `max_batch_size` 1 if rows must run alone.

    They must if the model cannot take two at once and, unless the manifest sets the size, if it answers a row
    otherwise in company.

    Raises:
        PlatformError: `invalid_manifest`, the example does not fit; `warmup_failed`, the model cannot run it;
            `signature_mismatch`, its outputs are not what the spec says.
    """
    codec = Codec(spec, tokenizer_json)
    outputs = _run(session, _arrays(codec, [spec.example]))
    spec = _with_class_names(spec, session.class_names)
    _encode(Codec(spec, tokenizer_json), outputs, rows=1)
    if spec.max_batch_size == 1:
        return spec
    compared = compare(session.run, varied_rows(codec), _SIZES, spec.outputs, budget_s=_COMPARISON_S)
    if compared.largest == 1:
        return spec.model_copy(update={"max_batch_size": 1, "is_batch_size_chosen": False})
    if not compared.is_alike and not spec.is_batch_size_chosen:
        return spec.model_copy(update={"max_batch_size": 1})
    return spec


def _arrays(codec: Codec, items: Sequence[object]) -> Mapping[str, np.ndarray]:
    decoded = codec.decode(items)
    if decoded.errors:
        error = decoded.errors[0]
        raise PlatformError("invalid_manifest", f"model.yaml, example{error.path}: {error.message}.")
    return decoded.arrays


def _run(session: Session, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        return session.run(arrays)
    except PlatformError as error:
        raise PlatformError(
            "warmup_failed", f"On the example: {error.message} Run it locally on one input."
        ) from error


def _encode(codec: Codec, outputs: Mapping[str, np.ndarray], *, rows: int) -> list[Result]:
    results = codec.encode(outputs)
    if len(results) != rows:
        raise PlatformError(
            "signature_mismatch",
            f"The model answered {len(results)} rows for {rows}; the first axis must be the batch.",
        )
    return results


def _with_class_names(spec: ModelSpec, class_names: Mapping[str, list[str | int]]) -> ModelSpec:
    names = class_names.get(spec.outputs.probabilities or "")
    if names is None or spec.outputs.labels is not None:
        return spec
    return spec.model_copy(update={"outputs": spec.outputs.model_copy(update={"labels": tuple(names)})})
