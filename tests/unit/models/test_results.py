"""Outputs to JSON: formats by the output settings, and Python's own types alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import OutputSettings
from fyretoolkit.models.results import encode_results, softmax

SCORES = {"scores": np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 0.0]], dtype=np.float32)}


def test_a_classifier_with_labels_names_its_probabilities() -> None:
    """label, score and one probability for each label."""
    outputs = {"label": np.array(["no"], dtype=object), "p": np.array([[0.75, 0.25]], dtype=np.float32)}
    settings = OutputSettings(label="label", probabilities="p", labels=("no", "yes"))
    assert encode_results(outputs, settings) == [
        {"label": "no", "score": 0.75, "probabilities": {"no": 0.75, "yes": 0.25}}
    ]


def test_without_labels_probabilities_are_a_list() -> None:
    """A bare classifier."""
    outputs = {"label": np.array([[1]]), "p": np.array([[0.25, 0.75]])}
    assert encode_results(outputs, OutputSettings(label="label", probabilities="p")) == [
        {"label": 1, "score": 0.75, "probabilities": [0.25, 0.75]}
    ]


def test_a_class_number_becomes_its_name_unless_the_names_are_numbers() -> None:
    """digits answers 1, not "1"."""
    outputs = {"label": np.array([1, 0])}
    named = encode_results(outputs, OutputSettings(label="label", labels=("no", "yes")))
    assert named == [{"label": "yes"}, {"label": "no"}]
    assert encode_results(outputs, OutputSettings(label="label", labels=(0, 1))) == [
        {"label": 1},
        {"label": 0},
    ]


def test_top_k_is_best_first_and_ends_with_the_classes() -> None:
    """More than there are is all of them."""
    settings = OutputSettings(probabilities="scores", labels=("a", "b", "c"), top_k=2)
    first, second = encode_results(SCORES, settings)
    assert first == {
        "label": "b",
        "score": 3.0,
        "top": [{"label": "b", "score": 3.0}, {"label": "c", "score": 2.0}],
    }
    assert second["label"] == "a"
    (row, _) = encode_results(SCORES, settings.model_copy(update={"top_k": 9}))
    assert [entry["label"] for entry in row["top"]] == ["b", "c", "a"]  # type: ignore[attr-defined]


def test_softmax_by_hand() -> None:
    """e^0 : e^ln3 = 1 : 3, at any offset."""
    logits = np.array([[1000.0, 1000.0 + np.log(3.0)]])
    assert softmax(logits)[0] == pytest.approx([0.25, 0.75], abs=1e-9)


def test_softmax_of_halves_over_more_classes_than_a_half_can_count() -> None:
    """The sum of the exponentials, 70,000, would be infinite and every probability 0; 1 in 70,000 is a half."""
    found = softmax(np.zeros((1, 70_000), np.float16))
    assert found.dtype == np.float16
    assert found[0, 0] == np.float16(1 / 70_000) != 0


def test_argmax_overrules_the_label_output() -> None:
    """The setting says so."""
    outputs: dict[str, np.ndarray] = {"label": np.array([0, 0]), **SCORES}
    settings = OutputSettings(label="label", probabilities="scores", argmax=True)
    assert [row["label"] for row in encode_results(outputs, settings)] == [1, 0]


def test_other_outputs_are_answered_by_name() -> None:
    """[N] and [N, 1] are scalars, more is nested."""
    outputs: dict[str, np.ndarray] = {
        "a": np.array([1, 2], dtype=np.int32),
        "b": np.array([[0.5], [1.5]], dtype=np.float16),
        "c": np.zeros((2, 1, 2), dtype=bool),
        "d": np.array(["x", "y"], dtype=object),
        "e": np.array([np.inf, np.nan], dtype=np.float16),
    }
    results = encode_results(outputs, OutputSettings())
    assert results[1] == {"a": 2, "b": 1.5, "c": [[False, False]], "d": "y", "e": None}
    assert type(results[0]["a"]) is int
    assert type(results[0]["b"]) is float


def test_nan_and_infinities_are_null() -> None:
    """JSON has no word for them."""
    outputs = {"label": np.array([0]), "p": np.array([[np.nan, 1.0]], dtype=np.float32)}
    results = encode_results(outputs, OutputSettings(label="label", probabilities="p"))
    assert results == [{"label": 0, "score": None, "probabilities": [None, 1.0]}]
    infinite = encode_results(
        {"p": np.array([[np.inf, 1.0]])}, OutputSettings(probabilities="p", softmax=True)
    )
    json.dumps(infinite, allow_nan=False)


@pytest.mark.parametrize(
    "outputs",
    [
        {"p": np.zeros((2, 3)), "q": np.zeros(1)},
        {"p": np.zeros(())},
        {"p": np.zeros((2, 2))},
        {"p": np.zeros(2)},
    ],
)
def test_outputs_without_a_row_an_input_are_refused(outputs: dict[str, np.ndarray]) -> None:
    """A result must belong to one input, and a probability to one label."""
    with pytest.raises(PlatformError) as caught:
        encode_results(outputs, OutputSettings(probabilities="p", labels=("a", "b", "c")))
    assert caught.value.code == "signature_mismatch"
