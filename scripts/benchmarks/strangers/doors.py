"""The four ways to a first prediction on a platform that has just come up: curl, Python, command line, browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser

from scripts.benchmarks.strangers.instructions import README_URL, Instructions
from tests.support.browser import visiting

_TIMEOUT_S = 600
_PATIENCE_MS = 60_000
_CURL = re.compile(r"^ *try +(curl .*)$", re.MULTILINE)


class LostError(Exception):
    """A step did not lead where the README says; the message is what was seen instead."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody in a checkout, with the environment of their shell."""

    root: Path
    environ: Mapping[str, str]
    instructions: Instructions
    url: str = README_URL

    def run(self, commands: str) -> str:
        """What commands of the README print, in a shell of their own; it and all in it end if they are broken off.

        Raises:
            LostError: one failed.
        """
        process = subprocess.Popen(
            ["sh", "-eu", "-c", commands.replace(README_URL.removeprefix("http://"), self._place)],
            cwd=self.root,
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, said = process.communicate(timeout=_TIMEOUT_S)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        if process.returncode != 0:
            raise LostError(f"exit code {process.returncode}: {printed[-2000:]}{said[-2000:]}")
        return printed

    def predict_by_curl(self, printed: str) -> None:
        """With the line that `up` printed.

        Raises:
            LostError: it printed none, or that does not lead to two labels.
        """
        found = _CURL.search(printed)
        if found is None:
            raise LostError(f"up printed no line with curl: {printed}")
        _check(self.run(f"{found[1]} --silent --show-error --fail"))

    def predict_by_client(self) -> None:
        """With the first program of the README.

        Raises:
            LostError: it does not print two labels.
        """
        _check(
            self.run(
                f"{self.instructions.exports}\npython3 - <<'PROGRAM'\n{self.instructions.program}PROGRAM"
            )
        )

    def predict_by_command(self) -> None:
        """With the first `fyre predict` of the README.

        Raises:
            LostError: it does not print two labels.
        """
        _check(self.run(f"{self.instructions.exports}\n{self.instructions.command}"))

    def predict_by_browser(self, browser: Browser) -> None:
        """In the playground: get a key, choose Predict, press Send on what is filled in.

        Raises:
            LostError: the answer is not 200 with a label.
        """
        with visiting(browser, self.url) as visit:
            page = visit.page
            page.set_default_timeout(_PATIENCE_MS)
            page.get_by_role("link", name="Get API Key").first.click()
            page.get_by_role("button", name="Create the key").click()
            page.locator(".issued").wait_for()
            page.locator("#sidebar").get_by_role("link", name="Predict").click()
            page.locator("main[data-view='#/operation/predict']").wait_for()
            page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
            status, answer = visit.send(), page.locator(".answer").inner_text()
        if status != 200 or '"label"' not in answer:
            raise LostError(f"the playground answers {status}: {answer[:500]}")

    @property
    def _place(self) -> str:
        return self.url.removeprefix("http://")


def _check(printed: str) -> None:
    if not ("positive" in printed and "negative" in printed):
        raise LostError(f"no two labels: {printed[:500]}")
