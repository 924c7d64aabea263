"""The reader of documents notices what nobody would run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.code_blocks import blocks, defects, documents, missing, script_of


def fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n\n"


def test_every_block_of_every_document_is_of_a_kind_that_is_run_or_compared() -> None:
    """There is no list of documents or blocks that are left out."""
    found = documents()
    assert "README.md" in found
    assert [defect for inside in found.values() for defect in defects(inside)] == []


@pytest.mark.parametrize(
    "text",
    [
        fenced("", "ls"),
        fenced("console", "$ ls"),
        fenced("text", "$ ls"),
        "words\n\n    ls\n",
        "~~~bash\nls\n~~~\n",
        "1. words\n\n   ```\n   ls\n   ```\n",
        fenced("python /tmp/a.py", "1") + fenced("sh", "ls"),
        fenced("python a.py", "1") + fenced("sh", "python3 a.py"),
        fenced("yaml", "inputs: {kind: sound}"),
        fenced("yaml", "limits: {no_such_limit: 1}"),
        fenced("yaml", "- a list"),
    ],
)
def test_a_block_that_nobody_would_run_is_a_defect(text: str) -> None:
    assert len(defects(list(blocks("a.md", text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        fenced("text", "a ──► b"),
        fenced("yaml", "id: mine\ninputs: {kind: text}"),
        fenced("yaml", "limits: {max_inputs: 10}"),
        fenced("python /tmp/a.py", "1") + fenced("sh", "python3 /tmp/a.py"),
    ],
)
def test_a_block_of_a_known_kind_is_none(text: str) -> None:
    assert defects(list(blocks("a.md", text))) == []


def test_a_document_is_one_program_in_its_order(tmp_path: Path) -> None:
    """Shell and Python see what ran before them; /tmp and the API's address are those of the test."""
    text = (
        fenced("sh", "A=1; export B=localhost:8000\necho $A > /tmp/a")
        + fenced("python", "import os\nfrom pathlib import Path")
        + fenced("python", "print(os.environ['B'], Path('/tmp/a').read_text())")
        + fenced("json /tmp/b.json", '{"c": 2}')
        + fenced("sh", "cat /tmp/b.json; echo $A .fyre/")
    )
    places = {"localhost:8000": "there", ".fyre/": "/tmp/home/"}
    script = script_of(list(blocks("a.md", text)), tmp_path, places)
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["there", "1", '{"c":', "2}", "1", "/tmp/home/"]


PRINTED = """id: 3
{"id":"job_01M82FNH8T16KXP5GBAY415KX0","created":1795379873,"usage":{"latency_ms":6.5},"rows":[{"a":1}],
 "url":"http://x/jobs/job_01M82FNH8T16KXP5GBAY415KX0/output?token=ab"} {"second":2}"""


@pytest.mark.parametrize(
    "shown",
    [
        '{"id":"job_01M82FNH8T16KXP5GBAY415KX1","created":1795379999,"usage":{"latency_ms":1}}',
        '{"rows":[{"a":1}],"url":"http://x/jobs/job_01M82FNH8T16KXP5GBAY415KX1/output?token=cd"}',
        '{"created":1795379873}\n{"second":2}',
    ],
)
def test_what_differs_from_time_to_time_is_not_compared(shown: str) -> None:
    assert missing(list(blocks("a.md", fenced("json", shown))), PRINTED) == []


@pytest.mark.parametrize(
    "shown",
    [
        '{"id":"dep_01M82FNH8T16KXP5GBAY415KX0"}',
        '{"created":3}',
        '{"rows":[{"a":2}]}',
        '{"rows":[{"a":1},{"a":1}]}',
        '{"rows":[{"a":1,"b":1}]}',
        '{"third":3}',
        '{"second":2}\n{"created":1795379873}',
        "nothing",
    ],
)
def test_what_was_not_printed_is_noticed(shown: str) -> None:
    """Another value, another kind of id, one item more, another order."""
    assert len(missing(list(blocks("a.md", fenced("json", shown))), PRINTED)) == 1
