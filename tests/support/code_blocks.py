"""The code blocks of the repository's documents, and what becomes of each: run, or held against what was run.

A document is one program: its blocks run in their order in one shell, from the repository's root. So nothing in a
document may depend on what only its reader has, and there is no list of blocks that are left out: a block is of a kind
that is known here, or its document fails.

| written | becomes |
|---|---|
| sh | the next commands of the shell |
| python | a program that the shell runs; blocks with no other kind between them are one program |
| any language and a path below /tmp | that file, which what comes after it must name |
| json | objects that the document has printed before it, but for ids, times and durations |
| yaml | a model.yaml, or a part of configs/platform.yaml, as their readers take it |
| text | a picture, told by its lines and arrows; no command and no answer hides in it |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import Manifest, parse_manifest
from fyretoolkit.settings import PROJECT_ROOT, Settings

FOLDERS = ("batch", "configs", "platform", "scripts", "serve_apps", "tests")
LANGUAGES = ("sh", "python", "json", "yaml", "text")
_PICTURE = re.compile("[─│┌└►▼▲]")
_ID = re.compile(r"\b([a-z]+)_[0-9A-HJKMNP-TV-Z]{26}\b")
_SIGNED = re.compile(r"\?[^\s\"]*token=[^\s\"]*")
_DIFFERENT = ("batch_size", "region")
"""How many rows go together is measured where they run; a prediction that names no region goes to any."""
_FIRST_TIME = 1_600_000_000


@dataclass(frozen=True)
class Block:
    """One fenced block; `file` is the path behind its language."""

    document: str
    line: int
    language: str
    file: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line} ({self.language or 'no language'})"


def documents() -> dict[str, list[Block]]:
    """Every markdown file of the repository that has blocks, by its path."""
    paths = [
        *PROJECT_ROOT.glob("*.md"),
        *(path for name in FOLDERS for path in (PROJECT_ROOT / name).rglob("*.md")),
    ]
    named = {path.relative_to(PROJECT_ROOT).as_posix(): path.read_text("utf-8") for path in sorted(paths)}
    found = {name: list(blocks(name, text)) for name, text in named.items()}
    return {name: inside for name, inside in found.items() if inside}


def blocks(document: str, text: str) -> Iterator[Block]:
    """The blocks of a text, in order; one that is made by indentation has no language."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language, _, file = token.info.strip().partition(" ")
            yield Block(document, token.map[0] + 1, language, file.strip() or None, token.content)


def defects(inside: list[Block]) -> list[str]:
    """What is wrong with a document's blocks before anything runs; a sentence each."""
    found = []
    for at, block in enumerate(inside):
        after = "".join(each.text for each in inside[at + 1 :])
        if block.language not in LANGUAGES:
            found.append(f"{block}: the language is none of {', '.join(LANGUAGES)}")
        elif block.file is not None and (not block.file.startswith("/tmp/") or block.file not in after):
            found.append(f"{block}: {block.file} is not below /tmp, or no block after it names it")
        elif block.file is None and block.language == "text" and not _PICTURE.search(block.text):
            found.append(f"{block}: it is no picture")
        elif block.file is None and block.language == "yaml":
            found += [f"{block}: {each}" for each in _defects_of_yaml(block.text)]
    return found


def _defects_of_yaml(text: str) -> list[str]:
    """None if it is a model.yaml, or sections of the settings."""
    try:
        content = yaml.safe_load(text)
        if set(content) <= set(Manifest.model_fields):
            parse_manifest(text)
        else:
            Settings.model_validate({**content, "home": "/", "redis_url": "redis://"})
    except (yaml.YAMLError, PlatformError, ValueError, TypeError) as error:
        return [str(error)]
    return []


def script_of(inside: list[Block], folder: Path, places: Mapping[str, str]) -> str:
    """The document as a program for `sh -eu`; `folder` stands for /tmp, `places` for what is elsewhere in tests."""

    known = {**places, "/tmp/": f"{folder}/"}
    shown = re.compile("|".join(map(re.escape, known)))

    def here(text: str) -> str:  # in one pass: a place may itself lie below /tmp
        return shown.sub(lambda found: known[found[0]], text)

    lines = []
    for (language, file), group in groupby(inside, lambda each: (each.language, each.file)):
        run = list(group)
        text = here("\n".join(each.text for each in run))
        name = f"{run[0].line}"
        if file is not None:
            (folder / f"{name}.file").write_text(text, "utf-8")
            lines.append(f"cp '{folder}/{name}.file' '{here(file)}'")
        elif language == "python":
            (folder / f"{name}.py").write_text(text, "utf-8")
            lines.append(f"(cd '{folder}' && python3 '{name}.py')")
        elif language == "sh":
            lines.append(text)
    return "\n".join(lines)


def missing(inside: list[Block], printed: str) -> list[str]:
    """What the document says is printed and was not, in that order; a sentence each."""
    given = [masked(each) for each in objects(printed)]
    found, behind = [], 0
    for block in inside:
        if block.language != "json" or block.file is not None:
            continue
        shown = list(objects(block.text))
        if not shown:
            found.append(f"{block}: it holds no object")
        for each in shown:
            at = next((at for at in range(behind, len(given)) if _shows(masked(each), given[at])), None)
            if at is None:
                found.append(f"{block}: this was not printed: {json.dumps(each)}")
            else:
                behind = at + 1
    return found


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in a text that is more than JSON."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            end = at + 1
        else:
            yield value
        at = text.find("{", end)


def masked(value: Any, name: str = "") -> Any:
    """The value with what differs from time to time replaced by what it is: ids, times, regions, signatures."""
    if isinstance(value, dict):
        return {key: masked(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    if name in _DIFFERENT or name.endswith("_ms"):
        return name
    if isinstance(value, str):
        return _SIGNED.sub("?signed", _ID.sub(r"\1_…", value))
    return "a time" if isinstance(value, int | float) and value > _FIRST_TIME else value


def _shows(shown: Any, given: Any) -> bool:
    """Whether all that is shown was given; objects may have more fields than are shown."""
    if isinstance(shown, dict):
        return isinstance(given, dict) and all(
            key in given and _shows(each, given[key]) for key, each in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(given, list)
            and len(shown) == len(given)
            and all(_shows(*pair) for pair in zip(shown, given, strict=True))
        )
    return bool(shown == given)
