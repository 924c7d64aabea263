"""A caller's own object, kept and echoed but never read: bounded, so that echoing it cannot fail."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

MAX_DEPTH = 32


def _check_depth(metadata: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [metadata]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return metadata
    raise ValueError(f"nest at most {MAX_DEPTH} levels")


Metadata = Annotated[dict[str, Any], AfterValidator(_check_depth)]
