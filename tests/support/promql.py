"""What dashboards and alerts ask for, and what an exporter shows: as much of PromQL as it takes to compare the two.

A tokenizer, no parser: which names are asked for and with which matchers, not what is computed from them. That is for
Prometheus itself, where it is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from fyretoolkit.settings import PROJECT_ROOT

GRAFANA = PROJECT_ROOT / "configs" / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "fyretoolkit.json"
ALERTS = GRAFANA / "alerts.yml"

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*")|(?P<range>\[[^\]]*\])|(?P<name>[a-zA-Z_:][\w:]*)|(?P<number>[\d.]+)
    |(?P<mark>=~|!~|!=|==|<=|>=|[-+*/%^=<>(){},])|(?P<space>\s+)""",
    re.VERBOSE,
)
_WITH_LABELS = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))
_WORDS = frozenset(("and", "or", "unless", "bool", "offset"))
_MATCHES: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, wanted: re.fullmatch(wanted, value) is not None,
    "!~": lambda value, wanted: re.fullmatch(wanted, value) is None,
}
_VARIABLES = {"$__rate_interval": "1m", "$model": ".*", "$deployment": ".*"}


class Shown(NamedTuple):
    """One sample of an exporter."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Selector:
    """A name and the (label, operator, value) that narrow it."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def matches(self, sample: Shown) -> bool:
        """As Prometheus does: a label that is not there is empty."""
        return sample.name == self.name and all(
            _MATCHES[operator](sample.labels.get(label, ""), value)
            for label, operator, value in self.matchers
        )


@dataclass(frozen=True)
class Asked:
    """An expression and who asks it; `is_alert`: it finds nothing while all is well."""

    where: str
    expr: str
    is_alert: bool = False

    @property
    def measured(self) -> list[str]:
        """The expression, of an alert the parts of it that are compared, which always find something."""
        if not self.is_alert:
            return [self.expr]
        parts = re.split(r"\s(?:and|or)\s", self.expr)
        return [
            re.sub(r"\s*(?:==|<|>)\s*[\d.]+$", "", part) for part in parts if not part.startswith("absent(")
        ]


def selectors(expr: str) -> list[Selector]:
    """Everything that the expression asks the store for.

    Raises:
        ValueError: it holds something that this does not know.
    """
    tokens = _tokens(expr)
    found = []
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        follower = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if text in _WITH_LABELS:
            at = _end_of(tokens, at, ")") if follower == "(" else at
            continue
        if kind != "name" or text in _WORDS or follower == "(" or follower in _WITH_LABELS:
            continue
        inside: list[tuple[str, str]] = []
        if follower == "{":
            end = _end_of(tokens, at, "}")
            inside, at = tokens[at + 1 : end - 1], end
        found.append(Selector(text, tuple(_matchers(inside))))
    return found


def _tokens(expr: str) -> list[tuple[str, str]]:
    tokens = []
    at = 0
    while at < len(expr):
        match = _TOKEN.match(expr, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"not known here: {expr[at:]!r}")
        if match.lastgroup != "space":
            tokens.append((match.lastgroup, match.group()))
        at = match.end()
    return tokens


def _end_of(tokens: list[tuple[str, str]], at: int, mark: str) -> int:
    while tokens[at][1] != mark:
        at += 1
    return at + 1


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    for start in range(0, len(tokens), 4):  # label, operator, string, comma
        label, operator, value = (text for _, text in tokens[start : start + 3])
        yield label, operator, json.loads(value)


def dashboard_expressions() -> list[Asked]:
    """Of every panel and variable, with the dashboard's own variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [
        Asked(f"{panel['title']} {target['refId']}", target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            (expr,) = re.findall(r"^label_values\((.*), \w+\)$", variable["query"]["query"])
            asked.append(Asked(f"variable {variable['name']}", expr))
    return [Asked(each.where, _filled(each.expr)) for each in asked]


def alert_expressions() -> list[Asked]:
    """Of every alert."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [Asked(rule["alert"], rule["expr"], is_alert=True) for group in groups for rule in group["rules"]]


def _filled(expr: str) -> str:
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def parse_samples(text: str) -> list[Shown]:
    """What an exporter shows in the text format, version 0.0.4."""
    found = []
    for line in text.splitlines():
        if match := re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?", line):
            name, labels, value = match.groups()
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
            found.append(Shown(name, dict(pairs), float(value)))
    return found


def targets_of(home: Path) -> list[str]:
    """host:port of each exporter, where Prometheus finds them."""
    return [
        target
        for group in json.loads((home / "run" / "prometheus.json").read_text())
        for target in group["targets"]
    ]
