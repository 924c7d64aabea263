"""The runner over real sessions: answers, isolation of bad rows, splitting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import ItemError
from fyretoolkit.models.runner import ModelRunner, Prediction
from fyretoolkit.models.session import open_session
from tests.support import onnx_graphs
from tests.support.model_packages import load_runner, word_tokenizer, write_package


class Counting:
    """A session that notes the size of every batch it ran, and runs it."""

    def __init__(self, runner: ModelRunner) -> None:
        self._inner = runner._session
        self.sizes: list[int] = []

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.sizes.append(len(next(iter(arrays.values()))))
        return self._inner.run(arrays)


def counted(runner: ModelRunner) -> Counting:
    counting = Counting(runner)
    runner._session = counting  # type: ignore[assignment]
    return counting


def test_a_bad_row_fails_alone_whatever_the_reason(tmp_path: Path) -> None:
    """One does not fit the signature, one fails in the model; the others have their answers, in order."""
    runner = load_runner(tmp_path, onnx_graphs.lookup())
    outcomes = runner.predict([0, 1, "two", 99, 3])
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert [outcome.result for outcome in outcomes if isinstance(outcome, Prediction)] == [
        {"value": 0.0},
        {"value": 10.0},
        {"value": 30.0},
    ]
    errors = [outcome for outcome in outcomes if isinstance(outcome, ItemError)]
    assert [(error.index, error.code) for error in errors] == [(2, "invalid_input"), (3, "row_failed")]
    assert "/" not in errors[1].message


def test_a_failing_batch_is_halved_not_run_row_by_row(tmp_path: Path) -> None:
    """One bad row of 64 costs 2 log2(64) more runs."""
    runner = load_runner(tmp_path, onnx_graphs.lookup())
    session = counted(runner)
    ran = runner.run_isolating({"index": np.array([1] * 40 + [99] + [2] * 23)})
    assert list(ran.failed) == [40]
    assert ran.kept == [*range(40), *range(41, 64)]
    assert [outputs["value"].tolist() for outputs in ran.outputs] == [[10.0] * 40 + [20.0] * 23]
    assert len(session.sizes) <= 1 + 2 * 6


def test_rows_that_all_fail_leave_no_outputs(tmp_path: Path) -> None:
    """Every one has its reason."""
    runner = load_runner(tmp_path, onnx_graphs.lookup())
    ran = runner.run_isolating({"index": np.array([98, 99])})
    assert ran.outputs == []
    assert sorted(ran.failed) == [0, 1]


def test_max_batch_size_splits_and_joins(tmp_path: Path) -> None:
    """The same answers as without."""
    runner = load_runner(tmp_path, onnx_graphs.lookup(), "max_batch_size: 3")
    session = counted(runner)
    indices = [0, 1, 2, 3, 2, 1, 0]
    assert runner.run({"index": np.array(indices)})["value"].tolist() == [10.0 * index for index in indices]
    assert session.sizes == [3, 3, 1]
    results = [outcome.result for outcome in runner.predict(indices) if isinstance(outcome, Prediction)]
    assert results == [{"value": 10.0 * index} for index in indices]


def test_the_size_that_a_replica_found_splits_the_rows_of_one_call_too(tmp_path: Path) -> None:
    """They are company to each other."""
    runner = load_runner(tmp_path, onnx_graphs.minus_batch_mean(shape=("N", 1)))
    rows = {"x": np.array([[1.0], [3.0]], np.float32)}
    assert runner.run_isolating(rows).outputs[0]["y"].tolist() == [[-1.0], [1.0]]
    runner.max_batch_size = 1
    assert runner.run_isolating(rows).outputs[0]["y"].tolist() == [[0.0], [0.0]]


def test_rows_that_run_alone_may_have_outputs_of_different_shapes(tmp_path: Path) -> None:
    """Texts without their neighbours' padding give one value for each of their own tokens."""
    runner = load_runner(tmp_path, onnx_graphs.token_echo(), "max_batch_size: 1", word_tokenizer())
    texts: list[object] = ["a film", "good bad", "film"]
    arrays = runner.codec.decode(texts).arrays
    assert arrays["input_ids"].shape == (3, 2)
    ran = runner.run_isolating(arrays)
    assert [outputs["ids"].tolist() for outputs in ran.outputs] == [[[2, 5], [3, 4]], [[5]]]
    assert ran.kept == [0, 1, 2]
    assert [outcome.result for outcome in runner.predict(texts) if isinstance(outcome, Prediction)] == [
        {"ids": [2, 5]},
        {"ids": [3, 4]},
        {"ids": [5]},
    ]


