"""model.yaml: what is accepted, and that every mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import MAX_MANIFEST_BYTES, Manifest, Resources, parse_manifest, read_manifest

FULL = """
id: my-model
description: All fields at once.
inputs: {kind: text, name: text}
preprocessing: {tokenizer: {max_length: 128, padding: max_length}}
outputs: {probabilities: logits, labels: [no, maybe, yes], softmax: true, argmax: true, top_k: 2}
max_batch_size: 16
resources: {num_cpus: 0.5, num_gpus: 0.25, accelerator_type: A100, threads: 2}
autoscaling: {min_replicas: 2, max_replicas: 4, target_ongoing_requests: 8}
example: a text
"""


def test_a_full_manifest_is_read() -> None:
    """Every documented field arrives; YAML's `no` and `yes` are quoted by nobody, and refused as labels by nobody."""
    manifest = parse_manifest(FULL.replace("[no, maybe, yes]", "['no', maybe, 'yes']"))
    assert manifest.id == "my-model"
    assert manifest.preprocessing.tokenizer is not None
    assert manifest.preprocessing.tokenizer.max_length == 128
    assert manifest.outputs.labels == ("no", "maybe", "yes")
    assert manifest.resources.num_gpus == 0.25
    assert manifest.autoscaling is not None
    assert manifest.autoscaling.max_replicas == 4


def test_an_empty_document_is_a_manifest_of_defaults() -> None:
    """Every field is optional."""
    assert parse_manifest("") == Manifest()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("max_batchsize: 3", "max_batchsize"),
        ("inputs: {kind: image}", "inputs.kind"),
        ("inputs: {features: [a, b, a]}", "inputs.features"),
        ("outputs: {labels: [1, '1']}", "outputs.labels"),
        ("outputs: {raw: true, top_k: 3}", "raw"),
        ("max_batch_size: 0", "max_batch_size"),
        ("resources: {num_gpus: -1}", "resources.num_gpus"),
        ("resources: {num_gpus: 1.5}", "resources.num_gpus"),
        ("resources: {num_gpus: 0.00009}", "num_gpus: use"),
        ("resources: {num_cpus: 0.00009}", "num_cpus: use"),
        ("autoscaling: {min_replicas: 3, max_replicas: 2}", "autoscaling"),
        ("autoscaling: {min_replicas: -1}", "autoscaling.min_replicas"),
        ("autoscaling: {min_replicas: 0, max_replicas: 0}", "autoscaling.max_replicas"),
        ("id: My Model", "id"),
        ("example: 2020-01-01", "example"),
        ("[1, 2]", "the document"),
        ("a: [", "YAML"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("!!python/object/apply:os.system [ls]", "YAML"),
        ("[" * 5000, "YAML"),
    ],
)
def test_a_mistake_is_named(text: str, named: str) -> None:
    """The message leads to the field; nothing of YAML's own exceptions gets out."""
    with pytest.raises(PlatformError, match=named) as caught:
        parse_manifest(text)
    assert caught.value.code == "invalid_manifest"


def test_what_is_asked_of_a_new_manifest_is_not_asked_of_a_stored_one() -> None:
    """A model that was registered before may be served all the same: a deployment says what its replicas get."""
    assert Resources.model_validate({"num_cpus": 0.00009, "num_gpus": 0.00009}).num_gpus == 0.00009


def test_a_file_too_large_or_not_utf8_is_refused(tmp_path: Path) -> None:
    """Size is looked at before parsing."""
    path = tmp_path / "model.yaml"
    for content in (b"#" * (MAX_MANIFEST_BYTES + 1), b"id: \xff"):
        path.write_bytes(content)
        with pytest.raises(PlatformError) as caught:
            read_manifest(path)
        assert caught.value.code == "invalid_manifest"
