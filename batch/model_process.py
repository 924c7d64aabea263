"""A model in a process of its own that may die: what `python -m batch.model_process` does, and who starts it.

Frames of pickle (eight bytes of length first) go through its standard input and output: in comes what to load, out
goes how it will answer, then a list of outcomes for each list of items. `multiprocessing` was rejected: it imports the
owner's main module, which in a Ray worker is Ray's. The process ends with its owner, however that ends.

A model on the CPU is loaded there and never run: each list of items is predicted by a fork, which has the loaded model
at once and may die of the items. With one thread a session has no threads that a fork would lack. CUDA does not
survive a fork, so a model on a GPU is run by the process itself, and what kills it costs a start.

What hangs is ended. A fork has so much processor time, which the kernel measures: by the clock alone, a machine that
real time keeps busy would condemn rows that are merely waiting. The clock, more generously, is for what sleeps, and
for GPUs; it stands still for who waits for a core (`clocks.py`).
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import resource
import select
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import IO, TYPE_CHECKING, cast

from batch.clocks import Clock
from fyretoolkit.models.sandbox import die_with_parent, volunteer_for_oom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch.loading import LoadableModel
    from fyretoolkit.models.codec import ItemError
    from fyretoolkit.models.runner import ModelRunner, Prediction

_LENGTH_BYTES = 8
_DIED = "died"
"""Instead of outcomes: the fork that was to give them ended without."""
_TOGETHER = 1 / 3
"""Of the time of a row: what rows have together, before it is tried which of them hangs. Slow ones are parted then."""
_CLOCK = 4
"""So many times its processor time a call may take by the clock, beside what it waits for a core."""
_NEWS_EVERY_S = 10.0
"""Less than a crew's patience: a call may wait for a core for as long as real time keeps the machine busy."""


@cache
def _starter() -> ThreadPoolExecutor:
    """Starts the processes: the kernel ends them with the thread that did (`die_with_parent`), and lanes end."""
    return ThreadPoolExecutor(1, thread_name_prefix="starts-models")


def allowed_s(items: int, row_timeout_s: float) -> float:
    """The processor time that so many items may take together."""
    return row_timeout_s if items == 1 else row_timeout_s * _TOGETHER


class ProcessDiedError(Exception):
    """The process that was asked ended without an answer."""


class ModelProcess:
    """The owner's side: one process with a model loaded."""

    def __init__(self, model: LoadableModel, on_news: Callable[[], None] = lambda: None) -> None:
        """Start it and load the model. `on_news` is called every few seconds while it has time left for an answer.

        Raises:
            ProcessDiedError: it died before it was asked anything.
            PlatformError: the model does not load.
        """
        self.is_fresh = True
        """Whether who answers next was not asked before."""
        self.is_alive = True
        """Whether it can be asked again."""
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._on_news = on_news
        self._row_timeout_s = model.settings.batch.row_timeout_s
        self._process = _starter().submit(_start, environ).result()
        try:
            self._has_forks = bool(self._exchange(model, model.settings.deployments.load_timeout_s))
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def predict(self, items: Sequence[object], cells_are_text: bool) -> list[Prediction | ItemError]:
        """One outcome per item, in order.

        Raises:
            ProcessDiedError: it died of them, or meanwhile, or it hung and was killed.
            PlatformError: as the model's own `predict`.
        """
        self.is_fresh = self._has_forks
        timeout_s = _CLOCK * allowed_s(len(items), self._row_timeout_s)
        outcomes = self._exchange((items, cells_are_text), timeout_s)
        if outcomes == _DIED:
            raise ProcessDiedError
        return cast("list[Prediction | ItemError]", outcomes)

    def end(self) -> None:
        """Kill it: it holds nothing that must be kept."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:  # reaps it, closes the pipes
            pass

    def _exchange(self, message: object, timeout_s: float) -> object:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        try:
            _send(self._process.stdin, message)
            if not self._has_answered(self._process.stdout, timeout_s):
                self._process.kill()
            answer = _receive(self._process.stdout)
        except (BrokenPipeError, EOFError) as error:
            self.is_alive = False
            raise ProcessDiedError from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _has_answered(self, stream: IO[bytes], timeout_s: float) -> bool:
        clock = Clock(self.pid, timeout_s)
        while (left_s := clock.left_s()) > 0:
            if _is_readable(stream, min(left_s, _NEWS_EVERY_S)):
                return True
            self._on_news()
        return False


def _is_readable(stream: IO[bytes], timeout_s: float) -> bool:
    """Whether something comes, if only the end. Not by `select`, which takes no descriptor beyond 1023."""
    waiting = select.poll()
    waiting.register(stream, select.POLLIN)
    return bool(waiting.poll(math.ceil(timeout_s * 1000)))


def _start(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "batch.model_process"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _send(stream: IO[bytes], message: object) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(content)
    stream.flush()


def _receive(stream: IO[bytes]) -> object:
    length = int.from_bytes(_read(stream, _LENGTH_BYTES), "big")
    return pickle.loads(_read(stream, length))  # noqa: S301 - from this module in the other process


def _read(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def main() -> None:
    """Load the model that is asked for, answer until the input ends."""
    die_with_parent()
    volunteer_for_oom()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of a large model, written at each death
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints must not mix with the answers
    requests = sys.stdin.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve(requests, answers)
    os._exit(0)  # taking a runtime down in order takes longer than all else here


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    from fyretoolkit.core.errors import PlatformError

    loadable = cast("LoadableModel", _receive(requests))
    try:
        model = loadable.load()
    except PlatformError as error:
        _send(answers, error)
        return
    has_forks = not model.spec.resources.num_gpus
    row_timeout_s = loadable.settings.batch.row_timeout_s
    _send(answers, has_forks)
    while True:
        items, cells_are_text = cast("tuple[Sequence[object], bool]", _receive(requests))
        predict = partial(_predicted, model, items, cells_are_text)
        _send(answers, in_a_fork(predict, allowed_s(len(items), row_timeout_s)) if has_forks else predict())


def _predicted(model: ModelRunner, items: Sequence[object], cells_are_text: bool) -> object:
    from fyretoolkit.core.errors import PlatformError

    try:
        return model.predict(items, cells_are_text)
    except PlatformError as error:
        return error


def in_a_fork(call: Callable[[], object], processor_s: float) -> object:
    """What `call` answers in a fork of this process, or `_DIED`, also where it takes longer. It must be picklable."""
    seconds = _permitted(math.ceil(processor_s))
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            die_with_parent()
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            with os.fdopen(writing, "wb") as stream:
                pickle.dump(call(), stream, pickle.HIGHEST_PROTOCOL)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nothing may go on in the fork
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        content = stream.read()
    has_ended_well = os.waitpid(child, 0)[1] == 0
    return pickle.loads(content) if has_ended_well else _DIED  # noqa: S301 - from the fork


def _permitted(processor_s: int) -> int:
    """So much processor time, or what was set for this process (`ulimit -t`) if that is less: none may ask for more.

    Found before the fork: there it would be the row that failed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    return processor_s if hard == resource.RLIM_INFINITY else min(processor_s, hard)


if __name__ == "__main__":
    main()
