"""`fyre doctor`: the usual troubles, each in a sentence with the way out.

The machine (ports, memory, disk, Redis, GPUs, versions) is looked at by `python -m fyretoolkit.launch doctor`, since
the CLI can be installed without the platform. What this shell reaches (the platform, its clock, the key) is asked here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Literal

import httpx
import typer

from fyretoolkit.cli.calls import DONE, REFUSED, base_url
from fyretoolkit.cli.output import JsonOption, print_json, print_table
from fyretoolkit.cli.platform import HomeOption, has_platform, home_of
from fyretoolkit.client import AuthenticationError, Client, ConfigurationError, FyreError
from fyretoolkit.client.options import is_this_machine

_TIMEOUT_S = 5.0
_MACHINE_TIMEOUT_S = 120.0
_MAX_SKEW_S = 30.0
"""Receivers of webhooks bear five minutes; what a clock is off by grows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part; `message` says what to do about what is wrong."""

    part: str
    status: Literal["ok", "wrong", "unknown"]
    message: str


def doctor(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(help="Port of the HTTP API.", envvar="FYRE_PORT")] = 8000,
    as_json: JsonOption = False,
) -> None:
    """Look for the usual troubles and say what to do about each.

    Exit codes: 0 nothing is wrong, 1 something is.
    """
    found = [*_machine(home_of(home), port), *_reached()]
    is_well = all(finding.status != "wrong" for finding in found)
    if as_json:
        findings = [asdict(finding) for finding in found]
        print_json({"object": "checkup", "is_well": is_well, "findings": findings})
    else:
        print_table(("part", "status", "finding"), ((each.part, each.status, each.message) for each in found))
    raise typer.Exit(DONE if is_well else REFUSED)


def _machine(home: Path, port: int) -> Iterator[Finding]:
    if not has_platform():
        yield Finding("machine", "unknown", "This installation has the client alone: nothing is checked.")
        return
    command = [sys.executable, "-m", "fyretoolkit.launch", "doctor", f"--home={home}", f"--port={port}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MACHINE_TIMEOUT_S, check=True)
        yield from (Finding(**finding) for finding in json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        yield Finding("machine", "wrong", f"It was not looked at within {_MACHINE_TIMEOUT_S:.0f} s.")
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().rpartition("\n")[2] or f"exit code {error.returncode}"
        yield Finding("machine", "wrong", f"It cannot be looked at: {said}")


def _reached() -> Iterator[Finding]:
    """What this shell reaches; what nobody answered for is not asked on."""
    url = base_url()
    began = time.time()
    try:
        answer = httpx.get(f"{url}/readyz", timeout=_TIMEOUT_S, trust_env=not is_this_machine(url))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        said = str(error).rstrip(".") or type(error).__name__
        start = "Start it with fyre up, or correct FYRE_BASE_URL."
        yield Finding("platform", "wrong", f"{url} does not answer: {said}. {start}")
        return
    yield _readiness(url, answer)
    yield _clock(answer.headers.get("date"), (began + time.time()) / 2)
    yield _key()


def _readiness(url: str, answer: httpx.Response) -> Finding:
    try:
        body = answer.json()
        checks = body["checks"] if answer.is_success else body["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = f"What answers at {url} is not FyreToolkit. Correct FYRE_BASE_URL."
        return Finding("platform", "wrong", said)
    if answer.is_success:
        return Finding("platform", "ok", f"{url} is ready: {', '.join(checks)}")
    return Finding("platform", "wrong", f"{url} is not ready: {checks} fyre logs supervisor tells more.")


def _clock(date: str | None, now: float) -> Finding:
    """This machine's clock beside the platform's, which tells whole seconds."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp() + 0.5
    except ValueError:
        return Finding("clock", "unknown", "The platform's answer tells no time.")
    skew_s = now - theirs
    if abs(skew_s) <= _MAX_SKEW_S:
        return Finding("clock", "ok", f"within {max(1, round(abs(skew_s)))} s of the platform's")
    direction = "ahead of" if skew_s > 0 else "behind"
    said = f"This machine's clock is {abs(skew_s):.0f} s {direction} the platform's"
    return Finding("clock", "wrong", f"{said}: set both by NTP (timedatectl set-ntp true).")


def _key() -> Finding:
    try:
        with Client(timeout=_TIMEOUT_S, max_retries=0) as client:
            client.models.list(limit=1)
    except ConfigurationError as error:
        hint = 'For a platform of this machine: eval "$(fyre env)".'
        return Finding("key", "wrong", f"{error} {hint}" if "FYRE_API_KEY" not in os.environ else str(error))
    except AuthenticationError as error:
        said = f"The key in FYRE_API_KEY is refused ({error.code}): {error.message}"
        return Finding("key", "wrong", f"{said} An admin makes another with fyre keys create.")
    except FyreError as error:
        return Finding("key", "unknown", f"It could not be tried: {error}")
    return Finding("key", "ok", "The key in FYRE_API_KEY works.")
