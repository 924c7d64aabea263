"""Models: ONNX packages with a signature, known by a slug their owner chose; the record, and what to do about it.

A model that was given a source is fetched and inspected by the controller, which may die at any instant: the plan is
made anew from the records at each tick, as for deployments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fyretoolkit.core.lifecycles import ModelStatus

ORDER_PREFIX = "mdl"


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
    source_sha256: str | None = None
    """What the bytes at `source_uri` must be; None: anything."""
    spec: Mapping[str, object] | None = None
    """The resolved manifest and signature, from which any process builds a codec."""
    publication: int = 0
    """Counts the sources that it was given: what is found at an older one is dropped."""
    published_at: float = 0.0
    """When the source was given; preparing it is bounded from here."""
    error: Mapping[str, object] | None = None
    """Why the last source did not become the model; another can be published."""
    schema: int = 1

    @property
    def is_preparing(self) -> bool:
        """Whether the controller has to fetch and inspect its source."""
        return self.status is ModelStatus.TRAINING and self.source_uri is not None and self.error is None


@dataclass(frozen=True, slots=True)
class PrepareModel:
    """Fetch and inspect the source; then the model is ready."""

    model: Model


@dataclass(frozen=True, slots=True)
class GiveUpModel:
    """Its source took too long; the model stays in training, with an error."""

    model: Model
    message: str


def plan_preparations(
    models: Iterable[Model], now: float, *, bound_s: float
) -> list[PrepareModel | GiveUpModel]:
    """What to do about the models that are being prepared. Each command may be repeated."""
    return [
        PrepareModel(model)
        if now - model.published_at <= bound_s
        else GiveUpModel(model, f"Fetching and inspecting the source took over {bound_s:g} s.")
        for model in models
        if model.is_preparing
    ]
