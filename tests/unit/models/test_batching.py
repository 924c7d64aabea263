"""Batching that earns its place: what is found in real graphs, and what is decided from made-up times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fyretoolkit.core.batching import Batching, BatchingReason
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import batching as module
from fyretoolkit.models.batching import measure, undisturbed_clock
from fyretoolkit.models.codec import Codec
from fyretoolkit.models.company import compare, varied_rows
from fyretoolkit.models.readers import Arrays
from fyretoolkit.models.runner import ModelRunner, Prediction
from tests.support import onnx_graphs
from tests.support.model_packages import load_runner, word_tokenizer

TWO_INTEGERS = "inputs: {kind: tensor}\nexample: [3, 7]"


def found(
    tmp_path: Path, graph: bytes, manifest: str | None = None, tokenizer: str | None = None
) -> Batching:
    """What a replica measures of a graph by a clock that stands still: every run takes the same time, none."""
    runner = load_runner(tmp_path, graph, manifest, tokenizer)
    return measure(runner._session.run, runner.codec, clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("graph", "manifest"),
    [
        (onnx_graphs.minus_batch_mean(), None),
        (onnx_graphs.minus_batch_mean(), "example: [1.0, 2.0, 3.0]"),
        (onnx_graphs.minus_batch_mean("float64"), None),
        (onnx_graphs.minus_batch_mean("float16"), None),
        (onnx_graphs.minus_batch_mean("int64", shape=("N", 2)), TWO_INTEGERS),
        (onnx_graphs.minus_batch_mean("int64", shape=("N",)), "example: 5"),
        (onnx_graphs.minus_batch_mean("uint8", shape=("N", 2)), None),
        (onnx_graphs.minus_batch_mean("bool", shape=("N", 2)), "example: [true, false]"),
        (onnx_graphs.quantized(), "example: [1.0, 2.0, 3.0]"),
        (onnx_graphs.text_shares(), "example: a fine film"),
    ],
)
def test_a_model_whose_answers_depend_on_company_is_not_batched(
    tmp_path: Path, graph: bytes, manifest: str | None
) -> None:
    """Whatever it takes, and even if the example is all zeros."""
    batching = found(tmp_path, graph, manifest)
    assert (batching.max_batch_size, batching.reason) == (1, BatchingReason.DEPENDS_ON_COMPANY)
    assert batching.max_difference is not None
    assert batching.max_difference > 1e-3


@pytest.mark.parametrize(
    ("graph", "manifest", "tokenizer"),
    [
        (onnx_graphs.echo("float32", ["N", 3]), None, None),
        (onnx_graphs.echo("float16", ["N", 3]), None, None),
        (onnx_graphs.echo("string", ["N"]), "example: a fine film", None),
        (onnx_graphs.echo("bool", ["N", 2]), None, None),
        (onnx_graphs.lookup(), "example: 3", None),
        (onnx_graphs.echo_columns({"age": "int64", "city": "string", "weight": "float64"}), None, None),
        (onnx_graphs.token_sum(), "example: a good film", word_tokenizer()),
        (onnx_graphs.zip_map(), None, None),
    ],
)
def test_a_harmless_model_is_batched(
    tmp_path: Path, graph: bytes, manifest: str | None, tokenizer: str | None
) -> None:
    """One whose runs all take the same time gains most from the largest batch."""
    batching = found(tmp_path, graph, manifest, tokenizer)
    assert (batching.max_batch_size, batching.reason) == (64, BatchingReason.MEASURED)
    assert batching.max_difference == 0.0
    assert list(batching.rows_per_s) == [1, 2, 4, 8, 16, 32, 64]


def test_padding_is_company_too(tmp_path: Path) -> None:
    """A model that ignores its mask answers by the longest text of the call; run alone, each is as if it came alone."""
    runner = load_runner(tmp_path, onnx_graphs.padded_length(), "example: a good film", word_tokenizer())
    batching = runner.measure()
    assert (batching.max_batch_size, batching.reason) == (1, BatchingReason.DEPENDS_ON_COMPANY)
    texts = ["a film", "good", "a good bad film"]
    assert columns_of(runner, texts) == [4.0, 4.0, 4.0]
    runner.max_batch_size = batching.max_batch_size
    assert columns_of(runner, texts) == [2.0, 1.0, 4.0]
    assert [columns_of(runner, [text]) for text in texts] == [[2.0], [1.0], [4.0]]


def columns_of(runner: ModelRunner, texts: list[str]) -> list[object]:
    """What `padded_length` answers for each text of one call."""
    return [outcome.result["columns"] for outcome in runner.predict(texts) if isinstance(outcome, Prediction)]


@pytest.mark.parametrize(
    "graph", [onnx_graphs.echo("float32", [1, 3]), onnx_graphs.one_row_only()], ids=["declared", "hidden"]
)
def test_a_graph_that_takes_one_row_is_not_batched(tmp_path: Path, graph: bytes) -> None:
    """It says so, or two rows fail."""
    batching = found(tmp_path, graph)
    assert (batching.max_batch_size, batching.reason) == (1, BatchingReason.FIXED_BATCH_AXIS)
    assert batching.max_difference is None
    assert list(batching.rows_per_s) == [1]


@pytest.mark.parametrize("size", [1, 5])
def test_the_manifest_has_the_last_word_and_the_figures_are_shown(tmp_path: Path, size: int) -> None:
    """Even against answers that depend on company."""
    batching = found(tmp_path, onnx_graphs.minus_batch_mean(), f"max_batch_size: {size}")
    assert (batching.max_batch_size, batching.reason) == (size, BatchingReason.MANIFEST)
    assert batching.max_difference is not None
    assert batching.max_difference > 1e-3
    assert 1 in batching.rows_per_s


class TimedModel:
    """Answers each row with itself; a run of n rows takes `seconds[n]` of a clock that stands still otherwise."""

    def __init__(self, seconds: Mapping[int, float], fails_from: int = 1000) -> None:
        self.seconds = seconds
        self.fails_from = fails_from
        self.now = 0.0
        self.sizes: list[int] = []

    def clock(self) -> float:
        return self.now

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        size = len(arrays["x"])
        self.sizes.append(size)
        if size >= self.fails_from:
            raise PlatformError("row_failed", "out of memory")
        self.now += self.seconds.get(size, size * self.seconds[1])
        return {"y": arrays["x"]}


def measured(tmp_path: Path, model: TimedModel) -> Batching:
    """The batching of a made-up model that takes three floats a row."""
    codec = load_runner(tmp_path, onnx_graphs.echo("float32", ["N", 3])).codec
    return measure(model.run, codec, clock=model.clock)


def test_a_model_that_company_makes_slower_is_not_batched(tmp_path: Path) -> None:
    """And nothing larger is tried once two sizes in a row are clearly worse."""
    model = TimedModel({1: 0.010, 2: 0.040, 4: 0.080})
    batching = measured(tmp_path, model)
    assert (batching.max_batch_size, batching.reason) == (1, BatchingReason.MEASURED)
    assert batching.rows_per_s == {1: 100.0, 2: 50.0, 4: 50.0}
    assert max(model.sizes) == 4


def test_a_size_that_met_a_busy_machine_does_not_end_the_search(tmp_path: Path) -> None:
    """The next one does better."""
    batching = measured(
        tmp_path, TimedModel({size: 0.020 if size == 2 else 0.002 for size in (1, 2, 4, 8, 16, 32, 64)})
    )
    assert batching.max_batch_size == 64


def test_the_time_that_others_take_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten seconds, three were spent waiting for a CPU; where the machine does not say, all ten count."""
    schedule = tmp_path / "schedstat"
    schedule.write_text("7000000000 0 12\n")
    monkeypatch.setattr(module, "_SCHEDULE", str(schedule))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 10.0))
    with undisturbed_clock() as clock:
        began = clock()
        schedule.write_text("7000000000 3000000000 14\n")
        assert began - clock() == 3.0
        waits = iter([b"7 0 1", b"7 4000000000 2", b"7 4000000000 2"])
        monkeypatch.setattr(module.os, "pread", lambda *_: next(waits))
        assert clock() == 6.0, "interrupted between two readings"
        monkeypatch.undo()
    monkeypatch.setattr(module, "_SCHEDULE", str(tmp_path / "none"))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 10.0))
    with undisturbed_clock() as clock:
        assert clock() == 10.0


