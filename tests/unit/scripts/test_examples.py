"""The examples of models of one's own: what they write is a package that the platform reads and answers rightly from.

scikit-learn is in the tests' environment and PyTorch, ten times as large, is not: where it is missing, a graph with
the same inputs and outputs stands in for its export, and everything else is the script's own.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import parser
from packaging.requirements import Requirement
from tokenizers import Tokenizer

from fyretoolkit.models.inspection import inspect
from fyretoolkit.models.package import files_in
from fyretoolkit.models.runner import ModelRunner, Prediction
from fyretoolkit.settings import PROJECT_ROOT
from tests.support.model_packages import word_tokenizer

EXAMPLES = PROJECT_ROOT / "scripts" / "examples"
FOLDER_OF_GUIDES = PROJECT_ROOT / "platform" / "fyretoolkit" / "guides"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
HEAVY = {"onnxscript", "torch", "transformers"}
"""What the tests' environment leaves out."""
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Where an import's name and the package's differ."""
HAS_PYTORCH = (
    importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None
)


def script(name: str) -> ModuleType:
    """An example, imported from its file."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object) -> str:
    """What an example says, run as a program."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def runner(folder: Path) -> ModelRunner:
    """The package as a replica holds it, its first inference in the sandbox done."""
    files = files_in(folder)
    return ModelRunner.load(files, inspect(files, 60))


def results(loaded: ModelRunner, items: list[Any]) -> list[dict[str, Any]]:
    outcomes = loaded.predict(items)
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    return [dict(outcome.result) for outcome in outcomes if isinstance(outcome, Prediction)]


def test_the_platform_answers_as_the_scikit_learn_pipeline(tmp_path: Path) -> None:
    """Flowers sent by name, the names in another order than the columns; the pipeline, trained again, is the oracle."""
    folder = tmp_path / "iris"
    assert f"fyre deploy {folder} --region" in run("scikit_learn_model", folder)
    pipeline, rows = script("scikit_learn_model").train()
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    items = [dict(reversed(list(zip(names, row.tolist(), strict=True)))) for row in rows]
    loaded = runner(folder)
    assert (loaded.spec.id, loaded.spec.kind) == ("iris", "features")
    assert loaded.max_batch_size > 1
    given = results(loaded, items)
    assert [result["label"] for result in given] == pipeline.predict(rows).tolist()
    assert [list(result["probabilities"]) for result in given] == [pipeline.classes_.tolist()] * len(rows)
    probabilities = [list(result["probabilities"].values()) for result in given]
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(rows), rtol=0, atol=1e-5)


def test_the_platform_answers_as_the_model_behind_a_tokenizer(tmp_path: Path) -> None:
    """Texts go in as texts; the regression over the tokenizer's counts is the oracle, of unknown and no words too."""
    folder = tmp_path / "wishes"
    assert 'fyre predict wishes "' in run("tokenizer_model", folder)
    example = script("tokenizer_model")
    known = [(text, wish) for wish, texts in example.WISHES.items() for text in texts.split("|")]
    tokenizer, regression = example.train([text for text, _ in known], [wish for _, wish in known])
    texts = [*(text for text, _ in known), "WHERE IS MY PARCEL?", "Ωμέγα 42", ""]
    expected = regression.predict_proba(example.counts(tokenizer, texts))
    loaded = runner(folder)
    assert (loaded.spec.id, loaded.spec.kind) == ("wishes", "text")
    assert loaded.max_batch_size > 1
    given = results(loaded, texts)
    np.testing.assert_allclose(
        [list(result["probabilities"].values()) for result in given], expected, rtol=0, atol=1e-5
    )
    assert [result["label"] for result in given[: len(known)]] == [wish for _, wish in known]


MEAN_OF_HOURS = """\
<ir_version: 9, opset_import: ["": 18]>
stand_in (float[rows, 24] hours) => (float[rows, 1] forecast) {
  axis = Constant <value_ints = [1]> ()
  forecast = ReduceMean (hours, axis)
}"""
SUM_OF_TOKENS = """\
<ir_version: 9, opset_import: ["": 18]>
stand_in (int64[rows, tokens] input_ids, int64[rows, tokens] attention_mask) => (float[rows, 2] logits) {
  kept = Mul (input_ids, attention_mask)
  axis = Constant <value_ints = [1]> ()
  total = ReduceSum (kept, axis)
  score = Cast <to = 1> (total)
  other = Neg (score)
  logits = Concat <axis = 1> (other, score)
}"""


