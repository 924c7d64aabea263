"""As many workers of a job are at work as real time leaves room for, and none of the others waits for ever."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch import turns
from batch.turns import Turns


class Told:
    """The share as the controller says it."""

    def __init__(self, share: int | None) -> None:
        self.share = share

    def turns(self, folder: Path) -> Turns:
        """Those of another worker, who asks each time."""
        return Turns(folder, 2, lambda: self.share)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers ask and look without a pause."""
    monkeypatch.setattr(turns, "_ASK_EVERY_S", 0)
    monkeypatch.setattr(turns, "_LOOK_EVERY_S", 0.001)


class StillWaitingError(Exception):
    """Raised by a check: the worker had to wait."""


def has_to_wait(worker: Turns) -> bool:
    """Whether the worker gets no turn at the first look."""

    def check() -> None:
        raise StillWaitingError

    try:
        worker.take(check)
    except StillWaitingError:
        return True
    return False


def test_no_more_are_at_work_than_the_share(tmp_path: Path) -> None:
    """Up to what is configured while nobody says anything; one that gives its turn back makes room."""
    told = Told(None)
    workers = [told.turns(tmp_path) for _ in range(3)]
    assert [has_to_wait(worker) for worker in workers] == [False, False, True]
    workers[0].give()
    assert [has_to_wait(worker) for worker in workers[2:]] == [False]


def test_a_smaller_share_takes_turns_back_and_a_larger_one_gives_them(tmp_path: Path) -> None:
    """At the next call of the model; one goes on in any case."""
    told = Told(2)
    first, second = (told.turns(tmp_path) for _ in range(2))
    assert not has_to_wait(first)
    assert not has_to_wait(second)
    told.share = 1
    assert [has_to_wait(first), has_to_wait(second)] == [False, True]
    told.share = None  # nobody says anything: what was said last holds
    assert [has_to_wait(first), has_to_wait(second)] == [False, True]
    told.share = 2
    assert [has_to_wait(first), has_to_wait(second)] == [False, False]


def test_who_is_killed_gives_the_turn_back(tmp_path: Path) -> None:
    """The kernel does it."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        Told(1).turns(tmp_path).take(lambda: None)
        os.write(write, b".")
        signal.pause()
    assert os.read(read, 1) == b"."
    worker = Told(1).turns(tmp_path)
    assert has_to_wait(worker)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not has_to_wait(worker)


@contextmanager
def waiting(worker: Turns) -> Iterator[threading.Event]:
    """A worker that waits for a turn in a thread; the event tells that it has one."""
    is_waiting, has_it = threading.Event(), threading.Event()

    def wait() -> None:
        worker.take(is_waiting.set)
        has_it.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert is_waiting.wait(60)
    yield has_it
    thread.join(60)


def test_who_waits_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a worker that goes from shard to shard would never let another finish the one that it was given."""
    told = Told(1)
    first, second = (told.turns(tmp_path) for _ in range(2))
    assert not has_to_wait(first)
    with waiting(second) as has_it:
        monkeypatch.setattr(turns.time, "sleep", lambda _: has_it.wait(60))
        first.give()
        assert has_to_wait(first)
        assert has_it.is_set()
