# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy", "onnxruntime>=1.31,<2", "onnxscript==0.7.*", "tokenizers", "torch==2.13.*", "transformers==5.24.*",
# ]
# ///
"""A Hugging Face transformer that classifies texts as a package for FyreToolkit.

    uv run scripts/examples/transformer_model.py distilbert/distilbert-base-uncased-finetuned-sst-2-english /tmp/sst2

The first argument is a name on the hub or a folder that `save_pretrained` wrote. `uv run` brings a PyTorch; to use one
that is installed, run it with `python`, with transformers, onnxscript and onnxruntime beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

TEXTS = ["a joy from start to end", "dull", "I would not watch it again, whatever anybody says!"]


def export(source: str, path: Path) -> tuple[Tokenizer, dict[str, Any], np.ndarray]:
    """Writes the graph, rows and tokens open; gives tokenizer, model.yaml and the model's own logits of `TEXTS`."""
    import torch  # not above: the tests read the rest of this file where there is no PyTorch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(source).eval()
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    torch.onnx.export(
        model, (), path, kwargs=inputs, dynamo=True, input_names=list(inputs), output_names=["logits"],
        dynamic_shapes=dict.fromkeys(inputs, axes),
        external_data=False,  # else the weights are a second file, which the platform does not read
    )  # fmt: skip
    labels = [model.config.id2label[number] for number in range(model.config.num_labels)]
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    said = manifest(Path(path).parent.name, labels, longest)
    return tokenizer.backend_tokenizer, said, model(**inputs).logits.detach().numpy()


def manifest(model_id: str, labels: list[str], longest: int) -> dict[str, Any]:
    """What the graph cannot say: the classes' names, that the scores are logits, where texts are cut."""
    return {
        "id": model_id,
        "description": "A Hugging Face transformer that classifies texts.",
        "preprocessing": {"tokenizer": {"max_length": longest}},
        "outputs": {"probabilities": "logits", "softmax": True, "labels": labels},
        "example": TEXTS[0],
    }


def write_package(folder: Path, tokenizer: Tokenizer, said: dict[str, Any]) -> None:
    """tokenizer.json and model.yaml beside the graph."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.yaml").write_text(json.dumps(said, indent=2), "utf-8")  # JSON is YAML too


def check(folder: Path, expected: np.ndarray) -> None:
    """Asks the written package, all texts in one call, what the model was asked, and compares."""
    lines = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(TEXTS)
    columns = {
        "input_ids": [line.ids for line in lines],
        "attention_mask": [line.attention_mask for line in lines],
        "token_type_ids": [line.type_ids for line in lines],
    }
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = {taken.name: columns[taken.name] for taken in session.get_inputs()}
    np.testing.assert_allclose(session.run(["logits"], inputs)[0], expected, rtol=0, atol=1e-3)
    print(f"the graph answers {len(TEXTS)} texts as the model does, to 0.001")


def main() -> None:
    """Loads, exports, compares, and says how to go on."""
    source, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, said, expected = export(source, folder / "model.onnx")
    write_package(folder, tokenizer, said)
    check(folder, expected)
    print(f"Next:\n  fyre deploy {folder} --region us-east-1")
    print(f'  fyre predict {said["id"]} "{TEXTS[0]}" "{TEXTS[1]}"')


if __name__ == "__main__":
    main()
