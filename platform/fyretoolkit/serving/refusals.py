"""Inputs that do not fit, and rows that the model cannot run: how a caller is told which, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import ItemError
from fyretoolkit.schemas.predictions import PredictionRequest
from fyretoolkit.serving.routing import Route

_SHOWN_ERRORS = 100


def is_callers_own(error: Exception, incumbent: Route, request: PredictionRequest) -> bool:
    """Whether the incumbent refuses the inputs as well."""
    is_refusal = isinstance(error, PlatformError) and error.code == "invalid_input"
    return is_refusal and bool(misfits(incumbent.codec.decode(request.inputs).errors))


def misfits(errors: Sequence[ItemError]) -> list[ItemError]:
    """Those of items that are wrong by themselves."""
    return [error for error in errors if not error.is_shape_conflict]


def is_refused(errors: Sequence[ItemError], request: PredictionRequest) -> bool:
    """Whether the whole request fails with these."""
    return request.options.on_error == "fail" and bool(misfits(errors))


def invalid_inputs(errors: Sequence[ItemError], indices: Sequence[int]) -> PlatformError:
    """The 422 that names each input that does not fit; `indices` are their places in the request."""
    shown = [
        {
            "index": indices[error.index],
            "path": f"inputs[{indices[error.index]}]{error.path}",
            "message": error.message,
        }
        for error in errors[:_SHOWN_ERRORS]
    ]
    others = len(errors) - 1
    more = f" (and {others} more input{'s' if others > 1 else ''}, see details.errors)" if others else ""
    return PlatformError(
        "invalid_input", f"{shown[0]['path']} {shown[0]['message']}{more}", details={"errors": shown}
    )


def row_failed(failed: Mapping[int, str], indices: Sequence[int]) -> PlatformError:
    shown = [
        {"index": indices[row], "path": f"inputs[{indices[row]}]", "message": failed[row]}
        for row in sorted(failed)[:_SHOWN_ERRORS]
    ]
    first = shown[0]
    return PlatformError(
        "row_failed", f"The model failed on {first['path']}: {first['message']}", details={"errors": shown}
    )


def item_error(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message}}