def write_graph(folder: Path, text: str) -> None:
    """model.onnx from ONNX's own notation."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(parser.parse_model(text).SerializeToString())


def test_the_pytorch_package_takes_hours_and_gives_a_forecast(tmp_path: Path) -> None:
    """A list of 24 numbers in, one number under the output's own name out; the script's comparison can fail."""
    example = script("pytorch_model")
    folder = tmp_path / "next-hour"
    write_graph(folder, MEAN_OF_HOURS)
    (folder / "model.yaml").write_text(example.MANIFEST, "utf-8")
    loaded = runner(folder)
    assert (loaded.spec.id, loaded.spec.kind) == ("next-hour", "tensor")
    hours, following = example.curves(5)
    means = hours.mean(axis=1, keepdims=True)
    assert following.shape == means.shape
    assert [result["forecast"] for result in results(loaded, hours.tolist())] == pytest.approx(
        means[:, 0].tolist()
    )
    example.check(folder / "model.onnx", hours, means)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        example.check(folder / "model.onnx", hours, means + 0.01)


def test_the_transformers_package_takes_texts_and_gives_classes(tmp_path: Path) -> None:
    """tokenizer.json pads as it did for the export, logits become probabilities; `a` is token 2, other words 1."""
    example = script("transformer_model")
    folder = tmp_path / "verdicts"
    write_graph(folder, SUM_OF_TOKENS)
    tokenizer = Tokenizer.from_str(word_tokenizer())
    tokenizer.enable_padding()
    example.write_package(folder, tokenizer, example.manifest("verdicts", ["NEGATIVE", "POSITIVE"], 8))
    logits = np.array([[-7, 7], [-1, 1], [-11, 11]])
    example.check(folder, logits)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        example.check(folder, logits + 0.01)
    loaded = runner(folder)
    assert (loaded.spec.id, loaded.spec.kind) == ("verdicts", "text")
    given = results(loaded, example.TEXTS)
    positive = 1 / (1 + np.exp(-2 * np.array([7, 1, 8])))  # the last text is cut after its eighth token
    assert [result["probabilities"]["POSITIVE"] for result in given] == pytest.approx(positive.tolist())
    assert {result["label"] for result in given} == {"POSITIVE"}


@pytest.mark.parametrize("name", NAMES)
def test_uv_brings_what_an_example_imports(name: str) -> None:
    """Its first lines are inline script metadata, and name every package in versions like those tested here."""
    source = (EXAMPLES / f"{name}.py").read_text("utf-8")
    lines = re.findall(r"\A# /// script\n((?:#.*\n)+?)# ///\n", source)[0]
    metadata = tomllib.loads(re.sub("^# ?", "", lines, flags=re.MULTILINE))
    assert metadata["requires-python"] == ">=3.11"
    requirements = {found.name: found for found in map(Requirement, metadata["dependencies"])}
    imported = {DISTRIBUTIONS.get(top, top) for top in tops(source)} - sys.stdlib_module_names
    assert imported <= requirements.keys()
    installed = {found.name.removesuffix("-gpu"): found.version for found in distributions()}
    for needed, requirement in requirements.items():
        assert needed in HEAVY or requirement.specifier.contains(installed[needed]), requirement


def test_the_guide_shows_what_the_examples_write() -> None:
    """Its model.yaml are theirs, or parts of them; the versions that it says the tests ran are those that they run."""
    guide = (FOLDER_OF_GUIDES / "own-models.md").read_text("utf-8")
    written = [yaml.safe_load(script(name).MANIFEST) for name in NAMES if name != "transformer_model"]
    shown = [
        yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    ]
    assert len(shown) == len(written)
    assert all(any(part.items() <= whole.items() for whole in written) for part in shown)
    for package in ("scikit-learn", "skl2onnx", "tokenizers"):
        assert f"{package} {version(package)}" in guide
    assert all(f"scripts/examples/{name}.py" in guide for name in NAMES)


def tops(source: str) -> set[str]:
    """The top-level packages that a module imports anywhere."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.split(".")[0]
        for name in plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    }


if HAS_PYTORCH:  # in no lock; whoever works on these two examples puts it into .venv

    def test_pytorch_itself_exports_what_the_platform_reads(tmp_path: Path) -> None:
        """Both scripts run as they stand; each compares its graph with PyTorch's answers."""
        assert "as PyTorch does" in run("pytorch_model", tmp_path / "next-hour")
        assert set(results(runner(tmp_path / "next-hour"), [[1] * 24])[0]) == {"forecast"}
        write_tiny_bert(tmp_path / "source")
        assert "as the model does" in run("transformer_model", tmp_path / "source", tmp_path / "tiny")
        loaded = runner(tmp_path / "tiny")
        assert {result["label"] for result in results(loaded, ["a good film", "bad", ""])} <= {"no", "yes"}

    def write_tiny_bert(folder: Path) -> None:
        """What `save_pretrained` writes, of a network with random weights."""
        import transformers

        config = transformers.BertConfig(
            vocab_size=6, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1},
        )  # fmt: skip
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(word_tokenizer()), pad_token="[PAD]", model_max_length=16
        ).save_pretrained(folder)
