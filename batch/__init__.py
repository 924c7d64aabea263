"""Rows through models: the platform's batch jobs, and `batch.predict` for Ray Data scripts of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch.datasets import predict

__all__ = ["predict"]


def __getattr__(name: str) -> Any:
    """`predict` brings Ray Data, for which a process that only runs jobs must not wait."""
    if name == "predict":
        from batch import datasets

        return datasets.predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
