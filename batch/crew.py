"""Who works on a run's shards where the runner is: its own process at once, hands beside it if that is worth it.

Each worker has two lanes, threads that take one shard after another: while one lane's rows are predicted, the other's
are written and committed, for a disk and Redis together take some 10 ms a shard. A hand that dies gives back what it
was at, and is replaced a few times if what is left is worth that.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from batch.hands import LANES, Hand, HandLostError
from batch.joblog import JobLog
from batch.pace import Pace, Pacing
from batch.patience import Patience
from batch.runs import Run
from batch.worker import ShardWorker

_HAND_WORTH_S = 2.0
"""Hands are started for work that would keep the runner alone busy for longer than this: a start costs one."""
_HAND_WORTH_BYTES = 8 << 20
"""Or at once for so much input, whatever its model: too little is not known of for long."""
_MOST_REPLACED = 2
_LOOK_EVERY_S = 0.05


class Crew:
    """Takes from `waiting`, in front, until nothing is there or it is told to stop."""

    def __init__(self, run: Run, waiting: deque[int], worker: ShardWorker) -> None:
        """`worker`: that of this process; it is closed with the crew."""
        self._run = run
        self._waiting = waiting
        self._worker = worker
        self._hands: list[Hand] = []
        self._lost = 0
        self._lanes: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._is_over = self._is_hung = False
        self._failure: BaseException | None = None
        self._began_at = time.monotonic()
        self._pacing = Pacing()
        self._patience = Patience(run)
        self._done = 0
        sizes = (run.plan.shards[index].end - run.plan.shards[index].start for index in waiting)
        is_large = sum(sizes) >= _HAND_WORTH_BYTES
        self._open_lanes(self._worker)
        if is_large:
            self._take_hands()

    @property
    def is_busy(self) -> bool:
        """Whether shards wait or are worked on."""
        # Lanes first: the last thing that one does is to give back what its hand had.
        return any(lane.is_alive() for lane in self._lanes) or bool(self._waiting)

    @property
    def pace(self) -> Pace:
        """Of all its workers, until now."""
        return self._pacing.pace

    def wait(self) -> None:
        """Return soon, or when a shard is done.

        Raises:
            TimeoutError: nothing gets on.
            Exception: what work on a shard raised.
        """
        with self._changed:
            self._changed.wait(_LOOK_EVERY_S)
        if self._failure is not None:
            raise self._failure
        try:
            self._patience.check()
        except TimeoutError:
            self._is_hung = True
            raise
        if not any(lane.is_alive() for lane in self._lanes) and self._waiting:
            self._open_lanes(self._worker)  # a hand gave back what it had when the others were done
        self._bury()
        left_s = (time.monotonic() - self._began_at) / max(1, self._done) * len(self._waiting)
        if self._done and self._lost <= _MOST_REPLACED and left_s > _HAND_WORTH_S:
            self._take_hands()

    @property
    def size(self) -> int:
        """How many workers it has."""
        return 1 + len(self._hands)

    def finish(self) -> None:
        """Let no lane take another shard; return when all are done with what they are at. Raises as `wait`."""
        self._join()
        if self._failure is not None:
            raise self._failure

    def _join(self) -> None:
        self._is_over = True
        for lane in self._lanes:
            lane.join()

    def close(self) -> None:
        """End the hands at once, and this process's lanes when they are done with what they are at."""
        self._is_over = True
        for hand in self._hands:
            hand.end()
        if not self._is_hung:  # a lane that hangs is left to the end of the process
            self._join()
            self._worker.close()

    def _take_hands(self) -> None:
        count = min(self._worker.turns.share, os.cpu_count() or 1) - self.size
        for _ in range(min(count, len(self._waiting) - 1)):
            hand = Hand(self._run)
            self._hands.append(hand)
            self._open_lanes(hand)
            JobLog(self._run.folder, self._run.epoch).append("hand_started", hand=hand.pid)

    def _bury(self) -> None:
        for hand in [hand for hand in self._hands if hand.is_lost]:
            self._hands.remove(hand)
            self._lost += 1
            self._pacing.note_loss(hand)
            hand.end()
            JobLog(self._run.folder, self._run.epoch).append("hand_lost", hand=hand.pid)

    def _open_lanes(self, worker: ShardWorker | Hand) -> None:
        self._pacing.note_start(worker)
        for _ in range(LANES):
            lane = threading.Thread(target=self._take, args=(worker,), daemon=True, name="lane")
            self._lanes.append(lane)
            lane.start()

    def _is_up(self, hand: Hand) -> bool:
        """Whether it can work, after a wait for that; False: nobody needs it any more.

        A shard that was kept for it meanwhile would hold up progress, and the end, for as long as it takes to start:
        seconds on a busy machine, whose idle time alone it has.
        """
        while not hand.ready.wait(_LOOK_EVERY_S):
            if self._is_over or hand.is_lost or not self._waiting:
                return False
        return True

    def _take(self, worker: ShardWorker | Hand) -> None:
        """What a lane does."""
        while not self._is_over and (not isinstance(worker, Hand) or self._is_up(worker)):
            try:
                index = self._waiting.popleft()
            except IndexError:
                return
            try:
                worker.work(index)
            except HandLostError:
                self._waiting.appendleft(index)
                return
            except BaseException as error:  # noqa: BLE001 - raised by `wait`
                self._failure, self._is_over = self._failure or error, True
            with self._changed:
                self._done += 1
                self._pacing.note_done(worker)
                self._patience.note_progress()
                self._changed.notify()
