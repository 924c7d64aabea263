"""Whether this system lets a process have a network of its own: some containers do not."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

_ASK = (
    "import sys; from fyretoolkit.models.sandbox import leave_network; sys.exit(0 if leave_network() else 7)"
)


@lru_cache
def are_namespaces_permitted() -> bool:
    """Asked of a process that may be spoilt."""
    status = subprocess.run([sys.executable, "-c", _ASK], env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    assert status.returncode in (0, 7)
    return status.returncode == 0
