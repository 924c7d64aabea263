"""A model as it is served: the manifest and the graph's signature resolved into one JSON-ready record.

The API keeps the spec in Redis with the model; any process builds a codec from it, without the artifact and without
ONNX Runtime. `resolve` is pure. Its defaults make a bare `.onnx` usable; where the manifest and the graph disagree it
raises instead of guessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, field_serializer, field_validator

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import (
    Autoscaling,
    InputSettings,
    Manifest,
    OutputSettings,
    Resources,
    TokenizerSettings,
)
from fyretoolkit.models.signature import FLOATS, INTEGERS, STRING, Signature, TensorSpec

DEFAULT_MAX_BATCH_SIZE = 64
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

Kind = Literal["text", "features", "tensor"]


class ModelSpec(BaseModel):
    """Everything needed to turn a caller's JSON into arrays and back, and to place a replica."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    id: str | None = None
    description: str = ""
    kind: Kind
    signature: Signature
    features: tuple[str, ...] | None = None
    """The columns of the one input tensor, for kind `features` over a single input."""
    tokenizer: TokenizerSettings | None = None
    """Set when texts go through tokenizer.json."""
    outputs: OutputSettings
    max_batch_size: int
    """The most rows of one inference: 1 where an inspection found that rows must run alone."""
    is_batch_size_chosen: bool = False
    """Whether model.yaml sets it; else each deployment measures what is best."""
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    example: JsonValue = None
    """One item of `inputs` that fits."""
    schema_version: int = 1

    @field_validator("signature", mode="before")
    @classmethod
    def _read_signature(cls, value: object) -> object:
        return Signature.from_json(value) if isinstance(value, Mapping) else value

    @field_serializer("signature")
    def _write_signature(self, signature: Signature) -> dict[str, object]:
        return signature.to_json()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` reads it back."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_json`; fields written by a newer version are ignored."""
        return cls.model_validate(dict(value))


def resolve(manifest: Manifest | None, signature: Signature, *, has_tokenizer: bool = False) -> ModelSpec:
    """The spec of a model with this graph; `has_tokenizer`: the package carries a tokenizer.json.

    Raises:
        PlatformError: `signature_mismatch`, manifest and graph disagree, or the graph cannot be served;
            `invalid_manifest`, the manifest contradicts itself.
    """
    manifest = manifest or Manifest()
    _check_axes(signature)
    tokenizer = _resolve_tokenizer(manifest, signature, has_tokenizer)
    kind = _resolve_kind(manifest.inputs, signature, tokenizer)
    _check_inputs(kind, manifest.inputs, signature, tokenizer)
    features = manifest.inputs.features if len(signature.inputs) == 1 else None
    return ModelSpec(
        id=manifest.id,
        description=manifest.description,
        kind=kind,
        signature=signature,
        features=features,
        tokenizer=tokenizer,
        outputs=_resolve_outputs(manifest.outputs, signature),
        max_batch_size=1
        if has_fixed_batch_axis(signature)
        else manifest.max_batch_size or DEFAULT_MAX_BATCH_SIZE,
        is_batch_size_chosen=manifest.max_batch_size is not None and not has_fixed_batch_axis(signature),
        resources=manifest.resources,
        autoscaling=manifest.autoscaling,
        example=_example(kind, signature, features) if manifest.example is None else manifest.example,
    )


def _mismatch(message: str) -> PlatformError:
    return PlatformError("signature_mismatch", message)


def _check_axes(signature: Signature) -> None:
    if not signature.inputs or not signature.outputs:
        raise _mismatch("The graph has no inputs or no outputs; export it with both.")
    for spec in signature.inputs:
        if not spec.shape:
            raise _mismatch(
                f"Input {spec.name!r} has no batch axis; export it with a first axis of open length."
            )
        if 0 in spec.shape or spec.shape[0] not in (None, 1):
            raise _mismatch(
                f"Input {spec.name!r} has the fixed shape {list(spec.shape)}; "
                "export it with a first axis of open length (dynamic batch)."
            )


def _resolve_tokenizer(
    manifest: Manifest, signature: Signature, has_tokenizer: bool
) -> TokenizerSettings | None:
    settings = manifest.preprocessing.tokenizer
    names = [spec.name for spec in signature.inputs]
    takes_tokens = "input_ids" in names and set(names) <= set(TOKEN_INPUTS)
    if settings is None:
        return TokenizerSettings() if has_tokenizer and takes_tokens else None
    if not has_tokenizer:
        raise PlatformError(
            "invalid_manifest", "preprocessing.tokenizer needs a tokenizer.json in the package."
        )
    if not takes_tokens:
        raise _mismatch(
            f"A tokenizer feeds {', '.join(TOKEN_INPUTS)}, but the graph takes {', '.join(names)}."
        )
    return settings


def _resolve_kind(inputs: InputSettings, signature: Signature, tokenizer: TokenizerSettings | None) -> Kind:
    if inputs.kind is not None:
        return inputs.kind
    if tokenizer is not None:
        return "text"
    if inputs.features is not None:
        return "features"
    first, *others = signature.inputs
    if not others:
        return "text" if first.dtype == STRING and first.is_scalar_row else "tensor"
    return "features" if all(spec.is_scalar_row for spec in signature.inputs) else "tensor"


def _check_inputs(
    kind: Kind, inputs: InputSettings, signature: Signature, tokenizer: TokenizerSettings | None
) -> None:
    first, *others = signature.inputs
    if inputs.name is not None and inputs.name not in [spec.name for spec in signature.inputs]:
        raise _mismatch(f"inputs.name is {inputs.name!r}, but the graph takes {first.name!r}.")
    if tokenizer is not None:
        if kind != "text":
            raise PlatformError("invalid_manifest", "A tokenizer needs inputs.kind text.")
        _check_token_inputs(signature)
    elif kind == "text":
        if others or first.dtype != STRING or not first.is_scalar_row:
            raise _mismatch("inputs.kind text needs a graph with one string input of shape [N] or [N, 1].")
    elif kind == "features":
        _check_features(inputs.features, signature)
    if inputs.features is not None and kind != "features":
        raise PlatformError("invalid_manifest", "inputs.features needs inputs.kind features.")


def _check_token_inputs(signature: Signature) -> None:
    for spec in signature.inputs:
        if spec.dtype not in INTEGERS or len(spec.row_shape) != 1:
            raise _mismatch(
                f"Input {spec.name!r} must hold whole numbers of shape [N, tokens] to take tokens."
            )


def _check_features(features: tuple[str, ...] | None, signature: Signature) -> None:
    first, *others = signature.inputs
    if others:
        names = {spec.name for spec in signature.inputs}
        if features is not None and set(features) != names:
            difference = ", ".join(sorted(names ^ set(features)))
            raise _mismatch(f"inputs.features and the graph's inputs differ in: {difference}.")
        if not all(spec.is_scalar_row for spec in signature.inputs):
            raise _mismatch("inputs.kind features needs one value a row in each input; use kind tensor.")
        return
    if features is None:
        raise PlatformError(
            "invalid_manifest", "inputs.features must name the columns of the input, in order."
        )
    columns = 1 if first.row_shape == () else first.row_shape[0] if len(first.row_shape) == 1 else -1
    if first.dtype == STRING or columns not in (None, len(features)):
        raise _mismatch(
            f"inputs.features names {len(features)} numbers, but the graph's input {first.name!r} is "
            f"{first.dtype}{list(first.shape)}."
        )


def _resolve_outputs(outputs: OutputSettings, signature: Signature) -> OutputSettings:
    by_name = {spec.name: spec for spec in signature.outputs}
    for name in (outputs.label, outputs.probabilities):
        if name is not None and name not in by_name:
            raise _mismatch(f"outputs names {name!r}, but the graph gives {', '.join(by_name)}.")
    if outputs.raw:
        return outputs
    label, probabilities = _classification_outputs(signature)
    wants_classes = bool(outputs.labels or outputs.softmax or outputs.argmax or outputs.top_k)
    if wants_classes and probabilities is None and len(by_name) == 1:
        probabilities = next(iter(by_name))
    resolved = outputs.model_copy(
        update={
            "label": outputs.label or (label if outputs.probabilities in (None, probabilities) else None),
            "probabilities": outputs.probabilities or probabilities,
        }
    )
    if wants_classes and resolved.probabilities is None and resolved.label is None:
        raise _mismatch(
            "outputs.labels, softmax, argmax and top_k need outputs.probabilities to name an output."
        )
    if resolved.probabilities is not None:
        _check_probabilities(by_name[resolved.probabilities], resolved)
    return resolved


def _check_probabilities(spec: TensorSpec, outputs: OutputSettings) -> None:
    if spec.dtype not in FLOATS or (spec.shape and len(spec.shape) != 2):
        raise _mismatch(f"Output {spec.name!r} must be floats of shape [N, classes] to hold probabilities.")
    classes = spec.shape[1] if spec.shape else None
    if outputs.labels is not None and classes not in (None, len(outputs.labels)):
        raise _mismatch(
            f"outputs.labels names {len(outputs.labels)} classes, but {spec.name!r} has {classes}."
        )


def _classification_outputs(signature: Signature) -> tuple[str | None, str | None]:
    """(label, probabilities) if the outputs are what skl2onnx and its kin write for a classifier, else Nones."""
    if len(signature.outputs) != 2:
        return None, None
    label, scores = signature.outputs
    is_label = label.dtype in (STRING, "int64") and len(label.shape) <= 2 and "label" in label.name.lower()
    is_scores = scores.dtype in FLOATS and len(scores.shape) == 2 and "prob" in scores.name.lower()
    return (label.name, scores.name) if is_label and is_scores else (None, None)


def has_fixed_batch_axis(signature: Signature) -> bool:
    """Whether the graph takes one row at a time, by its own signature."""
    return any(spec.shape[0] == 1 for spec in signature.inputs)


def _example(kind: Kind, signature: Signature, features: tuple[str, ...] | None) -> JsonValue:
    """The plainest item that fits, for a package that shows none."""
    if kind == "text":
        return "an example"
    if features is not None:
        return dict.fromkeys(features, 0.0)
    values = {
        spec.name: _zeros(spec, () if spec.is_scalar_row else spec.row_shape) for spec in signature.inputs
    }
    return values if len(values) > 1 else next(iter(values.values()))


def _zeros(spec: TensorSpec, shape: tuple[int | None, ...]) -> JsonValue:
    if shape:
        return [_zeros(spec, shape[1:]) for _ in range(shape[0] or 1)]
    if spec.dtype == STRING:
        return "an example"
    return False if spec.dtype == "bool" else 0 if spec.dtype in INTEGERS else 0.0
