"""What this machine's node is for Ray beyond its cores: its labels, which make its regions, and GPUs for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fyretoolkit.core.regions import parse_labels, served_and_not
from fyretoolkit.launch.failures import LaunchError

_LABELS, _GPUS, _PROVIDERS = "FYRE_NODE_LABELS", "FYRE_TEST_GPUS", "FYRE_TEST_PROVIDERS"
_KNOWN_PROVIDERS = ("CUDAExecutionProvider",)
_MAX_GPUS = 64


@dataclass(frozen=True, slots=True)
class Node:
    """The head's own node."""

    labels: Mapping[str, str] = field(default_factory=dict)
    num_gpus: int | None = None
    """For tests: so many, which Ray counts and nobody has. None: those that Ray finds."""

    @property
    def ray_options(self) -> dict[str, object]:
        """For `ray start`."""
        options: dict[str, object] = {}
        if self.labels:
            options["labels"] = ",".join(f"{key}={value}" for key, value in self.labels.items())
        if self.num_gpus is not None:
            options["num-gpus"] = self.num_gpus
        return options


def node_from(environ: Mapping[str, str]) -> Node:
    """The node as the environment describes it.

    Raises:
        LaunchError: naming the variable and what does not fit.
    """
    try:
        labels = parse_labels(environ.get(_LABELS, ""))
    except ValueError as error:
        raise LaunchError(f"{_LABELS}: {error}.") from error
    provider = environ.get(_PROVIDERS)
    if provider and provider not in _KNOWN_PROVIDERS:
        raise LaunchError(
            f"{_PROVIDERS}: there is a double of {' and '.join(_KNOWN_PROVIDERS)}, none of {provider!r}."
        )
    wanted = environ.get(_GPUS) or None
    if wanted is not None and not (wanted.isascii() and wanted.isdigit() and int(wanted) <= _MAX_GPUS):
        raise LaunchError(f"{_GPUS}: a number from 0 to {_MAX_GPUS}, not {wanted!r}.")
    return Node(labels, None if wanted is None else int(wanted))


def region_lines(regions: Mapping[str, Mapping[str, str]], labels: Mapping[str, str]) -> list[str]:
    """What an operator is told of the regions: those that this machine serves, and what the others wait for."""
    served, others = served_and_not(regions, labels)
    lines = [f"{', '.join(served)}: on this machine" if served else "none on this machine"]
    for name in others:
        wanted = ", ".join(f"{key}={condition}" for key, condition in regions[name].items())
        lines.append(f"{name}: needs a node with {wanted}")
    return lines
