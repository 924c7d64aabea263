"""What became of a hostile URL in one field of a request, and whether that is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scripts.benchmarks.behaviour.stage import Finding

REFUSED = "url_not_allowed"
_SHOWN = 5


class Field(StrEnum):
    """Where a caller may write a URL."""

    INPUT = "input_url"
    WEBHOOK = "webhook"
    MODEL = "model_uri"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one URL in one field."""

    kind: str
    url: str
    is_told: bool
    field: str
    status: int
    """Of the answer to the request."""
    code: str
    """Of the refusal, or, where the request was accepted, what the job, the deployment or the delivery ended with."""
    forbidden: Sequence[str] = ()
    """Addresses that were connected to."""
    unseen: int = 0
    """Connections that were begun to ports where nobody listened."""

    @property
    def is_right(self) -> bool:
        """It was refused, by the request or later, or at least led nowhere that it may not."""
        if self.forbidden or self.unseen:
            return False
        if self.is_told:
            return (self.status, self.code) == (422, REFUSED)
        return self.status in (201, 202) and (self.code == REFUSED or self._is_answered)

    @property
    def _is_answered(self) -> bool:
        """A webhook is never redirected: the public server that wanted that was heard, and that was all."""
        return self.field == Field.WEBHOOK and self.kind != "a name that leads elsewhere"

    def __str__(self) -> str:
        touched = f", connected to {', '.join(self.forbidden)}" if self.forbidden else ""
        unseen = f", {self.unseen} connections to other ports" if self.unseen else ""
        return f"{self.field} {self.url!r}: {self.status} {self.code}{touched}{unseen}"


def table(outcomes: Sequence[Outcome]) -> str:
    """How many of each kind were refused when they were sent, and how many later, in Markdown."""
    lines = ["| kind | tried | refused with 422 | refused when used |", "|---|---|---|---|"]
    for kind in dict.fromkeys(each.kind for each in outcomes):
        mine = [each for each in outcomes if each.kind == kind]
        at_once = sum(each.status == 422 for each in mine)
        later = sum(each.status != 422 and each.code == REFUSED for each in mine)
        lines.append(f"| {kind} | {len(mine)} | {at_once} | {later} |")
    return "\n".join(lines)


def judge(outcomes: Sequence[Outcome]) -> list[Finding]:
    """What must hold."""
    urls = {each.url for each in outcomes}
    told = [each for each in outcomes if each.is_told]
    later = [each for each in outcomes if not each.is_told]
    touched = [each for each in outcomes if each.forbidden or each.unseen]
    return [
        Finding(
            f"{len(urls)} hostile URLs in {len({each.field for each in outcomes})} fields: connected to where nobody"
            f" may: {len(touched)} ×{_shown(touched)}",
            not touched,
        ),
        _judge_right("whose text tells it: 422 at once", told),
        _judge_right("that look innocent: refused when they were used", later),
    ]


def _judge_right(what: str, outcomes: Sequence[Outcome]) -> Finding:
    wrong = [each for each in outcomes if not each.is_right]
    return Finding(f"{what}: {len(outcomes) - len(wrong)} of {len(outcomes)}{_shown(wrong)}", not wrong)


def _shown(outcomes: Sequence[Outcome]) -> str:
    return f"; not: {'; '.join(map(str, outcomes[:_SHOWN]))}" if outcomes else ""
