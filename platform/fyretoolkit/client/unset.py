"""The default of an argument for which None means something."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Unset(Enum):
    """An argument that was not passed."""

    UNSET = "UNSET"
    """Leave it as it is."""


UNSET: Final = Unset.UNSET
