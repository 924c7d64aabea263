"""Batch jobs that the conformance tests look at: many small ones that ended, and a long one seen while it ran.

They are made together and have ended, or were canceled, before a test sees them: what a test finds does not depend on
when it runs, and no job of theirs disturbs the tests of the running platform.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import pyarrow as pa

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.conformance import BAD, GOOD, Caller, serving
from tests.support.platform import until

GOLDEN = PROJECT_ROOT / "tests" / "golden"
AMBIGUOUS = f'"text"\n"{GOOD}"\n"{BAD}"\n'.encode()
"""Two rows as CSV, three as JSONL."""
CANCELS = 8

_PATIENCE_S = 240


def finished_jobs(caller: Caller) -> dict[str, dict[str, Any]]:
    """Ended jobs by name, each named for what is particular about its input."""
    pages = {
        "/typed": (200, {"content-type": "text/csv"}, AMBIGUOUS),
        "/sniffed": (200, {"content-type": "application/octet-stream"}, AMBIGUOUS),
        "/named.csv": (200, {"content-type": "application/jsonl"}, AMBIGUOUS),
        "/redirect.jsonl": (302, {"location": "http://169.254.169.254/latest/meta-data"}, b""),
    }
    with serving(pages) as url:
        submitted = {
            name: caller.made(f"/batch/{body.pop('model', 'sentiment-v1')}", body)["id"]
            for name, body in {**_uploaded(caller), **_fetched(url)}.items()
        }
        return {name: caller.ended_job(job_id) for name, job_id in submitted.items()}


def _fetched(url: str) -> dict[str, dict[str, Any]]:
    paths = {
        "typed": "/typed",
        "sniffed": "/sniffed",
        "named": "/named.csv",
        "redirected": "/redirect.jsonl",
        "missing": "/not-here.jsonl",
    }
    return {name: {"input_url": url + path} for name, path in paths.items()}


def _uploaded(caller: Caller) -> dict[str, dict[str, Any]]:
    rows = [
        json.dumps({"id": "a", "text": GOOD}),
        json.dumps({"custom_id": "b", "text": BAD}),
        '{"id": "c", "text": "unfinished',
        json.dumps({"id": "d", "word": "no text"}),
        json.dumps({"text": GOOD}),
    ]
    jsonl = "\n".join(rows).encode()
    strange_csv = f'\ufeffid,word,text\r\n00123,w,"{GOOD.replace(" ", chr(10))}"\r\n7,w,{BAD}'.encode()
    only_column = pa.Codec("zstd").compress(json.dumps({"review": GOOD}).encode() + b"\n", asbytes=True)
    contents = {
        "rows": ("rows.jsonl", jsonl, {"metadata": {"team": "a"}}),
        "bare": ("bare.jsonl", f'"{GOOD}"\n"{BAD}"\n'.encode(), {}),
        "csv": ("rows.csv", strange_csv, {}),
        "input": ("input.csv", f"other,input\nx,{GOOD}\n".encode(), {}),
        "only_column": ("review.jsonl.zst", only_column, {}),
        "features": (
            "cells.csv.gz",
            gzip.compress(_features()),
            {"model": "breast-cancer", "output_format": "csv"},
        ),
        "all_failed": ("bad.jsonl", b'{"text": 1}\n{"text": 2}\n', {}),
        "over_rate": ("half.jsonl", jsonl, {"max_error_rate": 0.2}),
        "too_slow": ("long.jsonl", long_input(), {"timeout_s": 1}),
    }
    return {
        name: {"input_url": caller.upload(content, file_name), **fields}
        for name, (file_name, content, fields) in contents.items()
    }


def _features() -> bytes:
    """One row of measurements as CSV, its columns in another order than the signature's."""
    features = golden("breast_cancer")[0]["features"]
    names = sorted(features)
    return f"{','.join(names)}\n{','.join(str(features[name]) for name in names)}\n".encode()


def golden(name: str) -> list[dict[str, Any]]:
    """The golden rows of a demo model."""
    return [json.loads(line) for line in (GOLDEN / f"{name}_golden.jsonl").read_text("utf-8").splitlines()]


