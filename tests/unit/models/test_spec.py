"""Resolving manifest and signature: defaults of a bare graph, and every disagreement."""

from __future__ import annotations

import json

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import parse_manifest
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import ModelSpec, resolve

LABEL = TensorSpec("output_label", "int64", (None,))
PROBABILITIES = TensorSpec("output_probability", "float32", (None, 3))


def one(
    dtype: str, *shape: int | None, outputs: tuple[TensorSpec, ...] = (LABEL, PROBABILITIES)
) -> Signature:
    return Signature((TensorSpec("x", dtype, shape),), outputs)


def tokens(*names: str) -> Signature:
    logits = TensorSpec("logits", "float32", (None, 3))
    return Signature(tuple(TensorSpec(name, "int64", (None, None)) for name in names), (logits,))


def test_a_single_string_input_is_text() -> None:
    """Both ranks that exporters write."""
    assert resolve(None, one("string", None, 1)).kind == "text"
    assert resolve(None, one("string", None)).kind == "text"


def test_a_single_numeric_input_is_a_tensor_with_zeros_as_example() -> None:
    """An open length counts one."""
    spec = resolve(None, one("float32", None, 2, None))
    assert spec.kind == "tensor"
    assert spec.example == [[0.0], [0.0]]


def test_several_scalar_inputs_are_features() -> None:
    """One ONNX input per feature, mixed types."""
    inputs = (TensorSpec("age", "int64", (None, 1)), TensorSpec("city", "string", (None, 1)))
    spec = resolve(None, Signature(inputs, (LABEL,)))
    assert spec.kind == "features"
    assert spec.example == {"age": 0, "city": "an example"}


def test_usual_classifier_outputs_are_recognised() -> None:
    """The shapes of skl2onnx; anything else is answered by name."""
    outputs = resolve(None, one("float32", None, 4)).outputs
    assert (outputs.label, outputs.probabilities) == ("output_label", "output_probability")
    scores = TensorSpec("scores", "float32", (None, 1))
    plain = resolve(None, one("float32", None, 4, outputs=(LABEL, scores))).outputs
    assert (plain.label, plain.probabilities) == (None, None)


def test_a_batch_axis_fixed_to_one_is_never_batched() -> None:
    """Vision exporters often write [1, 3, 224, 224]."""
    assert resolve(parse_manifest("max_batch_size: 8"), one("float32", 1, 3)).max_batch_size == 1


def test_a_spec_survives_json() -> None:
    """Redis holds it as JSON; a newer writer's fields are ignored."""
    manifest = parse_manifest(
        "{id: m, inputs: {features: [a, b]}, resources: {threads: 3}, example: {a: 1, b: 2}}"
    )
    spec = resolve(manifest, one("float32", None, 2))
    written = json.loads(json.dumps(spec.to_json()))
    assert ModelSpec.from_json(written) == spec
    assert ModelSpec.from_json({**written, "of_tomorrow": 1}) == spec


def test_a_tokenizer_feeds_a_token_graph() -> None:
    """With or without a word of it in model.yaml."""
    signature = tokens("input_ids", "attention_mask")
    assert resolve(None, signature, has_tokenizer=True).kind == "text"
    assert resolve(None, signature).kind == "tensor"


@pytest.mark.parametrize(
    ("manifest", "signature"),
    [
        ("", one("float32")),
        ("", one("float32", 7, 3)),
        ("", one("float32", None, 0)),
        ("", Signature((), (LABEL,))),
        ("inputs: {name: pixels}", one("float32", None, 2)),
        ("inputs: {kind: text}", one("float32", None, 2)),
        ("inputs: {kind: text}", one("string", None, 2)),
        ("inputs: {features: [a, b, c]}", one("float32", None, 2)),
        ("inputs: {features: [a]}", one("string", None, 1)),
        ("inputs: {features: [a]}", tokens("a", "b")),
        ("inputs: {kind: features}", tokens("a", "b")),
        ("outputs: {label: kind}", one("float32", None, 2)),
        ("outputs: {labels: [a, b]}", one("float32", None, 2)),
        ("outputs: {probabilities: output_label}", one("float32", None, 2)),
        (
            "outputs: {softmax: true}",
            one("float32", None, 2, outputs=(PROBABILITIES, TensorSpec("y", "bool", (None,)))),
        ),
    ],
)
def test_disagreement_with_the_graph_is_a_signature_mismatch(manifest: str, signature: Signature) -> None:
    """Nothing is guessed."""
    with pytest.raises(PlatformError) as caught:
        resolve(parse_manifest(manifest), signature)
    assert caught.value.code == "signature_mismatch"


@pytest.mark.parametrize(
    ("manifest", "has_tokenizer", "code"),
    [
        ("inputs: {kind: features}", False, "invalid_manifest"),
        ("inputs: {kind: tensor, features: [a, b]}", False, "invalid_manifest"),
        ("preprocessing: {tokenizer: {}}", False, "invalid_manifest"),
        ("preprocessing: {tokenizer: {}}", True, "signature_mismatch"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(manifest: str, has_tokenizer: bool, code: str) -> None:
    """The code tells whether model.yaml alone is at fault."""
    with pytest.raises(PlatformError) as caught:
        resolve(parse_manifest(manifest), one("float32", None, 2), has_tokenizer=has_tokenizer)
    assert caught.value.code == code


def test_a_tokenizer_and_another_kind_contradict() -> None:
    """A tokenizer takes text."""
    manifest = parse_manifest("{inputs: {kind: tensor}, preprocessing: {tokenizer: {}}}")
    with pytest.raises(PlatformError) as caught:
        resolve(manifest, tokens("input_ids"), has_tokenizer=True)
    assert caught.value.code == "invalid_manifest"
