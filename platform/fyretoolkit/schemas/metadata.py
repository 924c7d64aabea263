"""A caller's own object, kept and echoed but never read: bounded, so that echoing it cannot fail."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field

MAX_DEPTH = 32
MAX_BYTES = 16 * 1024
"""As JSON: it is stored with a job for weeks and sent with every page that lists it."""


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


def _check_size(metadata: dict[str, Any]) -> dict[str, Any]:
    size = len(orjson.dumps(metadata))
    if size > MAX_BYTES:
        raise ValueError(f"send at most {MAX_BYTES} bytes as JSON, and these are {size}")
    return metadata


Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_check_depth),
    AfterValidator(_check_size),
    Field(description=f"The caller's own object, at most {MAX_BYTES} bytes as JSON."),
]
