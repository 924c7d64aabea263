"""Regions are labels of nodes: how labels and selectors are written, and which regions a node serves.

Ray decides where a replica runs (`core.capacity` repeats by which rules). Here is what an operator is told before
anything runs: that labels or a selector cannot be read, or that a region has no node on this machine.
Source: Ray 2.60, "Use labels to control scheduling"; the syntax is Kubernetes' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fyretoolkit.core.capacity import matches

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"(?:{_LABEL}/)?{_LABEL}")
_VALUE = re.compile(_LABEL)
_CONDITION = re.compile(rf"!?(?:in\({_LABEL}(?:, ?{_LABEL})*\)|{_LABEL})")


def parse_labels(text: str) -> dict[str, str]:
    """The labels in `region=eu-west-1,zone=a`.

    Raises:
        ValueError: a sentence with what does not fit.
    """
    labels = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = pair.partition("=")
        if not (sign and _KEY.fullmatch(key) and _VALUE.fullmatch(value)):
            raise ValueError(f"{pair!r} is no label: write key=value, separated by commas")
        labels[key] = value
    return labels


def check_selector(selector: Mapping[str, str]) -> None:
    """Whether Ray can read it.

    Raises:
        ValueError: a sentence with what does not fit.
    """
    for key, condition in selector.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no label's name")
        if not _CONDITION.fullmatch(condition):
            raise ValueError(f"{key}: {condition!r} is no condition; write a, !a, in(a, b) or !in(a, b)")


def served_and_not(
    regions: Mapping[str, Mapping[str, str]], labels: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """The regions that a node with these labels serves, and those it does not."""
    served = [name for name, selector in regions.items() if matches(labels, selector)]
    return served, [name for name in regions if name not in served]
