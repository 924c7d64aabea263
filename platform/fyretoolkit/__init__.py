"""FyreToolkit: production ML infrastructure behind one HTTP API, on Ray.

Here is the front door of its client: `from fyretoolkit import Client, AsyncClient`. Importing the package costs
nothing: the client is loaded when it is first named, and neither Ray nor ONNX Runtime is. The platform's parts are
subpackages, described in `platform/README.md`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fyretoolkit.client import APIError, AsyncClient, Client, FyreError

__all__ = ["APIError", "AsyncClient", "Client", "FyreError"]


def __getattr__(name: str) -> object:
    """The parts of the client that are named here, loaded when they are asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module("fyretoolkit.client"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """With what is not loaded yet."""
    return sorted({*globals(), *__all__})
