"""Text models behind a tokenizer: ids by hand, padding, truncation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import Codec, ItemError
from fyretoolkit.models.runner import ModelRunner, Prediction
from tests.support.model_packages import load_runner, word_tokenizer
from tests.support.onnx_graphs import token_sum


def totals(runner: ModelRunner, *items: object) -> list[object]:
    return [
        outcome.result["total"] if isinstance(outcome, Prediction) else outcome.path
        for outcome in runner.predict(items)
    ]


def test_ids_and_mask_of_texts_of_different_lengths(tmp_path: Path) -> None:
    """a 2, good 3, bad 4, film 5, anything else 1; padding counts nothing."""
    runner = load_runner(tmp_path, token_sum(), None, word_tokenizer())
    arrays = runner.codec.decode(["a good film", "bad", "splendid Film"]).arrays
    assert arrays["input_ids"].tolist() == [[2, 3, 5], [4, 0, 0], [1, 5, 0]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert totals(runner, "a good film", {"text": "bad"}, "splendid Film", "") == [10.0, 4.0, 6.0, 0.0]


def test_a_text_has_the_same_answer_alone_and_in_company(tmp_path: Path) -> None:
    """Padding is masked; an empty text still has one column."""
    runner = load_runner(tmp_path, token_sum(), None, word_tokenizer())
    texts = ["", "a", "a good bad film"]
    assert totals(runner, *texts) == [totals(runner, text)[0] for text in texts]


def test_long_texts_are_cut_and_short_ones_padded_to_max_length(tmp_path: Path) -> None:
    """padding: max_length gives every call the same shape."""
    manifest = "preprocessing: {tokenizer: {max_length: 2, padding: max_length}}"
    runner = load_runner(tmp_path, token_sum(), manifest, word_tokenizer())
    assert runner.codec.decode(["bad"]).arrays["input_ids"].tolist() == [[4, 0]]
    assert totals(runner, "a good film") == [5.0]


def test_a_graph_of_fixed_length_is_padded_to_it(tmp_path: Path) -> None:
    """Whatever max_length says."""
    runner = load_runner(tmp_path, token_sum(3), None, word_tokenizer())
    assert totals(runner, "a", "a a a a a") == [2.0, 6.0]


@pytest.mark.parametrize(
    ("item", "path"),
    [(None, ""), (3, ""), (["a"], ""), ({"text": 3}, ".text"), ({"txt": "a"}, ".txt"), ("\ud800", "")],
)
def test_what_is_no_text_is_an_error(tmp_path: Path, item: object, path: str) -> None:
    """Its neighbours stay."""
    runner = load_runner(tmp_path, token_sum(), None, word_tokenizer())
    first, second = runner.predict([item, "a"])
    assert isinstance(first, ItemError)
    assert first.path == path
    assert isinstance(second, Prediction)


@pytest.mark.parametrize("tokenizer", [None, "", "{}", '{"version": "1.0", "model": {"type": "Nope"}}'])
def test_a_missing_or_broken_tokenizer_is_an_invalid_package(tmp_path: Path, tokenizer: str | None) -> None:
    """The library's own exceptions stay inside."""
    spec = load_runner(tmp_path, token_sum(), None, word_tokenizer()).spec
    with pytest.raises(PlatformError) as caught:
        Codec(spec, tokenizer)
    assert caught.value.code == "invalid_package"
