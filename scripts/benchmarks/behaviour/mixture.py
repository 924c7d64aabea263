"""Requests as they come to a public endpoint: most are right, one in a hundred is wrong in its own way.

Each body comes with the judgement of its answer: a right one must be answered as it was when it was alone on a quiet
platform, a wrong one with the error that is about it.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.comparison.workloads import TOLERANCE, Workload

GOOD_PER_BAD = 99
_GOLDEN = PROJECT_ROOT / "tests" / "golden"
_DEMO_MODELS = PROJECT_ROOT / "configs" / "demo_models"
_ROWS = (1, 1, 2, 1, 5, 1, 16, 3)
"""Of the requests, in turn: callers differ in how much they send at a time."""
_PIXELS = 64
_NAN_PIXELS = base64.b64encode(struct.pack("<64f", *[float("nan")] * _PIXELS)).decode()

Check = Callable[[int, Any], str | None]
"""Of an answer's status and JSON: what is wrong with it, None if nothing is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A body that is sent, and what its answer must be."""

    body: bytes
    is_bad: bool
    check: Check


@dataclass(frozen=True, slots=True)
class Bad:
    """A wrong request: `says` is part of the message that names what is wrong."""

    body: bytes
    status: int
    code: str
    says: str

    def check(self, status: int, answer: Any) -> str | None:
        """It is refused, for what is wrong with it."""
        error = answer.get("error", {})
        found = (status, error.get("code"))
        if found != (self.status, self.code) or self.says not in error.get("message", ""):
            return f"{self.body[:80]!r} was answered {status} {str(answer)[:300]}"
        return None


