"""What a data scientist submits with Ray's own tools: jobs that their driver runs, and scripts with `batch.predict`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.conftest import OPEN_BUCKET
from tests.support.platform import RunningPlatform, finished, lines, until
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Shell:
    """A folder of a data scientist's own, and the environment that `eval "$(fyre env)"` gives."""

    folder: Path
    environ: dict[str, str]

    def submit(self, submission: str, *command: str, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir .`; its output is the driver's."""
        more = [] if wait else ["--no-wait"]
        return self.ray("submit", "--working-dir", ".", "--submission-id", submission, *more, "--", *command)

    def ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `ray job` command."""
        return subprocess.run(
            [str(BIN / "ray"), "job", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def status(self, submission: str) -> str:
        """What Ray says of a submission."""
        token = Path(self.environ["RAY_AUTH_TOKEN_PATH"]).read_text("utf-8")
        answer = httpx.get(
            f"{self.environ['RAY_API_SERVER_ADDRESS']}/api/jobs/{submission}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        return str(answer.json()["status"])


@pytest.fixture
def shell(platform: RunningPlatform, tmp_path: Path) -> Shell:
    """An empty folder: nothing of ours lies in it, so what a script imports is what is installed."""
    shown = subprocess.run(
        [str(BIN / "fyre"), "env", "--home", str(platform.home), "--json"], capture_output=True, check=True
    )
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", "utf-8")
    return Shell(folder, {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), **json.loads(shown.stdout)})


def run_command(input_url: str, *more: str) -> tuple[str, ...]:
    """`python -m batch.run` over rows of text."""
    return ("python", "-m", "batch.run", "--model", "sentiment-v1", "--input", input_url, *more)


def job_of(client: httpx.Client, submission: str) -> dict[str, Any] | None:
    """The job that a submission's driver made, once some of it is done."""
    for job in client.get("/jobs", params={"limit": 100}).json()["data"]:
        if (job["metadata"] or {}).get("ray_submission_id") == submission and job["progress"]["processed"]:
            found: dict[str, Any] = job
            return found
    return None


@pytest.fixture
def long_input(glosses: Path, tmp_path: Path) -> Path:
    """441,300 rows: longer than a command of Ray's takes to begin, on a busy machine too."""
    path = tmp_path / "long.jsonl"
    path.write_bytes(glosses.read_bytes() * 150)
    return path


def test_a_submitted_job_is_one_of_the_platforms(
    client: httpx.Client, shell: Shell, glosses: Path, s3: S3Server
) -> None:
    """Seen by the API under its submission; its results in a bucket, the same as at output_url."""
    s3.put(f"{OPEN_BUCKET}/submitted/other", b"")
    output = f"s3://{OPEN_BUCKET}/submitted/scores.jsonl"
    ended = shell.submit("whole", *run_command(glosses.as_uri(), "--output", output, "--metadata", "team=a"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2942 of 2942 rows, 0 failed" in ended.stdout
    assert f"results: {output}" in ended.stdout
    job = job_of(client, "whole")
    assert job is not None
    assert (job["status"], job["progress"]["succeeded"]) == ("completed", 2942)
    assert job["metadata"] == {"team": "a", "ray_submission_id": "whole"}
    with s3.client().open_input_file(f"{OPEN_BUCKET}/submitted/scores.jsonl") as file:
        assert file.read() == client.get(job["output_url"]).content


def test_a_submitted_job_ends_from_either_side(client: httpx.Client, shell: Shell, long_input: Path) -> None:
    """A cancel through the API ends its driver; `ray job stop` cancels the job. Whole shards are left of both.

    The second is submitted from a clone, whose own `batch` the driver then imports.
    """
    for submission, folder in (("by-api", shell.folder), ("by-ray", PROJECT_ROOT)):
        started = replace(shell, folder=folder).submit(
            submission, *run_command(long_input.as_uri()), wait=False
        )
        assert started.returncode == 0, started.stdout + started.stderr
        job = until(lambda name=submission: job_of(client, name), timeout_s=240, what="rows of the job")  # type: ignore[misc]
        if submission == "by-api":
            assert client.post(f"/jobs/{job['id']}/cancel").json()["status"] == "canceled"
            until(lambda: shell.status("by-api") == "FAILED", timeout_s=120, what="the end of the driver")
        else:
            assert shell.ray("stop", submission).returncode == 0
            until(lambda: shell.status("by-ray") == "STOPPED", timeout_s=60, what="a submission that stopped")
        ended = finished(client, job["id"], timeout_s=60)
        assert (ended["status"], ended["partial"]) == ("canceled", True)
        done = ended["progress"]["succeeded"]
        assert 0 < done < 441_300
        assert len(lines(client, ended["output_url"])) == done


def test_the_platform_goes_on_where_a_driver_was_killed(
    platform: RunningPlatform, client: httpx.Client, shell: Shell, glosses: Path, tmp_path: Path
) -> None:
    """`kill -9`, which no handler sees: every row once all the same."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(glosses.read_bytes() * 10)
    shell.submit("killed", *run_command(path.as_uri()), wait=False)
    job = until(lambda: job_of(client, "killed"), timeout_s=240, what="rows of the job")
    for driver in platform.titled("batch.run"):
        if "python" in driver.name():
            driver.kill()
    ended = finished(client, job["id"])
    assert (ended["status"], ended["progress"]["succeeded"]) == ("completed", 29_420)
    assert [line["index"] for line in lines(client, ended["output_url"])] == list(range(29_420))


def test_a_script_of_ones_own_predicts_over_a_dataset(shell: Shell, glosses: Path) -> None:
    """`batch.predict` in an actor pool: a model of the platform by its id, a model of a path."""
    (shell.folder / "score.py").write_text(SCRIPT, "utf-8")
    package = PROJECT_ROOT / "configs" / "demo_models" / "digits"
    ended = shell.submit("script", "python", "score.py", str(glosses), str(package))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "positive: 1191 of 2942, 1 failed" in ended.stdout
    assert "digits: 2" in ended.stdout


SCRIPT = """
import json, sys
import ray
import batch

rows = [{"text": json.loads(line)["text"]} for line in open(sys.argv[1], encoding="utf-8")]
scored = batch.predict(ray.data.from_items([*rows, {"text": None}]), "sentiment-v1").take_all()
labels = [row["result"]["label"] for row in scored if row["result"] is not None]
failed = [row for row in scored if row["error"] is not None]
print(f"positive: {labels.count('positive')} of {len(labels)}, {len(failed)} failed")
images = ray.data.from_items([{"pixels": [0.0] * 64}] * 2)
print("digits:", sum(row["error"] is None for row in batch.predict(images, sys.argv[2]).take_all()))
"""
