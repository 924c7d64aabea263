"""What a look at a model's bytes can refuse before ONNX Runtime reads them.

The runtime is slow to notice some models that can never be served: 1.9 kB of functions that call each other ten times
over nine levels keep it busy for ever. It also follows references out of the file. Both show in the protobuf message
alone: which nodes there are, what functions expand to, how large tensors say they are, where their data lies. Payloads
of tensors are never looked at. What the scan lets through is still loaded in a sandbox: it saves time and gives better
reasons, and is not the only fence. Source: onnx.proto3; docs/SAFETY, 2.3 and findings F1.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.onnx_operators import (
    HIGHEST_IR_VERSION,
    HIGHEST_OPSET,
    domain_of,
    refusal_of,
)
from fyretoolkit.models.onnx_tensors import check_sparse_tensor, check_tensor
from fyretoolkit.models.onnx_wire import Budget, Content, MalformedError, Message, unpacked_run

MAX_NODES = 100_000
"""Of a graph or a function, with all that they call written out, and of the file as it is."""
MAX_DEPTH = 32
"""Graphs within graphs."""

_MODEL = {"ir_version": 1, "graph": 7, "opset": 8, "training": 20, "function": 25}
_GRAPH = {"node": 1, "tensor": 5, "sparse_tensor": 15}
_NODE = {"operator": 4, "attribute": 5, "domain": 7}
_TENSORS, _GRAPHS, _SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)
"""Fields of an attribute: of one of them, of a list."""
_ATTRIBUTE_RUNS = unpacked_run(floats=7, ints=8, strings=9, known=(b"BRANCH_LEQ", b"BRANCH_LT", b"LEAF"))
"""The lists of a forest: each of its nodes is a number in most of them, and its kind is one of these words."""
_SINGLES = (_TENSORS[0], _GRAPHS[0], _SPARSE_TENSORS[0])
_FUNCTION = {"name": 1, "node": 7, "opset": 9, "domain": 10, "attribute": 11}
_TRAINING_GRAPHS = (1, 2)
_OPSET = {"domain": 1, "version": 2}

Operator = tuple[str, str]
"""(domain, name)"""


@dataclass(slots=True)
class _Body:
    """The nodes of a graph, with those of the graphs within it; or of a function."""

    calls: Counter[Operator] = field(default_factory=Counter)


def scan_onnx(path: Path) -> None:
    """Refuses a model that can never be served, for what its bytes say. Bounded in time by the steps it takes.

    Raises:
        PlatformError: `invalid_onnx`, `unsupported_operator` or `artifact_too_large`, saying what to change.
    """
    if path.stat().st_size == 0:
        raise PlatformError("invalid_onnx", "The model file is empty. Export the model again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        scan_content(content)


def scan_content(content: Content) -> None:
    """As `scan_onnx`, for bytes that are there already."""
    scan = _Scan()
    try:
        scan.read_model(Message(content, 0, len(content), Budget()))
    except MalformedError as error:
        raise PlatformError(
            "invalid_onnx", f"The file is not ONNX, or is damaged: {error}. Export the model again."
        ) from None
    scan.check_operators()
    scan.check_expansion()


class _Scan:
    """What was found of one model: who calls whom, how often."""

    def __init__(self) -> None:
        self._graph: _Body | None = None
        self._functions: dict[Operator, _Body] = {}
        self._nodes = 0

    def read_model(self, message: Message) -> None:
        """All of it.

        Raises:
            MalformedError: it is no model.
            PlatformError: it is one that is not served.
        """
        for number, value in message.fields():
            if number == _MODEL["ir_version"]:
                _check_ir_version(value)
            elif number == _MODEL["opset"]:
                _check_opset(_message(value))
            elif number == _MODEL["graph"]:
                if self._graph:
                    raise MalformedError("two graphs")
                self._graph = _Body()
                self._read_graph(_message(value), self._graph, depth=1)
            elif number == _MODEL["function"]:
                self._read_function(_message(value))
            elif number == _MODEL["training"]:
                self._read_training(_message(value))
        if self._graph is None:
            raise PlatformError("invalid_onnx", "The file holds no graph. Export the model again.")

    def _read_training(self, message: Message) -> None:
        """Graphs that no inference runs; the runtime may read them all the same."""
        for number, value in message.fields():
            if number in _TRAINING_GRAPHS:
                self._read_graph(_message(value), _Body(), depth=1)

    def _read_function(self, message: Message) -> None:
        body = _Body()
        names = _Once()
        for number, value in message.fields():
            if number == _FUNCTION["node"]:
                self._read_node(_message(value), body, depth=1)
            elif number == _FUNCTION["opset"]:
                _check_opset(_message(value))
            elif number == _FUNCTION["attribute"]:
                self._read_attribute(_message(value), body, depth=1)
            elif number in (_FUNCTION["name"], _FUNCTION["domain"]):
                names.take(number, _message(value))
        key = domain_of(names.get(_FUNCTION["domain"])), names.get(_FUNCTION["name"])
        # Overloads count as one: the sum of what they call is more than any of them.
        self._functions.setdefault(key, _Body()).calls.update(body.calls)

    def _read_graph(self, message: Message, body: _Body, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise PlatformError(
                "invalid_onnx", f"The model nests graphs more than {MAX_DEPTH} deep. Export a flatter one."
            )
        for number, value in message.fields():
            if number == _GRAPH["node"]:
                self._read_node(_message(value), body, depth)
            elif number == _GRAPH["tensor"]:
                check_tensor(_message(value))
            elif number == _GRAPH["sparse_tensor"]:
                check_sparse_tensor(_message(value))

    def _read_node(self, message: Message, body: _Body, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _too_many_nodes("The model has")
        names = _Once()
        for number, value in message.fields():
            if number == _NODE["attribute"]:
                self._read_attribute(_message(value), body, depth)
            elif number in (_NODE["operator"], _NODE["domain"]):
                names.take(number, _message(value))
        body.calls[domain_of(names.get(_NODE["domain"])), names.get(_NODE["operator"])] += 1

    def _read_attribute(self, message: Message, body: _Body, depth: int) -> None:
        singles: set[int] = set()
        for number, value in message.fields(passing_over=_ATTRIBUTE_RUNS):
            if number in _SINGLES:
                if number in singles:
                    raise MalformedError("an attribute with two values")
                singles.add(number)
            if number in _GRAPHS:
                self._read_graph(_message(value), body, depth + 1)
            elif number in _TENSORS:
                check_tensor(_message(value))
            elif number in _SPARSE_TENSORS:
                check_sparse_tensor(_message(value))

    def check_operators(self) -> None:
        """Whether each operator is one of ONNX, one of the list, or a function of the model's own.

        Raises:
            PlatformError: `unsupported_operator`.
        """
        for body in self._bodies():
            for operator in body.calls:
                reason = None if operator in self._functions else refusal_of(*operator)
                if reason:
                    raise PlatformError("unsupported_operator", reason)

    def check_expansion(self) -> None:
        """How many nodes there are when every function is written out where it is called.

        Each is counted once, from the innermost outwards, so a file that expands to 10^9 nodes costs as much as any.

        Raises:
            PlatformError: `artifact_too_large`; `invalid_onnx`, a function calls itself.
        """
        sizes: dict[Operator, int] = {}
        for body, name in self._inside_out():
            size = sum(count * sizes.get(called, 1) for called, count in body.calls.items())
            if size > MAX_NODES:
                raise _too_many_nodes("With the functions it calls written out the model has")
            if name is not None:
                sizes[name] = size

    def _bodies(self) -> Iterator[_Body]:
        yield from self._functions.values()
        if self._graph:
            yield self._graph

    def _inside_out(self) -> Iterator[tuple[_Body, Operator | None]]:
        """Every function after those that it calls, then the graph. No recursion: their chain may be long."""
        waiting = {
            name: {each for each in body.calls if each in self._functions}
            for name, body in self._functions.items()
        }
        callers: dict[Operator, list[Operator]] = {name: [] for name in waiting}
        for name, called in waiting.items():
            for each in called:
                callers[each].append(name)
        ready = [name for name, called in waiting.items() if not called]
        while ready:
            name = ready.pop()
            del waiting[name]
            yield self._functions[name], name
            for caller in callers[name]:
                waiting[caller].discard(name)
                if not waiting[caller]:
                    ready.append(caller)
        if waiting:
            raise PlatformError(
                "invalid_onnx",
                f"The model's function {next(iter(waiting))[1][:80]!r} calls itself, or one that does. "
                "Export the model again.",
            )
        if self._graph:
            yield self._graph, None


class _Once:
    """Short texts of a message, each of which may be written once: of two the runtime would take the other."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def take(self, number: int, message: Message) -> None:
        """The text of a field."""
        if number in self._texts:
            raise MalformedError("a name that is written twice")
        self._texts[number] = message.name()

    def get(self, number: int) -> str:
        """What was taken; nothing if nothing was."""
        return self._texts.get(number, "")


