"""A worker of `batch.predict` on tables; the pool that Ray makes of it is in tests/system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ray.data.extensions import ArrowTensorArray

import batch
from batch.datasets import ShippedModel, TablePredictor, _from_path, predict
from tests.support.model_packages import write_package
from tests.support.onnx_graphs import echo, echo_columns, lookup


def shipped(folder: Path, graph: bytes, manifest: str | None = None) -> ShippedModel:
    """A package on its way."""
    write_package(folder / "model", graph, manifest)
    return _from_path(folder / "model")


def test_each_row_has_a_result_or_an_error(tmp_path: Path) -> None:
    """In the dataset's order, its own columns kept; the files of the model are not needed any more."""
    model = shipped(tmp_path, lookup())
    (tmp_path / "model" / "model.onnx").unlink()
    table = pa.table({"id": ["a", "b", "c"], "index": [2, 9, 0]})
    answer = TablePredictor(model, {})(table)
    assert answer.column_names == ["id", "index", "result", "error"]
    assert answer["id"].to_pylist() == ["a", "b", "c"]
    assert answer["result"].to_pylist() == [{"value": 20.0}, None, {"value": 0.0}]
    assert [error and error["code"] for error in answer["error"].to_pylist()] == [None, "row_failed", None]


def test_a_second_model_replaces_the_answers_of_the_first(tmp_path: Path) -> None:
    """Not a table with two columns of one name."""
    worker = TablePredictor(shipped(tmp_path, lookup()), {})
    answer = worker(worker(pa.table({"index": [1]})))
    assert answer.column_names == ["index", "result", "error"]


def test_blocks_of_nothing_but_errors_join_the_others(tmp_path: Path) -> None:
    """The type of `error` is always the same, and a block without results has no other type of them."""
    worker = TablePredictor(shipped(tmp_path, lookup()), {})
    blocks = [worker(pa.table({"index": [index]})) for index in (9, 1)]
    joined = pa.concat_tables(blocks, promote_options="default")
    assert joined["result"].to_pylist() == [None, {"value": 10.0}]
    assert worker(pa.table({"index": pa.array([], pa.int64())})).num_rows == 0


def test_columns_are_taken_by_name_or_as_they_are_mapped(tmp_path: Path) -> None:
    """Features of any order beside others; one that is missing is the script's mistake, not the rows'."""
    model = shipped(tmp_path, echo_columns({"age": "float32", "height": "float32"}, (1,)))
    table = pa.table({"height": [1.5], "years": [40.0], "name": ["x"]})
    answer = TablePredictor(model, {"age": "years"})(table)
    assert answer["result"].to_pylist() == [{"age_out": 40.0, "height_out": 1.5}]
    with pytest.raises(ValueError, match=r"'age' is missing.*height, years, name"):
        TablePredictor(model, {})(table)


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"input": "pixls"}, "'pixls' is missing"), ({"inputt": "pixels"}, "no input 'inputt'")],
)
def test_a_name_that_is_mapped_and_is_not_there_is_never_guessed(
    tmp_path: Path, columns: dict[str, str], said: str
) -> None:
    """The other column was taken, and the answers were those to something else."""
    table = pa.table({"input": pa.array([[1.0, 2.0]]), "pixels": pa.array([[3.0, 4.0]])})
    with pytest.raises(ValueError, match=said):
        TablePredictor(shipped(tmp_path, echo("float32", ["N", 2])), columns)(table)


def test_the_only_column_is_the_only_input(tmp_path: Path) -> None:
    """Whatever it is called; Ray's tensors are taken as they are."""
    worker = TablePredictor(shipped(tmp_path, echo("float32", ["N", 2])), {})
    tensors = ArrowTensorArray.from_numpy(np.array([[1, 2], [3, 4]], np.float32))
    for column in (tensors, pa.array([[1.0, 2.0], [3.0, 4.0]])):
        answer = worker(pa.table({"pixels": column}))
        assert answer["result"].to_pylist() == [{"y": [1.0, 2.0]}, {"y": [3.0, 4.0]}]


def test_it_is_found_under_the_package() -> None:
    """`import batch; batch.predict(…)`, and nothing else is."""
    assert batch.predict is predict
    assert not hasattr(batch, "nothing")
