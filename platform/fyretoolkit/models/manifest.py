"""`model.yaml`: what the owner of a model says about it. Every field is optional; unknown ones are an error.

Only what the graph cannot say is asked for: the names of features, labels, the tokenizer's limits, resources. What both
could say (types, shapes) is the graph's alone, so the two cannot disagree about it. The rejected alternative, a full
schema as in Triton's config.pbtxt, has everyone repeat the graph by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from fyretoolkit.core.capacity import LEAST_SHARE
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug

MAX_MANIFEST_BYTES = 256 << 10

Positive = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSettings(_Section):
    """How one item of `inputs` maps onto the graph's inputs."""

    kind: Literal["text", "features", "tensor"] | None = None
    """A string; an object of named values; nested numbers. None: read from the graph."""
    name: Name | None = None
    """The graph input meant, where it has a single one: a check against a mixed-up file."""
    features: tuple[Name, ...] | None = None
    """Kind `features`: the names, in the order of the tensor's columns. A graph with one input a feature needs none."""

    @field_validator("features")
    @classmethod
    def _are_distinct(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if features is not None and (not features or len(set(features)) != len(features)):
            raise ValueError("name each feature once")
        return features


class TokenizerSettings(_Section):
    """How `tokenizer.json` makes a text into input_ids, attention_mask and token_type_ids."""

    max_length: Positive = 512
    """Longer texts are cut here."""
    padding: Literal["longest", "max_length"] = "longest"
    """Up to the longest text of a call, or always to `max_length`. A graph of fixed length is always padded to it."""


class Preprocessing(_Section):
    """What happens to an item before the graph."""

    tokenizer: TokenizerSettings | None = None


class OutputSettings(_Section):
    """What of the graph's outputs becomes the result."""

    label: Name | None = None
    """The output that holds each row's class."""
    probabilities: Name | None = None
    """The output that holds a score for each class, `(batch, classes)`."""
    labels: tuple[str | int, ...] | None = None
    """The classes' names, in the order of the scores' columns."""
    softmax: bool = False
    """The scores are logits: turn them into probabilities."""
    argmax: bool = False
    """The class is the one with the largest score, whatever a label output says."""
    top_k: Positive | None = None
    """Answer the k best classes as `top`, best first, instead of all `probabilities`."""
    raw: bool = False
    """Answer each output under its own name; nothing of the above applies."""

    @field_validator("labels")
    @classmethod
    def _are_distinct(cls, labels: tuple[str | int, ...] | None) -> tuple[str | int, ...] | None:
        if labels is not None and len({str(label) for label in labels}) != len(labels):
            raise ValueError("labels must differ from each other")
        return labels

    @model_validator(mode="after")
    def _raw_stands_alone(self) -> OutputSettings:
        interprets = (
            self.label or self.probabilities or self.labels or self.softmax or self.argmax or self.top_k
        )
        if self.raw and interprets:
            raise ValueError("raw answers the outputs as they are: leave the other settings out")
        return self


class Resources(_Section):
    """What one replica reserves."""

    num_cpus: Annotated[float, Field(gt=0)] | None = None
    """None: the platform's default."""
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    """A share of one GPU, or whole GPUs."""
    accelerator_type: Name | None = None
    """The kind of GPU, as Ray names it."""
    threads: Annotated[int | None, Field(gt=0, le=256)] = None
    """Threads of one inference; None: the replica's CPUs, at least one."""

    @field_validator("num_gpus")
    @classmethod
    def _is_schedulable(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("above 1, use a whole number")
        return value


class Autoscaling(_Section):
    """Bounds of the number of replicas."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: Positive = 1
    target_ongoing_requests: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        return self


class Manifest(_Section):
    """A whole `model.yaml`."""

    id: str | None = None
    description: Annotated[str, Field(max_length=2000)] = ""
    inputs: InputSettings = InputSettings()
    preprocessing: Preprocessing = Preprocessing()
    outputs: OutputSettings = OutputSettings()
    max_batch_size: Annotated[int, Field(gt=0, le=65_536)] | None = None
    """The most rows of one inference; None: what is measured where it runs (core/batching.py)."""
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    example: JsonValue = None
    """One item of `inputs`, used for the first inference and shown in the playground."""

    @field_validator("resources")
    @classmethod
    def _can_be_counted(cls, value: Resources) -> Resources:
        """Here and not in `Resources`, which are read back from what was stored before this was asked for."""
        for name in ("num_cpus", "num_gpus"):
            share = getattr(value, name)
            if share is not None and 0 < share < LEAST_SHARE:
                raise ValueError(f"{name}: use a share of at least {LEAST_SHARE:g}")
        return value

    @field_validator("id")
    @classmethod
    def _is_slug(cls, value: str | None) -> str | None:
        if value is not None and not is_slug(value):
            raise ValueError(
                "use 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit"
            )
        return value


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few hundred bytes of nested ones stand for gigabytes ("billion laughs")."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def parse_manifest(text: str) -> Manifest:
    """The manifest that `text`, the content of a model.yaml, describes.

    Raises:
        PlatformError: `invalid_manifest`, naming the field.
    """
    try:
        content = yaml.load(text, _PlainLoader)  # noqa: S506 - a subclass of SafeLoader
        return Manifest.model_validate({} if content is None else content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise PlatformError("invalid_manifest", f"model.yaml, {where}: {first['msg']}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlatformError(
            "invalid_manifest", f"model.yaml is not valid YAML: {_one_line(error)}."
        ) from error


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file `path`.

    Raises:
        PlatformError: `invalid_manifest`.
    """
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise PlatformError("invalid_manifest", f"model.yaml is larger than {MAX_MANIFEST_BYTES >> 10} KiB.")
    try:
        return parse_manifest(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PlatformError("invalid_manifest", "model.yaml is not UTF-8.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
