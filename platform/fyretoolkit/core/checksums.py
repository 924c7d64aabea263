"""What a caller says the content of a model_uri is: its sha256, compared with what was found there."""

from __future__ import annotations

import re

from fyretoolkit.core.errors import PlatformError

PATTERN = "^[0-9A-Fa-f]{64}$"
_SHOWN = 12


def is_sha256(text: str) -> bool:
    """Whether `text` is a digest in hexadecimal, in either case."""
    return re.fullmatch(PATTERN[1:-1], text, re.ASCII) is not None


def ensure_sha256(expected: str | None, found: str, what: str) -> None:
    """Refuses content of another digest than the caller's, if there is one. `what` begins the message.

    Raises:
        PlatformError: `checksum_mismatch`.
    """
    if expected is not None and expected.lower() != found:
        raise PlatformError(
            "checksum_mismatch",
            f"{what} has the sha256 {found[:_SHOWN]}…, not {expected[:_SHOWN].lower()}…. "
            "Correct sha256, or put the content that was meant there.",
        )


def refuse_sha256_of_folder(expected: str | None) -> None:
    """A folder has no bytes to be digested.

    Raises:
        PlatformError: `checksum_mismatch`, if a digest was given.
    """
    if expected is not None:
        raise PlatformError(
            "checksum_mismatch",
            "model_uri names a folder, and sha256 is of one file's bytes. Leave it out, or name an archive.",
        )
