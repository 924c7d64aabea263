"""`IsolatedModel`: a model whose rows may kill it. Who dies is its process; the rows that did it become error lines.

Native code that is handed a row may be ended by it (SIGFPE in a kernel, the system's OOM killer) or never come back
from it, and no exception tells which row it was. So a shard during which a worker died is predicted in a child, and
rows that kill the child, or have it killed because it hangs, are halved until single ones are left: O(log n) deaths for
a poison row. A child may also be killed from outside, so nothing is believed once: rows are halved after two deaths,
and a single row is condemned when it has killed two fresh children that were given nothing else. Doing so always was
rejected: it costs every worker a second process, and a fork for each call of the model.

The bytes of a part do not depend on who was killed when: rows beside a condemned one are asked for again together,
without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from batch.model_process import ModelProcess, ProcessDiedError
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.codec import ItemError
from fyretoolkit.models.runner import Prediction

_CONDEMNING_DEATHS = 2
"""Of fresh processes that were given nothing but the row."""
_MAX_STARTS = 3
_START_AGAIN_S = 1.0
CRASHED = "The model's process died of this row, or hung, alone and more than once."

Outcomes = dict[int, Prediction | ItemError]
"""By row, the place among the items that were given."""
Ask = Callable[[Sequence[int]], Outcomes | None]
"""The outcomes of these rows together, at least one; None: the process died."""


class IsolatedModel:
    """Predicts in a child, which it replaces when it dies."""

    def __init__(self, start: Callable[[], ModelProcess]) -> None:
        """`start`: a process with the model loaded, or `ProcessDiedError`."""
        self._start = start
        self._process: ModelProcess | None = None
        self.has_condemned = False
        """Whether it met a row that kills."""
        self.on_answer: Callable[[], None] = lambda: None
        """Called after each start, answer or death: either may take minutes, and nobody is to give up meanwhile."""

    def predict(
        self,
        items: Sequence[object],
        cells_are_text: bool = False,
        has_booleans: bool = True,  # noqa: ARG002 - haste is for rows that are not suspected
    ) -> Sequence[Prediction | ItemError]:
        """One outcome per item, in order; `row_crashed` for those that kill the model's process.

        Raises:
            PlatformError: the model does not load, or `internal_error`: its process dies before it is given a row.
        """

        def ask(rows: Sequence[int]) -> Outcomes | None:
            return self._ask(rows, items, cells_are_text)

        outcomes: Outcomes = {}
        rows = list(range(len(items)))
        while rows:
            outcomes |= (
                ask(rows)
                or ask(rows)
                or self._condemned(ask, rows)
                or ask(rows)  # whoever died did so of something else
                or self._one_by_one(ask, rows)  # they kill together alone
            )
            rows = [row for row in rows if row not in outcomes]
        return [outcomes[row] for row in range(len(items))]

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _condemned(self, ask: Ask, rows: Sequence[int]) -> Outcomes:
        """The errors of those rows that kill alone, found by halving."""
        if len(rows) == 1:
            return {row: error for row, error in self._judge(ask, rows[0]).items() if _is_crash(error)}
        found: Outcomes = {}
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            if ask(half) is None:
                found |= self._condemned(ask, half)
        return found

    def _one_by_one(self, ask: Ask, rows: Iterable[int]) -> Outcomes:
        found: Outcomes = {}
        for row in rows:
            found |= ask([row]) or self._judge(ask, row)
        return found

    def _judge(self, ask: Ask, row: int) -> Outcomes:
        """The outcome of a row in a fresh process of its own, twice if that dies; then it is condemned."""
        for _ in range(_CONDEMNING_DEATHS):
            if self._process is not None and not self._process.is_fresh:
                self.close()
            if found := ask([row]):
                return found
        self.has_condemned = True
        return {row: ItemError(row, "", CRASHED, code="row_crashed")}

    def _ask(self, rows: Sequence[int], items: Sequence[object], cells_are_text: bool) -> Outcomes | None:
        process = self._ready()
        try:
            answers = process.predict([items[row] for row in rows], cells_are_text)
        except ProcessDiedError:
            if not process.is_alive:
                self.close()
            return None
        finally:
            self.on_answer()
        return {row: replace(answer, index=row) for row, answer in zip(rows, answers, strict=True)}

    def _ready(self) -> ModelProcess:
        """The child, started if there is none."""
        for attempt in range(_MAX_STARTS):
            if self._process is not None:
                return self._process
            try:
                self._process = self._start()
            except ProcessDiedError:
                time.sleep(_START_AGAIN_S * attempt)
            finally:
                self.on_answer()
        if self._process is None:
            raise PlatformError("internal_error", "The model's process dies before it is given a row.")
        return self._process


def _is_crash(outcome: Prediction | ItemError) -> bool:
    return isinstance(outcome, ItemError) and outcome.code == "row_crashed"
