"""A model in a process of its own that may die: what `python -m batch.model_process` does, and who starts it.

Frames of pickle (eight bytes of length first) go through its standard input and output: in comes what to load, "ready"
goes out once that is done, then a list of outcomes for each list of items. `multiprocessing` was rejected: it imports
the owner's main module, which in a Ray worker is Ray's. The process ends with its owner, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import subprocess
import sys
from typing import IO, TYPE_CHECKING, cast

from fyretoolkit.models.sandbox import die_with_parent, volunteer_for_oom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch.loading import LoadableModel
    from fyretoolkit.models.codec import ItemError
    from fyretoolkit.models.runner import Prediction

_LENGTH_BYTES = 8
READY = "ready"


class ProcessDiedError(Exception):
    """The process ended without an answer."""


class ModelProcess:
    """The owner's side: one process with a model loaded."""

    def __init__(self, model: LoadableModel) -> None:
        """Start it and load the model.

        Raises:
            ProcessDiedError: it died before it was asked anything.
            PlatformError: the model does not load.
        """
        self.is_fresh = True
        """Whether it has not been asked yet."""
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "batch.model_process"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._exchange(model)
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
            ProcessDiedError: it died of them, or meanwhile.
            PlatformError: as the model's own `predict`.
        """
        self.is_fresh = False
        outcomes: list[Prediction | ItemError] = self._exchange((items, cells_are_text))
        return outcomes

    def end(self) -> None:
        """Kill it: it holds nothing that must be kept."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:  # reaps it, closes the pipes
            pass

    def _exchange(self, message: object) -> list[Prediction | ItemError]:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        try:
            _send(self._process.stdin, message)
            answer = _receive(self._process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise ProcessDiedError from error
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # the child's word for it


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

    try:
        model = cast("LoadableModel", _receive(requests)).load()
    except PlatformError as error:
        _send(answers, error)
        return
    _send(answers, READY)
    while True:
        items, cells_are_text = cast("tuple[Sequence[object], bool]", _receive(requests))
        try:
            _send(answers, model.predict(items, cells_are_text))
        except PlatformError as error:
            _send(answers, error)


if __name__ == "__main__":
    main()
