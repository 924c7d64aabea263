"""`fyre` on the running platform: a local file through a model, on a terminal and in a pipe; the doctor."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.settings import DEMO_KEY
from tests.support.fyre_command import on_terminal, program, program_environment
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system

ROWS = 24_000
"""Some twenty shards, so that a job is seen on its way."""
ESCAPE = b"\x1b"
_FRAME = re.compile(r"(\d+)/(\d+)")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local CSV file of 24,000 rows, one of which has no text."""
    path = tmp_path_factory.mktemp("rows") / "local.csv"
    lines = [f"row-{number},a film that is number {number} of its kind\n" for number in range(ROWS - 1)]
    path.write_text("".join(["id,text\n", *lines, "empty\n"]), "utf-8")
    return path


@pytest.fixture(autouse=True)
def shell(platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `fyre env` sets."""
    monkeypatch.setenv("FYRE_BASE_URL", platform.url)
    monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
    monkeypatch.setenv("FYRE_HOME", str(platform.home))
    monkeypatch.setenv("FYRE_PORT", str(platform.port))


def printed(*arguments: str) -> bytes:
    """What a program whose output nobody looks at prints; it must succeed and say nothing in colour."""
    done = subprocess.run(
        program(*arguments), env=program_environment(), capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done
    assert ESCAPE not in done.stdout + done.stderr
    return done.stdout


def test_a_local_file_runs_under_a_moving_bar(rows: Path, tmp_path: Path) -> None:
    """It uploads by itself, is seen at several points of its way, and ends with the summary; results are saved."""
    arguments = ("batch", "run", "sentiment-v1", str(rows), "--wait", "--output", "scores.jsonl")
    with on_terminal(*arguments, folder=tmp_path) as terminal:
        assert terminal.wait() == 0
    shown = terminal.shown.decode()
    frames = list(dict.fromkeys(_FRAME.findall(shown)))
    assert len([done for done, total in frames if total == str(ROWS)]) >= 3, frames
    assert frames[-1] == (str(ROWS), str(ROWS))
    assert "━" in shown
    summary = shown[shown.rindex(f"{ROWS}/{ROWS}") :]
    assert "completed" in summary
    assert "failed rows" in summary
    results = (tmp_path / "scores.jsonl").read_bytes().splitlines()
    assert len(results) == ROWS - 1
    assert json.loads(results[-1])["id"] == f"row-{ROWS - 2}"


def test_a_pipe_gets_clean_text_and_json(rows: Path) -> None:
    """Names and values without a colour; with --json one document, which is the job as the API answers it."""
    text = printed("batch", "run", "sentiment-v1", str(rows), "--wait").decode()
    fields = dict(line.split("\t", 1) for line in text.splitlines())
    assert fields["status"] == "completed"
    job: dict[str, Any] = json.loads(printed("batch", "run", "sentiment-v1", str(rows), "--wait", "--json"))
    assert (job["object"], job["status"]) == ("batch_job", "completed")
    assert job["progress"] == {"processed": ROWS, "total": ROWS, "succeeded": ROWS - 1, "failed": 1}
    assert job["input_url"].startswith("fyre://files/")


def test_the_doctor_finds_a_running_platform_well() -> None:
    """Every part, none of them unknown."""
    found = json.loads(printed("doctor", "--json"))
    assert found["is_well"] is True
    assert {each["part"]: each["status"] for each in found["findings"]} == dict.fromkeys(
        (
            "python", "packages", "memory", "settings", "ports", "disk", "redis", "gpu", "platform", "clock", "key",
        ),
        "ok",
    )  # fmt: skip


def test_the_nodes() -> None:
    """The one that there is, with what the demo models' replicas have left of it."""
    head, *nodes = (line.split("\t") for line in printed("nodes").decode().splitlines())
    assert head[:3] == ["id", "status", "regions"]
    assert "head" in [node[1] for node in nodes]
    assert "dep_" in "".join(node[6] for node in nodes)
