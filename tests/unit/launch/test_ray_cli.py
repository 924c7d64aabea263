"""What `ray start --block` does when a subprocess ends, over a node of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import ray_constants
from ray._private.node import Node

from fyretoolkit.launch import ray_cli


class Stand:
    """A node whose subprocesses are exit codes; None: it runs."""

    def __init__(self, **codes: int | None) -> None:
        self.all_processes: dict[str, int | None] = dict(codes)
        self.started: list[str] = []
        self.has_killed = False
        self.has_room = True
        self._ray_params = SimpleNamespace(include_dashboard=None)

    def dead_processes(self) -> list[tuple[str, Any]]:
        dead = ((kind, code) for kind, code in self.all_processes.items() if code is not None)
        return [(kind, SimpleNamespace(returncode=code)) for kind, code in dead]

    def kill_all_processes(self, *, check_alive: bool, allow_graceful: bool) -> None:
        assert (check_alive, allow_graceful) == (False, False)
        self.has_killed = True

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        assert (include_dashboard, raise_on_failure) == (None, False)
        self._start("dashboard")

    def start_log_monitor(self) -> None:
        self._start("log_monitor")

    def _start(self, kind: str) -> None:
        assert kind not in self.all_processes, "Ray asserts that, too"
        self.started.append(kind)
        if not self.has_room:
            raise OSError("no room")
        self.all_processes[kind] = None


class Clock:
    """A clock that stands."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the module, whose end is an exception here."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    clock = Clock()
    monkeypatch.setattr(ray_cli, "time", clock)
    monkeypatch.setattr(ray_cli.os, "_exit", leave)
    return clock


def watched(**codes: int | None) -> Stand:
    """A node of a class of its own, watched."""
    kind = type("Watched", (Stand,), {})
    ray_cli.watch_subprocesses(kind)
    stand: Stand = kind(**codes)
    return stand


@pytest.mark.parametrize("code", [0, 1, -9, -15, 143])
@pytest.mark.parametrize("kind", ["raylet", "gcs_server"])
def test_nothing_is_left_of_a_node_without_it(
    clock: Clock, kind: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A raylet whose agent died ends with 0, and Ray blocked on over nothing."""
    node = watched(**{"raylet": None, "gcs_server": None, kind: code})
    with pytest.raises(SystemExit) as ended:
        node.dead_processes()
    assert ended.value.code == 1
    assert node.has_killed
    assert f"{kind} ({code})" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["dashboard", "log_monitor"])
def test_what_nothing_needs_is_started_again_alone(clock: Clock, kind: str) -> None:
    """Again at once, and then no more often than every ten seconds."""
    node = watched(raylet=None, **{kind: -9})
    assert node.dead_processes() == []
    assert (node.started, node.has_killed) == ([kind], False)
    node.all_processes[kind] = 1
    for _ in range(20):
        clock.now += 0.75
        assert node.dead_processes() == []
    assert node.started == [kind, kind]
    assert node.all_processes[kind] is None


def test_what_cannot_be_started_is_tried_again(clock: Clock) -> None:
    """The disk was full."""
    node = watched(raylet=None, log_monitor=-9)
    node.has_room = False
    node.dead_processes()
    node.has_room = True
    clock.now += 10
    assert node.dead_processes() == []
    assert node.all_processes["log_monitor"] is None


def test_ray_still_has_what_is_changed_here() -> None:
    """Names inside Ray: after an update of it this says what to look at."""
    assert {*ray_cli._REVIVABLE} == {
        ray_constants.PROCESS_TYPE_DASHBOARD,
        ray_constants.PROCESS_TYPE_LOG_MONITOR,
    }
    for name in ("dead_processes", "kill_all_processes", "start_api_server", "start_log_monitor"):
        assert callable(getattr(Node, name))
