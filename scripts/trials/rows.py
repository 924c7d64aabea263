"""Rows made to break whoever reads or predicts them, among 10,000 good ones, as JSONL and as CSV; and a neighbour.

20,000 levels of JSON, a row of 50 MB, bad UTF-8, a NUL, NaN, 5,000 digits, a quote that never closes, and rows of which
ONNX Runtime dies: each must become one error line with its place and code, every other row must have the right result,
and the job must end in time. Meanwhile another organization's job must not take much longer than it does alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.behaviour.stage import Finding, conclude, introduce, new_key, running_platform
from scripts.trials.hostile.rows import MODEL, Expected, publishable, write_csv, write_jsonl
from tests.support.platform import RunningPlatform, submit, until

HELP = "10,000 rows, some of which kill whoever predicts them: an error line each, and a neighbour unharmed"

_LIMIT_S = 120.0
_NEIGHBOUR_BAR = 1.5
_GLOSSES = PROJECT_ROOT / "tests" / "golden" / "wordnet_sample.jsonl.gz"
_FORMATS: Mapping[str, Callable[[Path, int], Expected]] = {"jsonl": write_jsonl, "csv": write_csv}
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job that ended, how long after it was created, and its lines."""

    job: dict[str, Any]
    took_s: float
    results: list[dict[str, Any]]
    errors: list[dict[str, Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos rows`."""
    parser.add_argument("--rows", type=int, default=10_000, help="of each file (10,000)")
    parser.add_argument("--copies", type=int, default=80, help="of 2,942 rows that the neighbour has (80)")


def run(options: argparse.Namespace) -> int:
    """Print the verdicts; 1 if one does not hold."""
    introduce()
    with (
        tempfile.TemporaryDirectory(prefix="fb-") as folder,
        running_platform(has_demo_models=True) as platform,
    ):
        return conclude(conduct(platform, Path(folder), rows=options.rows, copies=options.copies))


def conduct(platform: RunningPlatform, folder: Path, *, rows: int, copies: int) -> list[Finding]:
    """The neighbour alone, then beside the first of the hostile files, then the other one."""
    glosses = folder / "glosses.jsonl"
    glosses.write_bytes(gzip.decompress(_GLOSSES.read_bytes()) * copies)
    with platform.client() as client, platform.client() as neighbour:
        neighbour.auth = httpx.BasicAuth(new_key(platform, "neighbour"), "")
        register(client, folder)
        alone_s = min(_timed(neighbour, glosses) for _ in range(2))
        findings: list[Finding] = []
        beside_s = 0.0
        for suffix, write in _FORMATS.items():
            path = folder / f"rows.{suffix}"
            expected = write(path, rows)
            job, began = submit(client, MODEL, path.as_uri()), time.monotonic()
            if not beside_s:
                beside_s = _timed(neighbour, glosses)
            findings += judge(suffix, followed(client, job, began), expected)
    return [
        *findings,
        Finding(
            f"a neighbour's job took {beside_s:.1f} s beside it ≤ {_NEIGHBOUR_BAR} × {alone_s:.1f} s alone "
            f"({beside_s / alone_s:.2f} ×)",
            beside_s <= _NEIGHBOUR_BAR * alone_s,
        ),
    ]


def register(client: httpx.Client, folder: Path) -> None:
    """The model that divides."""
    body = {"id": MODEL, "model_uri": publishable(folder).as_uri()}
    client.post("/models", json=body).raise_for_status()
    until(lambda: client.get(f"/models/{MODEL}").json()["status"] == "ready", timeout_s=240, what="the model")


def followed(client: httpx.Client, job_id: str, began: float) -> Outcome:
    """Wait for the job's end and read what it has."""
    job = until(lambda: _ended(client, job_id), timeout_s=2 * _LIMIT_S, what=f"the end of {job_id}")
    took_s = time.monotonic() - began
    results, errors = (
        [json.loads(line) for line in client.get(job[name]).raise_for_status().text.splitlines()]
        for name in ("output_url", "errors_url")
    )
    return Outcome(job, took_s, results, errors)


def _timed(client: httpx.Client, path: Path) -> float:
    began = time.monotonic()
    job_id = submit(client, "sentiment-v1", path.as_uri())
    job = until(lambda: _ended(client, job_id), timeout_s=2 * _LIMIT_S, what=f"the end of {job_id}")
    if job["status"] != "completed":
        raise AssertionError(f"the neighbour's job: {job['error']}")
    return time.monotonic() - began


def _ended(client: httpx.Client, job_id: str) -> dict[str, Any] | None:
    job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
    return job if job["finished"] else None


def judge(name: str, outcome: Outcome, expected: Expected) -> list[Finding]:
    """Each line against what must come of the file."""
    errors = [(line["index"], line["line"], line["error"]["code"]) for line in outcome.errors]
    results = [(line["index"], line["result"]["y"]) for line in outcome.results]
    odd = sorted(set(errors) ^ set(expected.errors))[:_SHOWN]
    wrong = sorted(set(results) ^ set(expected.results))[:_SHOWN]
    crashed = sum(code == "row_crashed" for _, _, code in expected.errors)
    return [
        Finding(
            f"{name}: {len(expected.errors)} error lines, {crashed} of them of rows that kill; not so: {odd or 'none'}",
            errors == list(expected.errors),
        ),
        Finding(
            f"{name}: {len(expected.results)} right results in order; not so: {wrong or 'none'}",
            results == list(expected.results) and outcome.job["status"] == "completed",
        ),
        Finding(f"{name}: done after {outcome.took_s:.1f} s ≤ {_LIMIT_S:g} s", outcome.took_s <= _LIMIT_S),
    ]
