"""Model packages on disk and runners over them, from the bytes of a graph."""

from __future__ import annotations

import json
from pathlib import Path

from fyretoolkit.models.package import PackageFiles, files_in
from fyretoolkit.models.runner import ModelRunner
from fyretoolkit.models.session import open_session
from fyretoolkit.models.spec import resolve


def write_package(
    folder: Path, graph: bytes, manifest: str | None = None, tokenizer: str | None = None
) -> PackageFiles:
    """The package with these contents, written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph)
    if manifest is not None:
        (folder / "model.yaml").write_text(manifest, "utf-8")
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer, "utf-8")
    return files_in(folder)


def load_runner(
    folder: Path, graph: bytes, manifest: str | None = None, tokenizer: str | None = None
) -> ModelRunner:
    """A runner over a graph, its spec resolved in this process."""
    files = write_package(folder, graph, manifest, tokenizer)
    signature = open_session(files.onnx).signature
    spec = resolve(files.manifest, signature, has_tokenizer=files.tokenizer is not None)
    return ModelRunner.load(files, spec)


def word_tokenizer() -> str:
    """tokenizer.json of a tokenizer that knows a few words: [PAD] 0, [UNK] 1, a 2, good 3, bad 4, film 5."""
    words = ["[PAD]", "[UNK]", "a", "good", "bad", "film"]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": 0, "content": "[PAD]", **special},
                {"id": 1, "content": "[UNK]", **special},
            ],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: number for number, word in enumerate(words)},
                "unk_token": "[UNK]",
            },
        }
    )