def digits() -> Workload:
    """Pictures of the golden file, one to sixteen a request."""
    lines = (_GOLDEN / "digits_golden.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line)["pixels"] for line in lines]
    return Workload("digits", _DEMO_MODELS / "digits", "float32", _grouped(rows))


def sentiment(*, requests: int = 48, rows: Sequence[int] = _ROWS) -> Workload:
    """WordNet's glosses, as many a request as `rows` says in turn; one text is empty, which is a text."""
    with gzip.open(_GOLDEN / "wordnet_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = ["", *(json.loads(line)["text"] for line in file)]
    grouped = _grouped(texts, rows)[:requests]
    return Workload("sentiment-v1", _DEMO_MODELS / "sentiment-v1", "string", grouped)


def _grouped(rows: Sequence[Any], sizes: Sequence[int] = _ROWS) -> list[Sequence[Any]]:
    groups, start = [], 0
    while start + (size := sizes[len(groups) % len(sizes)]) <= len(rows):
        groups.append(rows[start : start + size])
        start += size
    return groups


def mixed(workload: Workload, alone: Sequence[bytes]) -> list[Entry]:
    """Every wrong request once, each after 99 right ones; `alone` are the answers to the right ones, by themselves."""
    answers = [json.loads(content)["results"] for content in alone]
    good = [
        Entry(body, is_bad=False, check=_as_alone(answer))
        for body, answer in zip(workload.bodies, answers, strict=True)
    ]
    bad = [Entry(each.body, is_bad=True, check=each.check) for each in bad_requests(workload)]
    bad.append(_half_bad(workload, answers))
    entries = []
    for number, each in enumerate(bad):
        start = number * GOOD_PER_BAD
        entries += [good[index % len(good)] for index in range(start, start + GOOD_PER_BAD)]
        entries.append(each)
    return entries


def bad_requests(workload: Workload) -> list[Bad]:
    """Wrong in each way in which a request can be, for this kind of model."""
    first, second, third = ([row] for row in (*workload.requests[0], *workload.requests[2])[:3])
    misfits = _DIGITS_MISFITS if workload.dtype == "float32" else _TEXT_MISFITS
    refused = [
        Bad(_body([*first, item, *third]), 422, "invalid_input", f"inputs[1]{says}") for item, says in misfits
    ]
    whole = _body([*first, *second])
    return [
        *refused,
        Bad(whole[:-9], 400, "malformed_json", "not valid JSON"),
        Bad(b'{"inputs": [NaN]}', 400, "malformed_json", "not valid JSON"),
        Bad(b'{"inputs": [-Infinity]}', 400, "malformed_json", "not valid JSON"),
        Bad(b"", 400, "malformed_json", "empty"),
        Bad(b'{"inputs": []}', 400, "invalid_request", "inputs"),
        Bad(b"[]", 400, "invalid_request", "JSON object"),
        Bad(whole.replace(b'"inputs"', b'"input"'), 400, "invalid_request", "inputs"),
        Bad(whole[:-1] + b', "options": {"timeout_ms": 0}}', 400, "invalid_request", "options.timeout_ms"),
    ]


_DIGITS_MISFITS: Sequence[tuple[Any, str]] = (
    ([0] * (_PIXELS - 1), f" expected {_PIXELS} values, got {_PIXELS - 1}"),
    ([0] * (_PIXELS + 1), f" expected {_PIXELS} values, got {_PIXELS + 1}"),
    ([], f" expected {_PIXELS} values, got 0"),
    ([[0] * 8] * 8, " expected"),
    ([0] * 17 + ["1"] + [0] * 46, "[17] expected a number, got a string"),
    ([0] * 5 + [None] + [0] * 58, "[5] expected a number, got null"),
    ([0] * 63 + [True], "[63] expected a number, got a boolean"),
    ("NaN", " expected"),
    ({"b64": _NAN_PIXELS}, ".b64 holds NaN or an infinite number"),
    ({"b64": _NAN_PIXELS[:-4]}, ".b64 expected 256 bytes"),
)
_TEXT_MISFITS: Sequence[tuple[Any, str]] = (
    (7, " expected a string, got a number"),
    (None, " expected a string, got null"),
    (True, " expected a string, got a boolean"),
    (["a text in a list"], " expected a string, got a list"),
    ({"txt": "a text"}, ".txt is unknown"),
)


def _body(items: Sequence[Any], **options: Any) -> bytes:
    return json.dumps({"inputs": items, **({"options": options} if options else {})}).encode()


def _as_alone(results: Sequence[Mapping[str, Any]]) -> Check:
    def check(status: int, answer: Any) -> str | None:
        if status != 200:
            return f"a right request was answered {status} {str(answer)[:300]}"
        return difference(results, answer["results"])

    return check


def _half_bad(workload: Workload, answers: Sequence[Sequence[Mapping[str, Any]]]) -> Entry:
    """Right, wrong, right, with on_error: continue: the right ones have their answers."""
    (first,), (second,) = workload.requests[0], workload.requests[1]
    misfits = _DIGITS_MISFITS if workload.dtype == "float32" else _TEXT_MISFITS
    item, says = misfits[0]

    def check(status: int, answer: Any) -> str | None:
        if status != 200:
            return f"on_error: continue was answered {status} {str(answer)[:300]}"
        one, error, two = answer["results"]
        message = error.get("error", {}).get("message", "")
        if f"inputs[1]{says}" not in message:
            return f"in the place of a wrong input: {error}"
        return difference([*answers[0], *answers[1]], [one, two])

    return Entry(_body([first, item, second], on_error="continue"), is_bad=True, check=check)


def difference(expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> str | None:
    """How results differ: labels at all, probabilities by more than 1e-6; None if they do not."""
    if [each.get("label") for each in expected] != [each.get("label") for each in found]:
        return f"labels differ: {str(found)[:300]} instead of {str(expected)[:300]}"
    for one, other in zip(expected, found, strict=True):
        known, given = _by_class(one), _by_class(other)
        if known.keys() != given.keys():
            return f"classes differ: {sorted(given)}"
        gap = max(abs(known[name] - given[name]) for name in known)
        if not gap <= TOLERANCE:
            return f"a probability is {gap:.2g} off"
    return None


def _by_class(result: Mapping[str, Any]) -> dict[str, float]:
    given = result["probabilities"]
    return (
        dict(given) if isinstance(given, dict) else {str(index): value for index, value in enumerate(given)}
    )


def with_rows(workload: Workload, rows: int, requests: int) -> Workload:
    """The same rows in requests of one size, repeated as often as that takes."""
    items = [item for request in workload.requests for item in request]
    grouped = [
        [items[(number * rows + row) % len(items)] for row in range(rows)] for number in range(requests)
    ]
    return replace(workload, requests=grouped)
