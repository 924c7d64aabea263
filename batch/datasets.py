"""`batch.predict`: a model over a data scientist's own Ray Data dataset, with the answers of every other door.

A row that does not fit, or on which the model fails, has a null `result` and says why in `error`; the rows beside it
are not touched. The model is found by a task of the cluster, whose processes know the platform: so a notebook needs
nothing but Ray's address. One from a path travels with the dataset, since a node need not share the notebook's disk.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayTaskError

from batch.access import KEY_VARIABLE, find_organization
from batch.fields import FieldError, RowShape, single_field, with_only_field
from batch.gpus import held_device
from batch.packages import opened_package
from batch.runs import row_shape
from batch.submission import find_model
from batch.worker import error_text
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug
from fyretoolkit.models.codec import ItemError
from fyretoolkit.models.package import MANIFEST, MODEL, TOKENIZER, files_in
from fyretoolkit.models.runner import ModelRunner
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.settings import load_settings
from fyretoolkit.store.connection import Store

RESULT, ERROR = "result", "error"
_ERROR_TYPE = pa.struct([("code", pa.string()), ("message", pa.string())])


def predict(
    dataset: Dataset,
    model: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    workers: int = 1,
    num_cpus: float = 1,
    batch_size: int = 1024,
) -> Dataset:
    """The dataset with two columns more: `result`, a struct as in a job's output, and `error`, `{code, message}`.

    `model` is the id of a model of the organization whose API key is in FYRE_API_KEY (in development mode without one:
    of the demo organization), or the path of a package, an archive or a .onnx. The model's inputs are taken from the
    columns of their names (text also from `text`, `input` or the only column); `columns` maps a name of the model's to
    the dataset's. `workers` processes hold the model, each reserving `num_cpus` and what the model asks of GPUs.

    Raises:
        PlatformError: `model_not_found`, `model_not_ready`, `invalid_api_key`, or what opening a package raises.
    """
    found = _from_path(model) if _is_path(model) else _from_platform(str(model))
    resources = ModelSpec.from_json(found.spec).resources
    return dataset.map_batches(
        TablePredictor,
        fn_constructor_kwargs={"model": found, "columns": dict(columns or {}), "num_cpus": num_cpus},
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=workers),
        num_cpus=num_cpus,
        num_gpus=resources.num_gpus or None,
        accelerator_type=resources.accelerator_type if resources.num_gpus else None,
    )


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model on its way to the workers: its digest in the artifact store, or the files themselves."""

    spec: Mapping[str, object]
    artifact: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def load(self, num_cpus: float) -> ModelRunner:
        """The loaded model, in a worker."""
        spec = ModelSpec.from_json(self.spec)
        num_gpus = spec.resources.num_gpus
        hardware: Any = {
            "num_gpus": num_gpus, "device_id": held_device(num_gpus), "threads": max(1, int(num_cpus)),
        }  # fmt: skip
        if self.artifact is not None:
            files = open_artifacts(load_settings(os.environ)).open(self.artifact)
            return ModelRunner.load(files, spec, **hardware)
        with tempfile.TemporaryDirectory(prefix="fyre-model-") as folder:
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
            return ModelRunner.load(files_in(Path(folder)), spec, **hardware)


class TablePredictor:
    """One worker of the pool: tables in, the same with `result` and `error` out."""

    def __init__(self, model: ShippedModel, columns: Mapping[str, str], num_cpus: float = 1) -> None:
        self._runner = model.load(num_cpus)
        self._columns = columns

    def __call__(self, table: pa.Table) -> pa.Table:
        """Raises ValueError where the table lacks a column that the model needs."""
        results: list[object] = []
        errors: list[dict[str, str] | None] = []
        for outcome in self._runner.predict(self._items(table)):
            if isinstance(outcome, ItemError):
                code = "row_failed" if outcome.code == "row_failed" else "invalid_row"
                results.append(None)
                errors.append({"code": code, "message": error_text(outcome)})
            else:
                results.append(outcome.result)
                errors.append(None)
        kept = table.drop_columns([name for name in (RESULT, ERROR) if name in table.column_names])
        return kept.append_column(RESULT, pa.array(results)).append_column(
            ERROR, pa.array(errors, type=_ERROR_TYPE)
        )

    def _items(self, table: pa.Table) -> list[object]:
        shape = row_shape(self._runner.spec)
        try:
            if unknown := next((name for name in self._columns if name not in shape.names), None):
                raise FieldError(f"the model has no input {unknown!r} but {', '.join(shape.names)}")
            if shape.is_single:
                return _values(table, self._single(table, shape))
            names = {name: self._columns.get(name, name) for name in shape.names}
            if missing := next((name for name in names.values() if name not in table.column_names), None):
                raise FieldError(f"the field {missing!r} is missing")
        except FieldError as error:
            raise ValueError(
                f"{error}: the dataset has the columns {', '.join(table.column_names)}; columns={{...}} maps others"
            ) from error
        values = [_values(table, column) for column in names.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def _single(self, table: pa.Table, shape: RowShape) -> str:
        """The column of a model with one input."""
        if mapped := [self._columns[name] for name in shape.names if name in self._columns]:
            if mapped[0] not in table.column_names:
                raise FieldError(f"the field {mapped[0]!r} is missing")
            return mapped[0]
        return single_field(table.column_names, with_only_field(shape, table.column_names))


def _values(table: pa.Table, column: str) -> list[object]:
    """Plain Python values; Ray's tensors come as arrays."""
    values = table.column(column).to_pylist()
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]


def _is_path(model: str | Path) -> bool:
    return isinstance(model, Path) or not is_slug(model) or model.endswith(".onnx")


def _from_path(model: str | Path) -> ShippedModel:
    with opened_package(str(model)) as packaged:
        paths = {
            MODEL: packaged.files.onnx,
            MANIFEST: packaged.files.manifest_path,
            TOKENIZER: packaged.files.tokenizer,
        }
        files = {name: path.read_bytes() for name, path in paths.items() if path is not None}
    return ShippedModel(packaged.spec.to_json(), files=files)


def _from_platform(model_id: str) -> ShippedModel:
    """Asked of a process of the cluster, which knows the platform's store; this one may not."""
    task = ray.remote(_find).options(num_cpus=0, max_retries=0)
    try:
        found: ShippedModel = ray.get(task.remote(model_id, os.environ.get(KEY_VARIABLE)))
    except RayTaskError as error:
        raise error.cause from None
    return found


def _find(model_id: str, key: str | None) -> ShippedModel:
    return asyncio.run(_look_up(model_id, key))


async def _look_up(model_id: str, key: str | None) -> ShippedModel:
    try:
        settings = load_settings(os.environ)
    except KeyError as error:
        raise PlatformError(
            "unavailable",
            f"This Ray cluster is not a platform's, so it has no model {model_id}. Name the path of a package, "
            "beginning with ./ or /.",
        ) from error
    store = Store(settings.redis_url.get_secret_value())
    try:
        org = await find_organization(store, settings, key)
        artifact, spec = await find_model(store, org, model_id)
    finally:
        await store.close()
    return ShippedModel(spec, artifact)
