"""`python -m batch.run` as it is typed: what it refuses before anything happens, and `--local`."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from batch import local, run
from batch.progress import Lines
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import PROJECT_ROOT
from tests.support.model_packages import write_package
from tests.support.onnx_graphs import lookup
from tests.support.s3_server import S3Server

ROWS = b"".join(orjson.dumps({"id": f"r{i}", "index": i % 6}) + b"\n" for i in range(300))
"""Every sixth and fifth row asks for more than the table has."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that looks up four values, and rows for it."""
    write_package(tmp_path / "model", lookup())
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    return tmp_path


def typed(folder: Path, *more: str, model: str = "model", name: str = "rows.jsonl") -> list[str]:
    """The arguments of a local run of one process."""
    paths = [
        "--model",
        str(folder / model),
        "--input",
        str(folder / name),
        "--output",
        str(folder / "out.jsonl"),
    ]
    return ["--local", "--workers", "1", *paths, *more]


def expected() -> tuple[list[dict[str, object]], list[int]]:
    """The results, and the indexes of the rows that fail, by hand."""
    good = [{"index": i, "id": f"r{i}", "result": {"value": 10.0 * (i % 6)}} for i in range(300) if i % 6 < 4]
    return good, [i for i in range(300) if i % 6 >= 4]


def lines(path: Path) -> list[dict[str, object]]:
    """The JSON lines of a file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_local_run_is_a_job_without_a_platform(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines in the same order, the errors beside them, nothing else left."""
    assert run.main(typed(folder)) == run.COMPLETED
    good, bad = expected()
    assert lines(folder / "out.jsonl") == good
    assert [line["index"] for line in lines(folder / "out.errors.jsonl")] == bad
    assert {path.name for path in folder.iterdir()} == {
        "model",
        "rows.jsonl",
        "out.jsonl",
        "out.errors.jsonl",
    }
    shown = capsys.readouterr().out
    assert "300 of 300 rows, 100 failed" in shown
    assert "completed: 200 rows have results, 100 failed" in shown


def test_many_processes_give_the_same_file(folder: Path) -> None:
    """Of a packed CSV, over more shards than one process is worth."""
    (folder / "rows.csv.gz").write_bytes(
        gzip.compress(
            b"id,index,more\n" + b"".join(b"r%d,%d,%s\n" % (i, i % 6, b"x" * 50) for i in range(300))
        )
    )
    arguments = [
        "-m",
        "tests.unit.batch.small_shards",
        *typed(folder, name="rows.csv.gz")[3:],
        "--local",
        "--workers",
        "2",
    ]
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == run.COMPLETED, ended.stderr
    assert lines(folder / "out.jsonl") == expected()[0]


def test_a_killed_run_goes_on_behind_what_it_committed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kill -9` in the middle; then the same command: committed rows are not done again, the file is the same."""
    arguments = ["-m", "tests.unit.batch.small_shards", "--die-after", "5", *typed(folder)]
    killed = subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT_ROOT, capture_output=True, check=False, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "out.jsonl").exists()
    with (folder / ".out.jsonl.fyre/jobs/local/committed.jsonl").open("ab") as file:
        file.write(b'[0,{"succ')  # what a crash may leave
    assert run.main(typed(folder)) == run.COMPLETED
    before = next(line for line in capsys.readouterr().out.splitlines() if "done before" in line)
    assert 0 < int(before.split()[0]) < 300
    assert lines(folder / "out.jsonl") == expected()[0]


def test_input_and_output_may_be_in_a_bucket(
    folder: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one's own credentials and service, as AWS's tools are told of them."""
    s3.put("laptop/rows.jsonl", ROWS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{s3.endpoint}/")
    monkeypatch.chdir(folder)
    more = ["--input", "s3://laptop/rows.jsonl", "--output", "s3://laptop/scored/out.jsonl"]
    assert run.main([*typed(folder), *more]) == run.COMPLETED
    with s3.client().open_input_file("laptop/scored/out.jsonl") as file:
        assert [orjson.loads(line) for line in file.read().splitlines()] == expected()[0]
    assert {path.name for path in folder.iterdir()} == {"model", "rows.jsonl"}


def test_another_input_begins_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was committed belongs to rows that are no more."""
    assert run.main(typed(folder, "--max-error-rate", "0.1")) == run.FAILED
    assert (folder / "out.partial.jsonl").exists()
    (folder / "rows.jsonl").write_bytes(b'{"index": 1}\n')
    assert run.main(typed(folder)) == run.COMPLETED
    assert lines(folder / "out.jsonl") == [{"index": 0, "result": {"value": 10.0}}]
    assert "done before" not in capsys.readouterr().out


def test_a_second_process_does_not_write_the_same_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first holds a lock, which its death would end."""
    with local._locked(folder / ".out.jsonl.fyre"):
        assert run.main(typed(folder)) == run.REFUSED
    assert "Another process" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["deadline_exceeded", "storage_full", "internal_error", "unavailable"])
@pytest.mark.parametrize("step", ["_work", "deliver"])
def test_what_goes_wrong_on_the_way_is_a_failure_and_goes_on_next_time(
    folder: Path, code: str, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There was a job: neither an argument nor a platform is to blame. What it committed is kept."""
    work = getattr(local, step)

    def fail(*arguments: object, **more: object) -> None:
        if step == "_work":
            work(*arguments, **more)
        raise PlatformError(code)

    with monkeypatch.context() as patched:
        patched.setattr(local, step, fail)
        assert run.main(typed(folder)) == run.FAILED
    assert f"{code}: " in capsys.readouterr().out
    assert not (folder / "out.jsonl").exists()
    assert run.main(typed(folder)) == run.COMPLETED
    assert f"{len(ROWS.splitlines())} rows were done before" in capsys.readouterr().out
    assert lines(folder / "out.jsonl") == expected()[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--metadata", "=x"], "K=V"),
        (["--metadata", "x"], "K=V"),
        (["--max-error-rate", "2"], "--max-error-rate"),
        (["--timeout-s", "0"], "--timeout-s"),
        (["--workers", "0"], "--workers"),
        (["--input", "/nowhere/rows.jsonl"], "input_not_found"),
        (["--input", "fyre://files/file_01M82FQ0A1B2C3D4E5F6G7H8J9"], "fyre://files/"),
        (["--model", "no-such-model"], "model_not_found"),
        (["--output", "/nowhere/out.jsonl"], "no folder"),
        (["--output", "ftp://x/out.jsonl"], "url_not_allowed"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And leaves nothing behind."""
    before = {path.name for path in folder.iterdir()}
    assert run.main([*typed(folder), *more]) == run.REFUSED
    told = capsys.readouterr().err
    assert (said in told, told.count("\n")) == (True, 1), told
    assert {path.name for path in folder.iterdir()} == before


def test_without_a_platform_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody submitted it."""
    for name in [name for name in os.environ if name.startswith("FYRE_")]:
        monkeypatch.delenv(name)
    assert run.main(["--model", "m", "--input", "https://example.com/x.jsonl"]) == run.NO_PLATFORM
    told = capsys.readouterr().err
    assert "ray job submit" in told
    assert "--local" in told


def test_progress_as_lines_is_told_now_and_then() -> None:
    """Not before the total is known, not twice the same, the end always."""
    import io

    out = io.StringIO()
    display = Lines(out, every_s=3600)
    for processed, total, failed in ((0, None, 0), (1, 4, 0), (2, 4, 1), (4, 4, 1), (4, 4, 1)):
        display.show(processed, total, failed)
    assert out.getvalue().splitlines() == ["1 of 4 rows, 0 failed", "4 of 4 rows, 1 failed"]