def test_a_slow_model_is_asked_little(tmp_path: Path) -> None:
    """Six seconds a run: one is enough to know."""
    model = TimedModel({1: 6.0})
    batching = measured(tmp_path, model)
    assert (batching.max_batch_size, batching.reason) == (1, BatchingReason.MEASURED)
    assert model.sizes == [1]


def test_measuring_is_bounded_in_time(tmp_path: Path) -> None:
    """A model of 100 ms a row that gains a little with each size: about 1.5 s for each of the two questions."""
    model = TimedModel(
        {size: 0.1 * size * 0.9 ** (size.bit_length() - 1) for size in (1, 2, 4, 8, 16, 32, 64)}
    )
    batching = measured(tmp_path, model)
    assert batching.max_batch_size > 1
    assert model.now < 6.0


def test_a_size_that_does_not_fit_into_memory_ends_the_search(tmp_path: Path) -> None:
    """Eight rows fail: up to four run together."""
    batching = measured(tmp_path, TimedModel({1: 0.001, 2: 0.001, 4: 0.001}, fails_from=8))
    assert (batching.max_batch_size, batching.reason) == (4, BatchingReason.MEASURED)
    assert list(batching.rows_per_s) == [1, 2, 4]


def test_a_model_that_fails_on_its_example_says_so(tmp_path: Path) -> None:
    """The runtime's own words."""
    with pytest.raises(PlatformError) as caught:
        measured(tmp_path, TimedModel({1: 0.001}, fails_from=1))
    assert (caught.value.code, caught.value.message) == ("row_failed", "out of memory")


