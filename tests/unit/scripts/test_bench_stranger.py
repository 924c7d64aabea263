"""`scripts/bench stranger`: what it reads out of a README, and how it judges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.stranger import BAR_S, Walk, _end_processes, _judge
from scripts.benchmarks.strangers.doors import LostError, Stranger
from scripts.benchmarks.strangers.instructions import Instructions

README = """
```sh
./scripts/up --detach
export PATH="$PWD/bin:$PATH"
```
```python
client.predict("m", [])
```
```sh
export FYRE_API_KEY=k
fyre predict m "a"
fyre predict m "b"
```
`./scripts/down` stops it.
"""


def test_the_instructions_are_those_of_the_readme() -> None:
    """The first of each kind, and all that is to be put into the environment."""
    found = Instructions.of(README)
    assert found.start.startswith("./scripts/up --detach\n")
    assert found.exports == 'export PATH="$PWD/bin:$PATH"\nexport FYRE_API_KEY=k'
    assert (found.program, found.command) == ('client.predict("m", [])\n', 'fyre predict m "a"')
    assert found.stop == "./scripts/down"
    real = Instructions.of((PROJECT_ROOT / "README.md").read_text("utf-8"))
    assert "sk_live_demo_12345" in real.program


@pytest.mark.parametrize(
    "missing", ["./scripts/up --detach", ".predict(", "fyre predict ", "`./scripts/down`"]
)
def test_a_readme_that_leads_nowhere_is_an_error(missing: str) -> None:
    with pytest.raises(LookupError):
        Instructions.of(README.replace(missing, "…"))


def test_only_a_whole_walk_in_time_that_leaves_nothing_meets_the_bar(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each step has its line, and so has what was left behind."""
    walk = Walk()
    assert walk.step("a step", lambda: 7) == 7
    assert _judge(walk, [], is_there=True) == 0
    assert _judge(walk, [], is_there=False) == 1
    assert _judge(walk, ["123 redis-server"], is_there=True) == 1
    walk.took_s["another"] = BAR_S
    assert _judge(walk, [], is_there=True) == 1
    said = capsys.readouterr()
    assert "a step" in said.out
    assert "left behind: 123 redis-server" in said.err


def test_a_step_that_fails_says_what_was_seen(tmp_path: Path) -> None:
    """And a door that leads to something else than labels is none; the README's address becomes the real one."""
    somebody = Stranger(tmp_path, os.environ, Instructions.of(README), "http://localhost:8123")
    assert somebody.run("echo http://localhost:8000/docs") == "http://localhost:8123/docs\n"
    with pytest.raises(LostError, match="exit code 3: words"):
        somebody.run("echo words; exit 3")
    with pytest.raises(LostError, match="no line with curl"):
        somebody.predict_by_curl("it is up")


def test_what_still_runs_out_of_the_clone_is_found_and_ended(tmp_path: Path) -> None:
    """By its working directory, its program or its arguments."""
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert [line.split()[0] for line in _end_processes(tmp_path)] == [str(process.pid)]
        assert process.poll() is not None
    assert _end_processes(tmp_path) == []
