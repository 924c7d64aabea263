"""What a tensor of an ONNX file says of itself: where its data lies, how large it is, whether the file can hold that.

Bounds, not counts: numbers of variable length take at least a byte each, so their bytes bound their number, and no
payload is read. Source: onnx.proto3, TensorProto and SparseTensorProto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.onnx_wire import MalformedError, Message

MAX_TENSOR_BYTES = 2 << 30
"""As much as a protobuf message may hold."""
MAX_DENSE_BYTES = 512 << 20
"""Of a sparse tensor when it is written out, as the runtime does: a few bytes may stand for any number."""
_MAX_DIMENSIONS = 64
_MAX_LENGTH = 1 << 63

_DIMS, _DATA_TYPE, _RAW, _NAME, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 9, 8, 13, 14
_TYPED: Mapping[int, int] = MappingProxyType({4: 4, 5: 1, 6: 0, 7: 1, 10: 8, 11: 1})
"""Fields with numbers of one type: the least bytes of one where they are packed; 0: they never are."""
_BITS: Mapping[int, int] = MappingProxyType(
    {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 8: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
     16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
)  # fmt: skip
"""Of one element, by data type; of a string, of its place in a table."""
_FEWEST_BITS = 2
_VALUES, _INDICES, _SPARSE_DIMS = 1, 2, 3


@dataclass(slots=True)
class _Tensor:
    """What the fields of a tensor said."""

    name: str = ""
    data_type: int = 0
    elements: int = 1
    dimensions: int = 0
    raw_bytes: int = 0
    typed: int = 0
    """At most so many elements are in the fields of one type."""

    @property
    def bits(self) -> int:
        """Of one element; of an unknown type the fewest, so that nothing is refused for it here."""
        return _BITS.get(self.data_type, _FEWEST_BITS)

    def grow(self, length: int) -> None:
        """One dimension more."""
        self.dimensions += 1
        if length >= _MAX_LENGTH or self.dimensions > _MAX_DIMENSIONS:
            raise MalformedError("dimensions of no tensor")
        self.elements = min(self.elements * length, _MAX_LENGTH)

    def held(self) -> int:
        """At most so many elements are in the file."""
        return self.raw_bytes * 8 // self.bits + self.typed * max(1, 8 // self.bits)


def check_tensor(message: Message) -> None:
    """Refuses a tensor whose data is elsewhere, or cannot be all there.

    Raises:
        PlatformError: `invalid_onnx`, `artifact_too_large`.
        MalformedError: it is no tensor.
    """
    tensor = _read(message)
    _check_size(tensor, MAX_TENSOR_BYTES)
    if tensor.elements > tensor.held():
        raise PlatformError(
            "invalid_onnx",
            f"The tensor {tensor.name!r} has {tensor.elements} elements by its shape, but the file holds at most "
            f"{tensor.held()} of them. Export the model again.",
        )


def check_sparse_tensor(message: Message) -> None:
    """As `check_tensor`, for its values and indices, and for its size when it is written out."""
    whole = _Tensor()
    parts: dict[int, Message] = {}
    for field, value in message.fields():
        if field == _SPARSE_DIMS:
            for length in _numbers(value):
                whole.grow(length)
        elif field in (_VALUES, _INDICES):
            if field in parts or isinstance(value, int):
                raise MalformedError("a sparse tensor with two sets of values")
            parts[field] = value
    for part in parts.values():
        check_tensor(part)
    if _VALUES in parts:
        values = _read(parts[_VALUES])
        whole.name, whole.data_type = values.name, values.data_type
    _check_size(whole, MAX_DENSE_BYTES)


def _check_size(tensor: _Tensor, max_bytes: int) -> None:
    size_bytes = tensor.elements * tensor.bits // 8
    if size_bytes > max_bytes:
        raise PlatformError(
            "artifact_too_large",
            f"The tensor {tensor.name!r} takes {size_bytes} bytes by its shape; {max_bytes} are allowed. "
            "Use a smaller model.",
        )


def _read(message: Message) -> _Tensor:
    tensor = _Tensor()
    for field, value in message.fields():
        if field == _DIMS:
            for length in _numbers(value):
                tensor.grow(length)
        elif field in _TYPED:
            tensor.typed += _at_most(field, value)
        elif isinstance(value, int):
            _take_number(tensor, field, value)
        elif field == _RAW:
            tensor.raw_bytes = max(tensor.raw_bytes, value.size)
        elif field == _NAME:
            tensor.name = value.name()[:80]
        elif field in (_EXTERNAL_DATA, _DATA_LOCATION):
            raise _external()
    return tensor


def _take_number(tensor: _Tensor, field: int, value: int) -> None:
    if field == _DATA_TYPE:
        tensor.data_type = value
    elif field in (_EXTERNAL_DATA, _DATA_LOCATION) and value != 0:
        raise _external()


def _at_most(field: int, value: int | Message) -> int:
    """How many elements a field may hold: one, unless it is packed."""
    least = _TYPED[field]
    return 1 if isinstance(value, int) or least == 0 else max(1, value.size // least)


def _numbers(value: int | Message) -> Iterator[int]:
    return iter((value,)) if isinstance(value, int) else value.varints()


def _external() -> PlatformError:
    return PlatformError(
        "invalid_onnx",
        "The model keeps tensors in files beside it (external data). "
        "Save it as one file: onnx.save(model, path, save_as_external_data=False).",
    )
