"""The record of a model: an ONNX package with a signature, known by a slug its owner chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fyretoolkit.core.lifecycles import ModelStatus


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model. `artifact` is the sha256 of its package; None while it is in training."""

    id: str
    org: str
    status: ModelStatus
    created: int
    order: str
    """A ULID made at registration: the position in lists, since slugs do not sort by time."""
    description: str = ""
    artifact: str | None = None
    size_bytes: int = 0
    source_uri: str | None = None
    spec: Mapping[str, object] | None = None
    """The resolved manifest and signature, from which any process builds a codec."""
    schema: int = 1
