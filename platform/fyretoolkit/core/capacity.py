"""Whether some node has room for a replica, and in what words it is said that none has.

Ray leaves an actor that fits nowhere waiting for ever and says nothing. So what it asks for is held against what the
nodes have free: a `Shortage` names both, so that who reads it knows what to ask for instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_ONE_OF = re.compile(r"in\((.*)\)")
_ACCELERATOR = "accelerator_type:"
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Ask:
    """What one replica needs."""

    resources: Mapping[str, float]
    """By Ray's names of them; those that are 0 left out."""
    labels: Mapping[str, str]
    """What the labels of its node must be: Ray's label selector."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive."""

    labels: Mapping[str, str]
    free: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Shortage:
    """No node has room."""

    ask: Ask
    free: Mapping[str, float] | None
    """What the best of the nodes that fit by their labels has free of each thing asked for; None: there is none."""

    @property
    def lacking(self) -> frozenset[str]:
        """The resources of which more would have to be free; none where there is no such node at all."""
        if self.free is None:
            return frozenset()
        return frozenset(
            name for name, amount in self.ask.resources.items() if self.free[name] + _EPSILON < amount
        )

    def describe(self) -> str:
        """A sentence on what was asked for, and one on what there is."""
        asked = f"A replica asks for {_amounts(self.ask.resources)}{_on(self.ask.labels)}."
        if self.free is None:
            return f"{asked} There is no such node."
        return f"{asked} The node with the most room has {_amounts(self.free)} free."

    def details(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "asked": dict(self.ask.resources),
            "labels": dict(self.ask.labels),
            "free": None if self.free is None else dict(self.free),
        }


def find_shortage(ask: Ask, nodes: Iterable[Node]) -> Shortage | None:
    """None if a node has room by now."""
    fitting = [node for node in nodes if matches(node.labels, ask.labels)]
    if any(_satisfied(ask, node) == len(ask.resources) for node in fitting):
        return None
    if not fitting:
        return Shortage(ask, None)
    best = max(
        fitting, key=lambda node: (_satisfied(ask, node), sum(node.free.get(n, 0) for n in ask.resources))
    )
    return Shortage(ask, {name: round(best.free.get(name, 0.0), 4) for name in ask.resources})


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node's labels are as Ray's selector wants them: `v`, `!v`, `in(a,b)`, `!in(a,b)`."""
    return all(_is_wanted(labels.get(name), wanted) for name, wanted in selector.items())


def _is_wanted(value: str | None, wanted: str) -> bool:
    is_negated = wanted.startswith("!")
    plain = wanted.removeprefix("!")
    listed = _ONE_OF.fullmatch(plain)
    values = [each.strip() for each in listed[1].split(",")] if listed else [plain]
    return (value in values) is not is_negated


def _satisfied(ask: Ask, node: Node) -> int:
    return sum(node.free.get(name, 0.0) + _EPSILON >= amount for name, amount in ask.resources.items())


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(_amount(name, amount) for name, amount in resources.items()) or "nothing"


def _amount(name: str, amount: float) -> str:
    if name.startswith(_ACCELERATOR):
        return f"{'an' if amount else 'no'} accelerator {name.removeprefix(_ACCELERATOR)}"
    return f"{amount:g} {name}"


def _on(labels: Mapping[str, str]) -> str:
    wanted = " and ".join(f"{name}={value}" for name, value in labels.items())
    return f" on a node with {wanted}" if wanted else ""
