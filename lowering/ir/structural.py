"""Operations that mean the same on values and on codes: they select and arrange elements, they compute none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pefslc.ir.value import Op, Value
from pefslc.shapes import Window

__all__ = ["Concat", "MaxPool", "Pad", "Reshape", "Transpose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Op):
    """Maximum over each window.

    input   [N, C, H, W]
    result  [N, C, H', W']; positions outside the input never win (ONNX MaxPool-12)
    """

    mnemonic: ClassVar[str] = "max_pool"
    input: Value
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Op):
    """The same elements in row-major order under the result's shape (ONNX Flatten, Reshape, Squeeze)."""

    mnemonic: ClassVar[str] = "reshape"
    input: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Op):
    """result.shape[i] = input.shape[permutation[i]]."""

    mnemonic: ClassVar[str] = "transpose"
    input: Value
    permutation: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Op):
    """The input with elements of value 0 around it: on codes, its zero point.

    before, after  how many along each axis; none along the batch (ONNX Pad-13, mode constant)
    """

    mnemonic: ClassVar[str] = "pad"
    input: Value
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_spatial(self) -> bool:
        """Whether it adds rows and columns to [N, C, H, W] only, as a window's pads do."""
        return len(self.before) == 4 and not any(self.before[:2] + self.after[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Op):
    """The inputs side by side along `axis`. On codes, all inputs have the same scale."""

    mnemonic: ClassVar[str] = "concat"
    inputs: tuple[Value, ...]
    axis: int
