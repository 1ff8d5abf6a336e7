"""How tensors lie in C memory: element types, layouts, buffers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Shape, element_count
from pefslc.targets.c.ctype import INT16, INT32, INT64, LANE_WEIGHT, WEIGHT, CType

__all__ = [
    "CACHE_LINE", "INT16", "INT32", "INT64", "LANE_WEIGHT", "WEIGHT", "Buffer", "CType", "Layout", "Place", "Tensor",
    "checked_elements", "dtype_of", "narrowest", "narrowest_signed", "natural_layout", "round_up", "same_order",
    "scratch", "sum_type",
]  # fmt: skip

CACHE_LINE = 64  # bytes: what a vector of AVX-512 reads as one, and processors take from each other
_MOST_ELEMENTS = 2**31 - 1  # indices are int32_t


# No uint32_t: values are computed with in int32_t or int64_t, to which every type here widens without change.
# Unsigned first: the dot product instructions multiply unsigned by signed bytes.
_STORAGE = (CType(8, False), CType(8, True), CType(16, False), INT16, INT32, INT64)


def dtype_of(kind: CType) -> np.dtype[np.integer]:
    """NumPy's name of a type."""
    return np.dtype(str(kind).removesuffix("_t"))


def narrowest(low: int, high: int) -> CType:
    """The narrowest storage type of codes in [low, high], unsigned first. The range fits int64 (`ranges` proved it)."""
    return next(t for t in _STORAGE if t.holds(low, high))


def narrowest_signed(data: NDArray[np.int64]) -> CType:
    """The narrowest signed type of constants."""
    return narrowest(min(int(data.min(initial=0)), -1), int(data.max(initial=0)))


def sum_type(low: int, high: int) -> CType:
    """The type in which to compute numbers in [low, high]."""
    return INT32 if INT32.holds(low, high) else INT64


def round_up(count: int, multiple: int) -> int:
    """The first multiple that is not less."""
    return -(-count // multiple) * multiple


class Layout(Enum):
    """The order of elements in memory."""

    ROWS = "rows"  # row-major under the ONNX shape (NCHW)
    CHANNELS_LAST = "channels last"  # NHWC; only for rank 4


def natural_layout(shape: Shape) -> Layout:
    """The layout in which tensors of that shape are made."""
    return Layout.CHANNELS_LAST if len(shape) == 4 else Layout.ROWS


def same_order(shape: Shape) -> bool:
    """Whether both layouts put the elements of `shape` in the same order."""
    return len(shape) != 4 or shape[1] == 1 or shape[2] * shape[3] == 1


class Place(Enum):
    """Who owns a buffer."""

    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of one tensor. `name` is unique in the program; several tensors may be views of one buffer."""

    name: str
    place: Place
    type: CType
    elements: int

    @property
    def bytes(self) -> int:
        return self.elements * self.type.bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """Codes in a buffer, from its start. `low`, `high` are their proven range.

    offset  what is added to each number in memory to get its code: only convolutions read such tensors
    """

    buffer: Buffer
    shape: Shape
    layout: Layout
    low: int
    high: int
    offset: int = 0

    @property
    def type(self) -> CType:
        """Of the numbers in memory."""
        return self.buffer.type

    @property
    def code_type(self) -> CType:
        """Of the codes."""
        return narrowest(self.low, self.high) if self.offset else self.type

    @property
    def loops(self) -> tuple[int, int, int]:
        """(outer, channels, inner): element [o][c][i] lies at (o * channels + c) * inner + i."""
        if len(self.shape) < 2:
            return element_count(self.shape), 1, 1
        if self.layout is Layout.CHANNELS_LAST and len(self.shape) == 4:
            return self.shape[0] * self.shape[2] * self.shape[3], self.shape[1], 1
        return self.shape[0], self.shape[1], element_count(self.shape[2:])

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance in memory between neighbours along each axis of the ONNX shape."""
        order = (0, 2, 3, 1) if self.layout is Layout.CHANNELS_LAST and len(self.shape) == 4 else range(len(self.shape))
        found = [0] * len(self.shape)
        distance = 1
        for axis in reversed(tuple(order)):
            found[axis] = distance
            distance *= self.shape[axis]
        return tuple(found)


def scratch(suffix: str, kind: CType, elements: int) -> Buffer:
    """A buffer of the step that is being made: the planner puts the step's number before its name."""
    return Buffer(suffix, Place.ARENA, kind, elements)


def checked_elements(shape: Shape, at: Origin) -> int:
    """Number of elements. Raises CompileError where an int32_t could not count them."""
    count = element_count(shape)
    if count > _MOST_ELEMENTS:
        raise CompileError(
            Code.C_TENSOR_TOO_LARGE, f"a tensor of {count} elements", at=at, hint="the C target indexes with 31 bits"
        )
    return count
