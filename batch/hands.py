"""Hands: processes beside the runner that work on shards of its run, on the same machine.

Python does one thing at a time, and Ray Data's pool takes 6 s to start (decisions/0002), longer than most jobs. A hand
is there in one, most of it imports, while the runner works. It is `python -m batch.hands`: pickles go through its
standard input and output, the run first, then a shard's number each; what a shard came to comes back. First of all it
says that it is ready: until then no shard is kept for it that the runner could be at. It ends with its input, and so
with the runner, however that ends. `multiprocessing` was rejected as in `model_process`; `fork` too, for the runner's
process holds Ray's threads and their locks.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from batch.runs import Run
    from batch.worker import ShardWorker

FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""For a process of a few threads that fills and frees megabytes all the time: each arena of glibc's keeps its own."""
_READY = -1
"""In place of a shard's number."""
LANES = 2
"""Shards that a worker is at: one that is predicted, one that is written and committed."""


class HandLostError(Exception):
    """The process ended; nothing is known of the shards it was at."""


class Hand:
    """The runner's side of one."""

    def __init__(self, run: Run) -> None:
        environ = {**os.environ, **FEW_ARENAS, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "batch.hands"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._waiting: dict[int, Future[None]] = {}
        self._lock = threading.Lock()
        self.is_lost = False
        """Whether it has ended."""
        self.ready = threading.Event()
        """It has loaded the model, or could not: its shards will say why."""
        threading.Thread(target=self._listen, daemon=True, name="hand").start()
        with contextlib.suppress(HandLostError):  # the first shard will be told
            self._send(run)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def work(self, index: int) -> None:
        """Bring one shard to its commit; as many threads as it has lanes may call this.

        Raises:
            HandLostError: it ended meanwhile.
            Exception: as `ShardWorker.work`.
        """
        with self._lock:
            if self.is_lost:
                raise HandLostError
            done = self._waiting[index] = Future()
        self._send(index)
        done.result()

    def end(self) -> None:
        """Kill it: what it has not committed is nobody's."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:  # reaps it, closes the pipes
            pass

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        content = pickle.dumps(message)
        try:
            with self._lock:
                self._process.stdin.write(content)
                self._process.stdin.flush()
        except (OSError, ValueError) as error:  # ValueError: closed by `end`
            raise HandLostError from error

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            while True:
                index, error = pickle.load(self._process.stdout)  # noqa: S301 - from this module, over there
                if index == _READY:
                    self.ready.set()
                    continue
                done = self._waiting.pop(index)
                done.set_result(None) if error is None else done.set_exception(error)
        except Exception as error:  # noqa: BLE001 - an answer that cannot be read is the last one
            if not isinstance(error, (EOFError, OSError, ValueError)):
                self._process.kill()
            self._lose()

    def _lose(self) -> None:
        with self._lock:
            self.is_lost = True
            lost = list(self._waiting.values())
            self._waiting.clear()
        for done in lost:
            done.set_exception(HandLostError())


def main() -> None:
    """Work on the run that comes first, on the shards that come after it, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what imports and native code print must not mix with the answers
    from batch.worker import ShardWorker

    with contextlib.suppress(EOFError):
        worker = ShardWorker(pickle.load(sys.stdin.buffer))  # noqa: S301 - from the runner
        worker.prepare()
        pickle.dump((_READY, None), answers)
        answers.flush()
        lock = threading.Lock()
        lanes = ThreadPoolExecutor(LANES)
        while True:
            index = pickle.load(sys.stdin.buffer)  # noqa: S301
            lanes.submit(_work, worker, index, answers, lock)
    os._exit(0)  # whoever is at a shard: its runner is gone, and with it who would hear of it


def _work(worker: ShardWorker, index: int, answers: IO[bytes], lock: threading.Lock) -> None:
    outcome: BaseException | None = None
    try:
        worker.work(index)
    except BaseException as error:  # noqa: BLE001 - the runner raises it
        outcome = error
    try:
        content = pickle.dumps((index, outcome))
        pickle.loads(content)  # noqa: S301 - ours; some errors can only be written
    except Exception:  # noqa: BLE001 - some library's error that does not travel
        content = pickle.dumps((index, RuntimeError(f"{type(outcome).__name__}: {outcome}")))
    with lock:
        answers.write(content)
        answers.flush()


if __name__ == "__main__":
    main()
