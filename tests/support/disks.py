"""Disks that are nearly full, without filling one."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def free_with(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Every disk says that so much of it is free."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _path: _Usage(1 << 50, (1 << 50) - free_bytes, free_bytes)
    )
