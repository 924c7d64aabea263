"""What the root README tells a stranger to type, read out of its code blocks.

Read, not repeated here: a README that no longer leads there fails, and none can lead elsewhere than was timed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

README_URL = "http://localhost:8000"
"""Where it says that the platform answers."""
_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_DOWN = re.compile(r"`(\./scripts/down)`")


@dataclass(frozen=True, slots=True)
class Instructions:
    """Commands for a shell in the checkout, and one program."""

    start: str
    """From the checkout to a platform that answers."""
    exports: str
    """What it says to put into the environment, for every shell after that."""
    program: str
    """The first program in Python."""
    command: str
    """The first prediction by the command line."""
    stop: str

    @classmethod
    def of(cls, readme: str) -> Instructions:
        """What the text of the README says.

        Raises:
            LookupError: something is not in it.
        """
        blocks = _BLOCK.findall(readme)
        shell = [text for language, text in blocks if language == "sh"]
        lines = [line for text in shell for line in text.splitlines()]
        return cls(
            start=_first(shell, lambda text: "./scripts/up" in text, "a block that starts the platform"),
            exports="\n".join(line for line in lines if line.startswith("export ")),
            program=_first(
                [text for language, text in blocks if language == "python"],
                lambda text: ".predict(" in text,
                "a program that predicts",
            ),
            command=_first(lines, lambda line: line.startswith("fyre predict "), "a line with fyre predict"),
            stop=_first(_DOWN.findall(readme), bool, "how to stop it"),
        )


def _first(texts: list[str], fits: Callable[[str], object], what: str) -> str:
    for text in texts:
        if fits(text):
            return text
    raise LookupError(f"The README has not: {what}.")
