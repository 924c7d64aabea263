"""Whether some node has room for a replica, and in what words it is said that none has.

Ray leaves an actor that fits nowhere waiting for ever and says nothing. So what it asks for is held against what the
nodes have free: a `Shortage` names both, so that who reads it knows what to ask for instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_ONE_OF = re.compile(r"in\((.*)\)")
GPU = "GPU"
"""Ray's name of the one resource that is counted by device."""
LEAST_SHARE = 0.0001
"""Of a resource: Ray counts in these, and refuses what is less and not 0."""
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
class Holding:
    """What a replica has of its node."""

    resources: Mapping[str, float]
    gpus: Mapping[int, float] = field(default_factory=dict)
    """Of which GPU how much, by their numbers."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive."""

    labels: Mapping[str, str]
    free: Mapping[str, float]
    gpus: Sequence[float] = ()
    """What each of its GPUs has free at most; empty: not known, then they are taken for one."""
    held: Mapping[str, Sequence[Holding]] = field(default_factory=dict)
    """What the replicas of applications have of it, by the names of these."""

    def without(self, applications: Collection[str]) -> Node:
        """As it will be when these are gone."""
        free, shares = Counter(self.free), Counter[int]()
        for holding in (each for name in applications for each in self.held.get(name, ())):
            free.update(holding.resources)
            shares.update(holding.gpus)
        gpus = [amount + shares[number] for number, amount in enumerate(self.gpus)]
        rest = {name: holdings for name, holdings in self.held.items() if name not in applications}
        return Node(self.labels, free, gpus, rest)

    def available(self, name: str, amount: float) -> float:
        """What a replica that asks for so much could have: a share is of one GPU, more are whole ones."""
        free = self.free.get(name, 0.0)
        if name != GPU or not self.gpus:
            return free
        whole = sum(each + _EPSILON >= 1 for each in self.gpus)
        return min(free, max(self.gpus) if amount < 1 else whole)


@dataclass(frozen=True, slots=True)
class Shortage:
    """No node has room."""

    ask: Ask
    free: Mapping[str, float] | None
    """What a replica could have of each thing asked for, on the best of the nodes that fit by their labels; None:
    there is none."""
    is_scattered: bool = False
    """Whether that node has enough free of its GPUs in all, but a share not on one, or whole ones not whole."""

    def describe(self) -> str:
        """A sentence on what was asked for, and one on what there is."""
        asked = f"A replica asks for {_amounts(self.ask.resources)}{_on(self.ask.labels)}."
        if self.free is None:
            return f"{asked} There is no such node."
        found = f"{asked} The node with the most room has {_amounts(self.free)} free."
        if self.is_scattered:
            return f"{found} More of its GPUs is free, but in pieces that no one replica can have."
        return found

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
    best = max(fitting, key=lambda node: (_satisfied(ask, node), sum(_available(ask, node).values())))
    free = _available(ask, best)
    wanted = ask.resources.get(GPU, 0.0)
    is_scattered = free.get(GPU, 0.0) + _EPSILON < wanted <= best.free.get(GPU, 0.0) + _EPSILON
    return Shortage(ask, {name: round(amount, 4) for name, amount in free.items()}, is_scattered)


def has_room(ask: Ask, node: Node) -> bool:
    """Whether this one has, and is one that is asked for."""
    return find_shortage(ask, [node]) is None


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
    available = _available(ask, node)
    return sum(available[name] + _EPSILON >= amount for name, amount in ask.resources.items())


def _available(ask: Ask, node: Node) -> dict[str, float]:
    return {name: node.available(name, amount) for name, amount in ask.resources.items()}


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(_amount(name, amount) for name, amount in resources.items()) or "nothing"


def _amount(name: str, amount: float) -> str:
    if name.startswith(_ACCELERATOR):
        return f"{'an' if amount else 'no'} accelerator {name.removeprefix(_ACCELERATOR)}"
    return f"{amount:g} {name}"


def _on(labels: Mapping[str, str]) -> str:
    wanted = " and ".join(f"{name}={value}" for name, value in labels.items())
    return f" on a node with {wanted}" if wanted else ""
