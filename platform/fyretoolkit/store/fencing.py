"""Fencing: of several controllers, the store obeys the one that started last."""

from __future__ import annotations


class FencedError(Exception):
    """The writer is not the newest controller any more: it must stop."""