def test_run_raises_for_a_batch_with_a_bad_row(tmp_path: Path) -> None:
    """`run` is all or nothing; `run_isolating` is not."""
    with pytest.raises(PlatformError) as caught:
        load_runner(tmp_path, onnx_graphs.lookup()).run({"index": np.array([0, 99])})
    assert caught.value.code == "row_failed"


def test_rows_of_different_lengths_all_get_answers(tmp_path: Path) -> None:
    """They cannot share an array, so they run in turns; the caller need not know."""
    runner = load_runner(tmp_path, onnx_graphs.echo("float32", ["N", "T"]))
    items: list[object] = [[1.0], [1.0, 2.0], None, [3.0], [4.0, 5.0, 6.0]]
    outcomes = runner.predict(items)
    assert [getattr(outcome, "result", {}).get("y") for outcome in outcomes] == items
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4]


def test_zip_map_probabilities_are_columns(tmp_path: Path) -> None:
    """A dict a row becomes an array, in the sorted order of the classes."""
    manifest = "outputs: {labels: [a, b]}"
    runner = load_runner(tmp_path, onnx_graphs.zip_map(), manifest)
    (outcome,) = runner.predict([[0.25, 0.75]])
    assert isinstance(outcome, Prediction)
    assert outcome.result["probabilities"] == {"a": 0.75, "b": 0.25}


def test_mixed_columns_run_end_to_end(tmp_path: Path) -> None:
    """One ONNX input per feature; CSV cells too."""
    columns = {"age": "int64", "city": "string", "weight": "float64", "is_new": "bool"}
    runner = load_runner(tmp_path, onnx_graphs.echo_columns(columns, [1]))
    row = {"age": 30, "city": "Zürich", "weight": 71.5, "is_new": True}
    cells = {"age": "30", "city": "Zürich", "weight": "71.5", "is_new": "true"}
    for outcomes in (runner.predict([row]), runner.predict([cells], cells_are_text=True)):
        assert [outcome.result for outcome in outcomes if isinstance(outcome, Prediction)] == [
            {f"{name}_out": value for name, value in row.items()}
        ]


@pytest.mark.parametrize("dtype", sorted(onnx_graphs.TYPES))
@pytest.mark.parametrize("row", [[], [1], [2], [2, 1, 3]])
def test_every_dtype_and_rank_goes_through(tmp_path: Path, dtype: str, row: list[int]) -> None:
    """JSON in, the same JSON out, through a real session."""
    runner = load_runner(tmp_path, onnx_graphs.echo(dtype, ["N", *row]))
    item = runner.example_items()[0]
    (outcome,) = runner.predict([item])
    assert isinstance(outcome, Prediction)
    assert outcome.result == {"y": item}


def test_threads_share_a_runner(tmp_path: Path) -> None:
    """Each gets its own rows back."""
    runner = load_runner(tmp_path, onnx_graphs.echo("int64", ["N"]))

    def ask(start: int) -> list[object]:
        outcomes = runner.predict(list(range(start, start + 50)))
        return [outcome.result["y"] for outcome in outcomes if isinstance(outcome, Prediction)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(0, 1000, 50))) == [list(range(s, s + 50)) for s in range(0, 1000, 50)]


def test_a_gpu_that_is_not_there_is_an_error_never_a_silent_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for and unusable."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    files = write_package(tmp_path, onnx_graphs.echo("float32", ["N"]))
    with pytest.raises(PlatformError) as caught:
        open_session(files.onnx, num_gpus=0.5)
    assert caught.value.code == "gpu_unavailable"


def test_another_file_than_the_inspected_one_is_refused(tmp_path: Path) -> None:
    """The spec would read its rows wrongly."""
    spec = load_runner(tmp_path / "a", onnx_graphs.echo("float32", ["N", 2])).spec
    other = write_package(tmp_path / "b", onnx_graphs.echo("float32", ["N", 3]))
    with pytest.raises(PlatformError) as caught:
        ModelRunner.load(other, spec)
    assert caught.value.code == "signature_mismatch"