@pytest.mark.parametrize(
    ("dtype", "error", "is_alike"),
    [
        ("float32", 0.9e-6, True), ("float32", 1e-5, False), ("float64", 0.9e-6, True), ("float64", 1e-5, False),
        ("float16", 1e-3, True), ("float16", 2e-2, False), ("int64", 1, False), ("bool", 1, False),
    ],
)  # fmt: skip
def test_what_is_tolerated(tmp_path: Path, dtype: str, error: float, is_alike: bool) -> None:
    """The kernel that runs several rows may round otherwise than the one for a single row; labels must be equal."""
    codec = load_runner(tmp_path, onnx_graphs.echo("float32", ["N"])).codec

    def run(arrays: Mapping[str, np.ndarray]) -> Arrays:
        size = len(arrays["x"])
        return {"y": np.full(size, error if size > 1 else 0).astype(dtype)}

    assert compare(run, varied_rows(codec), [2, 8], codec.spec.outputs, budget_s=1.0).is_alike is is_alike


def test_logits_are_compared_as_the_probabilities_that_callers_read(tmp_path: Path) -> None:
    """A shift of all logits alike changes no answer."""
    graph = onnx_graphs.echo("float32", ["N", 2])
    shifted = load_runner(tmp_path / "soft", graph, "outputs: {probabilities: y, softmax: true}").codec
    plain = load_runner(tmp_path / "plain", graph).codec

    def run(arrays: Mapping[str, np.ndarray]) -> Arrays:
        return {"y": arrays["x"] * 0 + np.float32(len(arrays["x"]))}

    def alike(codec: Codec) -> bool:
        return compare(run, varied_rows(codec), [2], codec.spec.outputs, budget_s=1.0).is_alike

    assert alike(shifted)
    assert not alike(plain)


def test_rows_that_fail_alone_are_left_out(tmp_path: Path) -> None:
    """A number that the example's neighbourhood suggests need not be valid."""
    runner = load_runner(tmp_path, onnx_graphs.lookup(), "example: 2")

    def run(arrays: Mapping[str, np.ndarray]) -> Arrays:
        if (arrays["index"] != 2).any():
            raise PlatformError("row_failed", "unknown id")
        return {"value": arrays["index"].astype(np.float32)}

    compared = compare(run, varied_rows(runner.codec), [2, 8], runner.spec.outputs, budget_s=1.0)
    assert (compared.largest, compared.is_alike, compared.max_difference) == (8, True, 0.0)


def test_a_slow_model_is_compared_in_two_runs(tmp_path: Path) -> None:
    """An inspection has a bound: the example alone, and beside one other row."""
    codec = load_runner(tmp_path, onnx_graphs.echo("float32", ["N", 3])).codec
    model = TimedModel({1: 6.0})
    compared = compare(
        model.run, varied_rows(codec), [2, 8], codec.spec.outputs, budget_s=1.0, clock=model.clock
    )
    assert (compared.largest, compared.is_alike) == (2, True)
    assert model.sizes == [1, 2]


def test_integers_are_the_examples_own_and_floats_of_different_ranges(tmp_path: Path) -> None:
    """An id that a model knows stays one; a scale taken from a batch is another one than a row's own."""
    graph = onnx_graphs.echo_columns({"ids": "int64", "sizes": "float32"}, [4])
    example = "example: {ids: [7, 7, 30522, 101], sizes: [1.0, 2.0, 3.0, 4.0]}"
    rows = varied_rows(load_runner(tmp_path, graph, example).codec).alone
    assert all(sorted(row["ids"][0].tolist()) == [7, 7, 101, 30522] for row in rows)
    assert len({tuple(row["ids"][0].tolist()) for row in rows}) > 2
    ranges = [float(np.abs(row["sizes"]).max()) for row in rows]
    assert max(ranges) > 20 * min(ranges)
    assert rows[0]["sizes"].tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_texts_differ_in_length_and_consist_of_the_examples_words(tmp_path: Path) -> None:
    """Some of one word, some longer than the example."""
    codec = load_runner(tmp_path, onnx_graphs.echo("string", ["N"]), "example: a good film").codec
    texts = [row["x"][0].split() for row in varied_rows(codec).alone]
    assert texts[0] == ["a", "good", "film"]
    assert {word for text in texts for word in text} == {"a", "good", "film"}
    assert len({len(text) for text in texts}) > 2
