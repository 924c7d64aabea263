"""What `fyre` shows on a terminal, and what it does not write beside a pipe."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.batch_jobs import commit, complete
from tests.support.carrying_out import begin, carry_out
from tests.support.fyre_command import Fyre, on_terminal

ESCAPE = b"\x1b"
INTERRUPTED = 130


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A local file."""
    path = tmp_path / "rows.csv"
    path.write_text("text\ngood\n", "utf-8")
    return path


def test_the_bar_moves_and_ends_with_the_summary(fyre: Fyre, rows: Path, tmp_path: Path) -> None:
    """Each step of the job is seen before the next one is made."""
    fyre.act(fyre.bench.add_model, "digits")
    arguments = ("batch", "run", "digits", str(rows), "--wait", "--output", "out.jsonl")
    with on_terminal(*arguments, folder=tmp_path) as terminal:
        job_id = fyre.act(begin, fyre.bench)
        terminal.read_until("0/9")
        for shard, done in enumerate(("3/9", "6/9", "9/9")):
            fyre.act(commit, fyre.bench, job_id, shard)
            terminal.read_until(done)
        fyre.act(complete, fyre.bench, job_id)
        assert terminal.wait() == 0
    shown = terminal.shown.decode()
    assert "━" in shown
    assert terminal.shown.count(ESCAPE) > 3
    assert shown.rindex("failed rows") > shown.rindex("9/9")
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 6


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_pipe_gets_no_bar_and_no_colour(
    fyre: Fyre, rows: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """`fyre … | cat` on a terminal: not on stdout, and not on stderr either."""
    fyre.act(fyre.bench.add_model, "digits")
    carried = fyre.soon(carry_out, fyre.bench)
    arguments = ("batch", "run", "digits", str(rows), "--wait", *options)
    with on_terminal(*arguments, folder=tmp_path, stdout=subprocess.PIPE) as terminal:
        assert terminal.process.stdout is not None
        printed = terminal.process.stdout.read()
        assert terminal.wait() == 0
    job_id = carried.result(60)
    assert ESCAPE not in printed + terminal.shown
    if options:
        assert json.loads(printed)["id"] == job_id
        assert terminal.shown == b""
    else:
        assert printed.decode().splitlines()[:2] == [f"id\t{job_id}", "status\tcompleted"]
        assert b"completed 9/9" in terminal.shown


def test_a_table_on_a_terminal(fyre: Fyre, tmp_path: Path) -> None:
    """Names under each other, with colour; what somebody called a key cannot move the cursor."""
    fyre.json("keys", "create", "a\u202ename")
    with on_terminal("keys", "list", folder=tmp_path) as terminal:
        assert terminal.wait() == 0
    assert ESCAPE in terminal.shown
    shown = terminal.shown.decode()
    assert "a name" in shown
    assert "\u202e" not in shown


def test_metrics_are_drawn_anew_at_each_look(fyre: Fyre, tmp_path: Path) -> None:
    """Until Ctrl-C."""
    deployment = fyre.act(fyre.bench.deploy, "digits")
    with on_terminal("metrics", deployment.id, "--watch", folder=tmp_path) as terminal:
        terminal.read_until(deployment.id)
        fyre.act(fyre.bench.predict, "digits", [[0.0] * 64] * 2)
        fyre.act(fyre.bench.services.recorder.flush)
        terminal.read_until("█")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == INTERRUPTED
