"""Text models behind a tokenizer: ids by hand, padding, truncation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import Codec, ItemError
from fyretoolkit.models.runner import ModelRunner, Prediction
from tests.support.model_packages import load_runner, word_tokenizer
from tests.support.onnx_graphs import echo, token_sum


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


PADDING = {
    "strategy": "BatchLongest",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}


@pytest.mark.parametrize("direction", ["Right", "Left"])
@pytest.mark.parametrize(
    "graph", [token_sum(), echo("int64", ["N", "T"], name="input_ids")], ids=["mask", "ids"]
)
def test_a_trimmed_row_is_what_its_text_is_alone(tmp_path: Path, graph: bytes, direction: str) -> None:
    """Whether a mask says what is padding or the padding token does, on either side."""
    tokenizer = {**json.loads(word_tokenizer()), "padding": {**PADDING, "direction": direction}}
    codec = load_runner(tmp_path, graph, None, json.dumps(tokenizer)).codec
    texts = ["", "a", "a good bad film", "good film"]
    together = codec.decode(texts).arrays
    for row, text in enumerate(texts):
        trimmed = codec.trim({name: array[row : row + 1] for name, array in together.items()})
        alone = codec.decode([text]).arrays
        assert {name: array.tolist() for name, array in trimmed.items()} == {
            name: array.tolist() for name, array in alone.items()
        }
    pair = codec.trim({name: array[[1, 3]] for name, array in together.items()})
    assert pair["input_ids"].shape == (2, 2)


def test_an_ordinary_token_that_pads_is_not_trimmed(tmp_path: Path) -> None:
    """Without a padding token and without a mask, an id of 0 may be a word of the text."""
    tokenizer = word_tokenizer().replace("[PAD]", "!")
    codec = load_runner(tmp_path, echo("int64", ["N", "T"], name="input_ids"), None, tokenizer).codec
    arrays = codec.decode(["film !", "a good bad film"]).arrays
    assert codec.trim({"input_ids": arrays["input_ids"][:1]})["input_ids"].tolist() == [[5, 0, 0, 0]]


def test_fixed_lengths_are_not_trimmed(tmp_path: Path) -> None:
    """The graph or the owner asks for them."""
    manifest = "preprocessing: {tokenizer: {max_length: 3, padding: max_length}}"
    codec = load_runner(tmp_path, token_sum(), manifest, word_tokenizer()).codec
    assert codec.trim(codec.decode(["a"]).arrays)["input_ids"].shape == (1, 3)


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
