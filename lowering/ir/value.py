"""Values, their types, constant arrays, and the base of all operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Shape
from pefslc.ir.field_types import check_fields, checked_array
from pefslc.numeric.accumulate import WeightSums
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale

__all__ = ["CodeRange", "Element", "IntArray", "Op", "Real", "RealArray", "TensorType", "Value"]

_LARGE = 1 << 14  # numbers: what is smaller takes no memory to speak of


@dataclass(frozen=True, slots=True)
class Real:
    """An element that the model left unquantized: a real number."""

    def __str__(self) -> str:
        return "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRange:
    """Integer elements, proven to lie in [low, high]; value = (code - zero_point) * scale (channels on axis 1)."""

    low: int
    high: int
    scale: Scale
    zero_point: int = 0

    def __post_init__(self) -> None:
        assert self.low <= self.high, "an empty range"

    def __str__(self) -> str:
        zero_point = f"+{self.zero_point}" if self.zero_point else ""
        return f"[{self.low}..{self.high}]{zero_point}*({self.scale})"


Element = Real | Quantization | CodeRange


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and meaning of the elements. Nothing is unknown after import."""

    shape: Shape
    element: Element

    def __str__(self) -> str:
        return f"{self.element}[{','.join(map(str, self.shape))}]"

    @property
    def codes(self) -> CodeRange:
        """The element of an integer-level tensor."""
        assert isinstance(self.element, CodeRange)
        return self.element

    @property
    def quantization(self) -> Quantization:
        """The element of what a quantizer made."""
        assert isinstance(self.element, Quantization)
        return self.element

    @property
    def channels(self) -> int:
        """Size of axis 1, where channels and features lie; 1 for lower ranks."""
        return self.shape[1] if len(self.shape) > 1 else 1


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the graph. `name` is unique in its graph; `origin` is the ONNX node that it came from."""

    name: str
    type: TensorType
    origin: Origin


class _Array(ABC):
    """A constant array that compares by content."""

    __slots__ = ()

    @property
    @abstractmethod
    def data(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """The numbers; nobody may write them."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, _Array) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self.shape)}>"

    def _key(self) -> tuple[object, ...]:
        return self.data.shape, self.data.tobytes()

    @property
    def shape(self) -> Shape:
        return tuple(self.data.shape)


class IntArray(_Array):
    """int64 codes."""

    __slots__ = ("_data", "_sums")

    def __init__(self, data: NDArray[np.int64]) -> None:
        data = checked_array("IntArray", data, np.int64)
        data.setflags(write=False)
        self._data = data
        self._sums: WeightSums | None = None

    @property
    def data(self) -> NDArray[np.int64]:
        return self._data

    @property
    def sums(self) -> WeightSums:
        """Those of weights [outputs, ...]: found once, for many stages ask what sums they make."""
        if self._sums is None:
            self._sums = WeightSums.of(self._data.reshape(len(self._data), -1))
        return self._sums


class RealArray(_Array):
    """float64 values, each exactly the file's float32 or float64.

    Large arrays that float32 holds are kept as float32, in half the memory: `data` makes float64 of them each time.
    """

    __slots__ = ("_data", "_narrow")

    def __init__(self, data: NDArray[np.float64]) -> None:
        data = checked_array("RealArray", data, np.float64)
        data.setflags(write=False)
        self._data: NDArray[np.float64] | None = data
        self._narrow: NDArray[np.float32] | None = None
        if data.size > _LARGE and data.dtype == np.float64:
            with np.errstate(over="ignore"):
                narrow = data.astype(np.float32)
            if (narrow == data).all():
                self._data, self._narrow = None, narrow

    @property
    def data(self) -> NDArray[np.float64]:
        if self._data is not None:
            return self._data
        assert self._narrow is not None
        wide = self._narrow.astype(np.float64)
        wide.setflags(write=False)
        return wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An operation: typed fields, one result. Subclasses declare operands as fields of type `Value`."""

    mnemonic: ClassVar[str]
    result: Value

    def __post_init__(self) -> None:
        """Raises TypeError for a field of another type than it declares."""
        check_fields(self)

    @property
    def operands(self) -> tuple[Value, ...]:
        """The values that this operation reads, in field order."""
        return tuple(value for _, value in self.named_operands)

    @property
    def named_operands(self) -> tuple[tuple[str, Value], ...]:
        """The values that this operation reads, each with the name of its field, in field order."""
        operands: list[tuple[str, Value]] = []
        for field in fields(self):
            if field.name == "result":
                continue
            content = getattr(self, field.name)
            if isinstance(content, Value):
                operands.append((field.name, content))
            elif isinstance(content, tuple):
                operands.extend((field.name, v) for v in content if isinstance(v, Value))
        return tuple(operands)
