"""Failpoints: nothing without the switch, one act for each rule, whichever process gets there."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from batch import failpoints
from batch.failpoints import FailpointError, home_of, reach, reach_async

ON = {"FYRE_FAILPOINTS": "1", "FYRE_HOME": "/home-of-a-copy"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of this process, in which rules hold."""
    monkeypatch.setattr(failpoints, "_home", tmp_path)
    return tmp_path


def give(home: Path, *rules: str) -> None:
    """These rules hold from now on."""
    (home / failpoints.RULES).write_text("\n".join(rules), "utf-8")


def acted(home: Path) -> list[tuple[str, str]]:
    """(point, detail) of each act."""
    lines = (home / failpoints.LOG).read_bytes().splitlines()
    return [(line["name"], line["detail"]) for line in map(orjson.loads, lines)]


def process(home: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """One that reaches a point and ends."""
    command = "from batch.failpoints import reach; reach('commit.before', '3')"
    environ = {"PYTHONPATH": ":".join(sys.path), "FYRE_HOME": str(home), **environ}
    return subprocess.run([sys.executable, "-c", command], env=environ, check=False, capture_output=True)


def test_rules_hold_in_development_alone_and_where_they_were_asked_for():
    """A platform that serves others has no points, whatever lies in its home."""
    assert home_of(ON) == Path("/home-of-a-copy")
    assert home_of(ON | {"FYRE_MODE": "production"}) is None
    assert home_of(ON | {"FYRE_FAILPOINTS": ""}) is None
    assert home_of({"FYRE_HOME": "/home-of-a-copy"}) is None


def test_a_process_dies_at_its_point_and_its_successor_passes(home: Path):
    """A rule acts once in the life of a platform; one that was not switched on passes too."""
    give(home, "commit.before kill")
    assert process(home).returncode == 0
    statuses = [process(home, FYRE_FAILPOINTS="1").returncode for _ in range(2)]
    assert statuses == [-signal.SIGKILL, 0]
    assert acted(home) == [("commit.before", "3")]


def test_rules_choose_by_detail_and_count(home: Path):
    """The others pass; equal rules are told apart by what follows the #."""
    give(home, "part=7 raise@2", "part=8 raise # one", "part=8 raise # two", "part.aside raise")
    reach("part", "6")
    reach("part")
    reach("part", "7")
    with pytest.raises(FailpointError, match="part 7"):
        reach("part", "7")
    reach("part", "7")
    for _ in range(2):
        with pytest.raises(FailpointError):
            reach("part", "8")
    reach("part", "8")
    assert acted(home) == [("part", "7"), ("part", "8"), ("part", "8")]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="titles are read from /proc")
def test_rules_choose_by_title(home: Path):
    """Ray names its processes by theirs."""
    give(home, "a raise ray::Nobody", f"b raise {Path(sys.executable).name}")
    reach("a")
    with pytest.raises(FailpointError):
        reach("b")


def test_a_held_process_goes_on_when_its_rule_is_gone(home: Path):
    """Whoever holds it does meanwhile what could not be timed."""
    give(home, "a hold")
    held = threading.Thread(target=reach, args=("a",))
    held.start()
    while not (home / failpoints.LOG).exists():
        assert held.is_alive()
    give(home)
    held.join(10)
    assert not held.is_alive()


@pytest.mark.anyio
async def test_a_loop_waits_without_standing_still(home: Path):
    """And what is raised comes through."""
    give(home, "a sleep(0.001)", "b raise")
    await reach_async("a")
    with pytest.raises(FailpointError):
        await reach_async("b")
    assert acted(home) == [("a", ""), ("b", "")]


def test_a_line_that_is_no_rule_is_an_error(home: Path):
    """A trial that breaks nothing would prove nothing."""
    give(home, "commit.before die")
    with pytest.raises(ValueError, match="die"):
        reach("anything")


def test_no_rule_without_a_file(home: Path):
    """Switched on and nothing to do: nothing is written."""
    reach("a")
    assert list(home.iterdir()) == []
