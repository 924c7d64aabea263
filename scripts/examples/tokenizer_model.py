# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnx==1.23.*", "onnxruntime>=1.31,<2", "scikit-learn==1.9.*", "tokenizers==0.23.*"]
# ///
"""A text model behind a Hugging Face tokenizer as a package for FyreToolkit, without PyTorch.

    uv run scripts/examples/tokenizer_model.py /tmp/wishes

What a customer's message wants: byte pairs (`tokenizers`), a weight of each for each wish (logistic regression). A toy
of a dozen sentences, but all of the way. Callers send texts: the platform runs tokenizer.json before the graph.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import numpy_helper, parser
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

WISHES = {
    "account": "I forgot my password|I cannot sign in|change my email address|my login does not work",
    "delivery": "where is my parcel|my order has not arrived|when will you ship it|the package is late",
    "refund": "I want my money back|refund my order|you charged me twice|the payment was taken twice",
}
MANIFEST = f"""\
id: wishes
description: What a customer's message wants (Hugging Face tokenizer, logistic regression).
preprocessing:
  tokenizer: {{max_length: 128}}
outputs: {{probabilities: logits, softmax: true, labels: [{", ".join(WISHES)}]}}
example: my parcel is late
"""
GRAPH = """\
<ir_version: 9, opset_import: ["": 18]>
wishes (int64[rows, tokens] input_ids, int64[rows, tokens] attention_mask) => (float[rows, 3] logits) {
  of_tokens = Gather (weights, input_ids)
  mask = Cast <to = 1> (attention_mask)
  of_texts = Einsum <equation = "rtw,rt->rw"> (of_tokens, mask)
  logits = Add (of_texts, bias)
}"""


def train(texts: list[str], wishes: list[str]) -> tuple[Tokenizer, LogisticRegression]:
    """The tokenizer, and the regression over how often a text has each token."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106 - a token, no password
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer, LogisticRegression(C=10).fit(counts(tokenizer, texts), wishes)


def counts(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """`(texts, tokens of the vocabulary)`: how often each is there."""
    size = tokenizer.get_vocab_size()
    return np.stack([np.bincount(line.ids, minlength=size) for line in tokenizer.encode_batch(texts)])


def write_package(folder: Path, tokenizer: Tokenizer, regression: LogisticRegression) -> None:
    """model.onnx, model.yaml and tokenizer.json."""
    graph = parser.parse_model(GRAPH)
    for name, values in (("weights", regression.coef_.T), ("bias", regression.intercept_)):
        graph.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "model.yaml").write_text(MANIFEST, "utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


def check(folder: Path, regression: LogisticRegression, texts: list[str]) -> None:
    """Asks the written package, all texts in one call, what the regression was asked, and compares."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = regression.decision_function(counts(tokenizer, texts))
    tokenizer.enable_padding()
    lines = tokenizer.encode_batch(texts)
    inputs = {
        "input_ids": [line.ids for line in lines],
        "attention_mask": [line.attention_mask for line in lines],
    }
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], inputs)[0], expected, rtol=0, atol=1e-4)
    print(f"the graph answers {len(texts)} texts as scikit-learn does, to 0.0001")


def main() -> None:
    """Trains, exports, compares, and says how to go on."""
    folder = Path(sys.argv[1])
    examples = [(text, wish) for wish, texts in WISHES.items() for text in texts.split("|")]
    texts = [text for text, _ in examples]
    tokenizer, regression = train(texts, [wish for _, wish in examples])
    write_package(folder, tokenizer, regression)
    check(folder, regression, [*texts, "where is the refund?", ""])
    print(f"Next:\n  fyre deploy {folder} --region us-east-1")
    print('  fyre predict wishes "Where is my package?" "Please give me my money back!"')


if __name__ == "__main__":
    main()
