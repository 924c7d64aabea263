"""Health on the wire."""

from __future__ import annotations

from typing import Literal

from fyretoolkit.schemas.wire import Resource


class Health(Resource):
    """This process answers."""

    status: Literal["ok"] = "ok"
    """Always `ok`."""


class Readiness(Resource):
    """Every part that a request needs answers; each is named with `ok`."""

    status: Literal["ready"] = "ready"
    """Always `ready`."""
    checks: dict[str, str]
    """`ok` for each part by name."""