def _message(value: int | Message) -> Message:
    if isinstance(value, int):
        raise MalformedError("a number where a message belongs")
    return value


def _check_ir_version(value: int | Message) -> None:
    if not isinstance(value, int) or value > HIGHEST_IR_VERSION:
        raise PlatformError(
            "invalid_onnx",
            f"The file has the format version {value if isinstance(value, int) else 'of something else'}; "
            f"up to {HIGHEST_IR_VERSION} are known here. Export it with an older onnx, or set model.ir_version.",
        )


def _check_opset(message: Message) -> None:
    names = _Once()
    version = 0
    for number, value in message.fields():
        if number == _OPSET["domain"]:
            names.take(number, _message(value))
        elif number == _OPSET["version"]:
            version = value if isinstance(value, int) else 0
    domain = domain_of(names.get(_OPSET["domain"]))
    highest = HIGHEST_OPSET.get(domain)
    if highest is not None and not 1 <= version <= highest:
        shown = version - (1 << 64) if version >> 63 else version
        raise PlatformError(
            "unsupported_operator",
            f"The model asks for version {shown} of the operators of {domain or 'ai.onnx'!r}; "
            f"1 to {highest} are served. Export it with opset_version={highest} or less.",
        )


def _too_many_nodes(subject: str) -> PlatformError:
    return PlatformError(
        "artifact_too_large", f"{subject} more than {MAX_NODES} nodes. Export a smaller graph."
    )