def long_input(copies: int = 20) -> bytes:
    """58,840 sentences as JSONL: some seconds of work for an idle machine."""
    return gzip.decompress((GOLDEN / "wordnet_sample.jsonl.gz").read_bytes()) * copies


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer."""

    status: int
    headers: dict[str, str]
    text: str

    @classmethod
    def of(cls, answer: httpx.Response) -> Seen:
        """What an answer was."""
        return cls(answer.status_code, dict(answer.headers), answer.text)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object in it."""
        found: dict[str, Any] = json.loads(self.text)
        return found


@dataclass(frozen=True, slots=True)
class LongRun:
    """Answers about three jobs over a long input: one that runs, one beside it, one that waits."""

    answers: Mapping[str, Seen]
    cancels: list[Seen]
    """Simultaneous cancellations of the running job."""
    progress: list[dict[str, Any]]
    """The running job's progress, one look after another."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "answers": {name: asdict(seen) for name, seen in self.answers.items()},
            "cancels": [asdict(seen) for seen in self.cancels],
            "progress": self.progress,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> LongRun:
        """What `to_json` gave."""
        answers = {name: Seen(**seen) for name, seen in stored["answers"].items()}
        return cls(answers, [Seen(**seen) for seen in stored["cancels"]], list(stored["progress"]))


def run_long_jobs(caller: Caller) -> LongRun:
    """Start three long jobs (two run at a time), look, cancel them all: half a minute of work each, to look at it."""
    body = {"input_url": caller.upload(long_input(copies=100), "long.jsonl")}
    running, beside = _begun(caller, body), _begun(caller, body)
    waiting = caller.made("/batch/sentiment-v1", body)["id"]
    answers = {
        "queued": Seen.of(caller.get(f"/jobs/{waiting}")),
        "queued_output": Seen.of(caller.get(f"/jobs/{waiting}/output")),
        "queued_canceled": Seen.of(caller.post(f"/jobs/{waiting}/cancel")),
        "queued_canceled_again": Seen.of(caller.post(f"/jobs/{waiting}/cancel")),
        "queued_later": Seen.of(caller.get(f"/jobs/{waiting}")),
    }
    progress: list[dict[str, Any]] = []
    _wait_for_rows(caller, running, progress)
    answers |= {
        "processing": Seen.of(caller.get(f"/jobs/{running}")),
        "prefix": Seen.of(caller.get(f"/jobs/{running}/output")),
        "prefix_errors": Seen.of(caller.get(f"/jobs/{running}/errors")),
        "prefix_range": Seen.of(caller.get(f"/jobs/{running}/output", headers={"range": "bytes=0-9"})),
    }
    with ThreadPoolExecutor(CANCELS) as threads:
        asked = [threads.submit(caller.post, f"/jobs/{running}/cancel") for _ in range(CANCELS)]
        cancels = [Seen.of(each.result()) for each in asked]
    answers["canceled"] = Seen.of(caller.get(f"/jobs/{running}"))
    url = answers["canceled"].body["output_url"]
    if url:
        answers["canceled_output"] = Seen.of(_downloaded(caller, url))
    _wait_for_rows(caller, beside, [])
    caller.post(f"/jobs/{beside}/cancel")
    answers["canceled_later"] = Seen.of(caller.get(f"/jobs/{running}"))
    return LongRun(answers, cancels, progress)


def _begun(caller: Caller, body: dict[str, Any]) -> str:
    """The id of a new job once it is processing: what others left in the queue is done then."""
    name = str(caller.made("/batch/sentiment-v1", body)["id"])
    caller.settle(f"/jobs/{name}", ("processing", "completed", "failed"))
    return name


def _wait_for_rows(caller: Caller, job_id: str, progress: list[dict[str, Any]]) -> None:
    """Until the job has done more rows than at the first look."""

    def moved() -> bool:
        progress.append(caller.read(f"/jobs/{job_id}")["progress"])
        return bool(progress[-1]["processed"] > progress[0]["processed"])

    until(moved, timeout_s=_PATIENCE_S, what=f"progress of {job_id}")


def _downloaded(caller: Caller, url: str) -> httpx.Response:
    """The file behind a URL that is there before the file is put together."""

    def answered() -> httpx.Response | None:
        answer = caller.get(url)
        return answer if answer.status_code != 409 else None

    return until(answered, timeout_s=_PATIENCE_S, what=url)
