"""The integer level: codes with proven ranges. What a target lowers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pefslc.geometry.shapes import Window
from pefslc.ir.structural import Structural
from pefslc.ir.value import IntArray, Op, Value
from pefslc.numeric.line import BentLine
from pefslc.numeric.staircase import Staircase

__all__ = [
    "Clamp", "Conv2d", "Dense", "IntegerOp", "Lookup", "Product", "Requantize", "Rescale", "Round", "Sum", "SumPool",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d(Op):
    """2-D convolution of codes, integer arithmetic, no requantization.

    input   [N, C_in, H, W], zero point 0; padding is code 0
    weight  [C_out, C_in/groups, KH, KW] codes
    bias    [C_out] codes at the accumulator's scale, or None
    result  [N, C_out, H', W'] accumulators, exact: the range is that of every input in the input's range
    Source: ONNX Conv-11; H', W' in shapes.Window.output_size.
    """

    mnemonic: ClassVar[str] = "conv2d"
    input: Value
    weight: IntArray
    bias: IntArray | None
    window: Window
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense(Op):
    """input @ weight.T + bias in integers.

    input   [N, K], zero point 0
    weight  [M, K] codes
    bias    [M] codes at the accumulator's scale, or None
    result  [N, M] accumulators
    """

    mnemonic: ClassVar[str] = "dense"
    input: Value
    weight: IntArray
    bias: IntArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantize(Op):
    """staircase(input), per channel on axis 1: BatchNorm, bias, activation and Quant in one step function."""

    mnemonic: ClassVar[str] = "requantize"
    input: Value
    staircase: Staircase


@dataclass(frozen=True, slots=True, kw_only=True)
class Round(Op):
    """line(input): an activation and a quantizer of so many codes that no staircase lists them (see `numeric.line`)."""

    mnemonic: ClassVar[str] = "round"
    input: Value
    line: BentLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Op):
    """table[channel, code - low]: a function and its Quant that neither rise nor fall (see `numeric.table`).

    table  [channels or 1, codes]; channels on axis 1. The input's codes lie in [low, low + codes)
    """

    mnemonic: ClassVar[str] = "lookup"
    input: Value
    low: int
    table: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Clamp(Op):
    """min(max(code, low), high): an activation that no Quant follows at once."""

    mnemonic: ClassVar[str] = "clamp"
    input: Value
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale(Op):
    """code * factor, factor not 0, so that Add and Concat see one scale: the same values on a finer grid.

    Or other values, where the result's scale says so: negated, or multiplied by a constant of the model.
    """

    mnemonic: ClassVar[str] = "rescale"
    input: Value
    factor: int

    @property
    def keeps_values(self) -> bool:
        """Whether the result has the values of the input."""
        return self.factor * self.result.type.codes.scale.step == self.input.type.codes.scale.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum(Op):
    """lhs + rhs, codes of one scale."""

    mnemonic: ClassVar[str] = "sum"
    lhs: Value
    rhs: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Op):
    """lhs * rhs, codes with zero point 0; `rhs` has the shape of `lhs` or is [N, C, 1, 1]. The scales multiply."""

    mnemonic: ClassVar[str] = "product"
    lhs: Value
    rhs: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class SumPool(Op):
    """Sum over each window, padding counting as code 0. The mean's division is in the result's scale.

    factors  [H', W'], or None: what each sum is multiplied by, so that means over fewer taps have the same scale
    """

    mnemonic: ClassVar[str] = "sum_pool"
    input: Value
    window: Window
    factors: IntArray | None = None


IntegerOp = (
    Conv2d | Dense | Requantize | Round | Lookup | Clamp | Rescale | Sum | Product | SumPool | Structural
)  # fmt: skip
