"""The README's commands, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system

README = PROJECT_ROOT / "README.md"


def blocks(language: str) -> list[str]:
    """The code blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_shell_block_runs_and_answers_what_it_says(platform: RunningPlatform, tmp_path: Path) -> None:
    """All blocks in one shell, but for the start of a platform, which is the tests' own here and is left as it was."""
    started, *rest = blocks("sh")
    assert "./scripts/up" in started
    script = tmp_path / "readme.sh"
    text = "\n".join(rest)
    for shown, here in (
        ("localhost:8000", f"localhost:{platform.port}"),
        (".fyre/", f"{platform.home}/"),
        ('"target_num_replicas": 2', '"target_num_replicas": 1'),
    ):
        assert shown in text
        text = text.replace(shown, here)
    script.write_text(text, "utf-8")
    done = subprocess.run(
        ["sh", "-eu", str(script)],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            "no_proxy": "*",
            "FYRE_BASE_URL": platform.url,
            "FYRE_HOME": str(platform.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    predicted, rows, digits = blocks("json")
    for line in rows.splitlines():
        assert line in done.stdout
    given = [found.end() - len('{"id":"pred_') for found in re.finditer(r'\{"id":"pred_', done.stdout)]
    answers = [json.JSONDecoder().raw_decode(done.stdout, start)[0]["results"] for start in given]
    assert answers == [json.loads(predicted)["results"], json.loads(digits)["results"]]
