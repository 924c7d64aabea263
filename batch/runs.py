"""A run: what every process that works on it must know, and how it learns that it must stop.

A run is over before its work is done for three reasons alone: a newer epoch, the job's end (a cancel), the job's
deadline. Whoever notices raises `RunOverError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

import orjson

from batch.fields import RowShape
from batch.shards import Plan
from batch.sources import Source
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import Settings

_OVER = "over"
_PASSING = frozenset({"unavailable", "internal_error"})


class RunOverError(Exception):
    """This run may write nothing more."""


class Here:
    """What this process alone has of a run: its model, once it is loaded. It does not travel."""

    def __init__(self) -> None:
        self.model: object | None = None

    def __reduce__(self) -> tuple[type[Here], tuple[()]]:
        return Here, ()


@dataclass(frozen=True)
class Run:
    """One run of a job, as its workers see it. Picklable."""

    org: str
    job_id: str
    epoch: int
    artifact: str
    spec: Mapping[str, object]
    source: Source
    plan_file: str
    """The name of the file in the job's folder that holds the shards."""
    settings: Settings
    here: Here = field(default_factory=Here, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """The job's folder."""
        return self.settings.jobs_dir / self.job_id

    @property
    def parts_folder(self) -> Path:
        """Where parts are published."""
        return self.folder / "parts"

    @cached_property
    def plan(self) -> Plan:
        """The shards, from the job's folder.

        Raises:
            PlatformError: `run_failed`, the file is gone or damaged; no later run would find another.
        """
        try:
            return Plan.from_json((self.folder / self.plan_file).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError) as damage:
            raise PlatformError(
                "run_failed", f"The job's files are damaged: {self.plan_file}. Create the job again."
            ) from damage

    @cached_property
    def model(self) -> ModelSpec:
        """The model's spec."""
        return ModelSpec.from_json(self.spec)


def row_shape(spec: ModelSpec) -> RowShape:
    """What the model takes of a row."""
    inputs = tuple(tensor.name for tensor in spec.signature.inputs)
    match spec.kind:
        case "text":
            own = () if spec.tokenizer else inputs
            return RowShape(tuple(dict.fromkeys((*own, "text", "input"))), is_single=True)
        case "features":
            return RowShape(spec.features or inputs, is_single=False)
        case _ if len(inputs) == 1:
            return RowShape(tuple(dict.fromkeys((*inputs, "input"))), is_single=True)
        case _:
            return RowShape(inputs, is_single=False)


def is_final(error: Exception) -> TypeGuard[PlatformError]:
    """Whether the error ends the job; any other leaves it to the next run."""
    return isinstance(error, PlatformError) and error.code not in _PASSING


def to_failure(error: PlatformError | RunOverError) -> str:
    """The error as text, for the way through Ray Data: it wraps what a worker raises and loses the cause."""
    if isinstance(error, RunOverError):
        return _OVER
    return orjson.dumps({"code": error.code, "message": error.message}).decode()


def from_failure(text: str) -> PlatformError | RunOverError:
    """The error that `to_failure` wrote."""
    return RunOverError() if text == _OVER else PlatformError(**orjson.loads(text))
