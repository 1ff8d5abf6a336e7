"""Quantizers: from a real number to its code, and back to the real numbers that a code at least stands for. Exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import FunctionValue
from pefslc.numeric.format import Quantization, saturate
from pefslc.numeric.preimage import HalfLines
from pefslc.numeric.rounding import LowerBound, RoundingMode, round_bounds, round_fraction, rounds_to_at_least
from pefslc.numeric.stages import FunctionStage, Root, Stage, apply_stages, chain_expression

__all__ = ["Quantizer", "chain_value", "reached"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A Quant node: clip(round(x / scale + zero_point)).

    `adds_zero_point_last` is ONNX's order, round(x / scale) + zero_point; they differ on ties with an odd zero point.
    """

    quantization: Quantization
    rounding: RoundingMode = RoundingMode.HALF_EVEN
    adds_zero_point_last: bool = False

    def reaches(self, code: int, channel: int) -> LowerBound:
        """The reals x whose code, before clipping, is at least `code`."""
        q = self.quantization
        inside = q.zero_point if self.adds_zero_point_last else 0
        bound = rounds_to_at_least(code - inside, self.rounding)
        before = bound.value - (0 if self.adds_zero_point_last else q.zero_point)
        return LowerBound(before * q.scale.channel(channel), bound.inclusive)

    def bounds(self, codes: Codes, channel: int) -> HalfLines:
        """`reaches`, for many codes at once."""
        q = self.quantization
        inside = q.zero_point if self.adds_zero_point_last else 0
        twice, inclusive = round_bounds(codes - inside, self.rounding)
        before = twice - (0 if self.adds_zero_point_last else 2 * q.zero_point)
        return HalfLines.at_least(before, 2, np.broadcast_to(inclusive, codes.shape)).scaled(q.scale.channel(channel))

    def code_of_rational(self, x: Fraction, channel: int) -> int:
        """The code of `x`, as the definition says."""
        q = self.quantization
        before, after = (0, q.zero_point) if self.adds_zero_point_last else (q.zero_point, 0)
        rounded = round_fraction(x / q.scale.channel(channel) + before, self.rounding)
        return saturate(rounded + after, q.low, q.high)

    def code_of(self, x: Root | FunctionValue, channel: int) -> int:
        """The code of the exact real `x`, by bisection over the codes."""
        low, high = self.quantization.low, self.quantization.high
        while low < high:
            middle = (low + high + 1) // 2
            if reached(x, self.reaches(middle, channel)):
                low = middle
            else:
                high = middle - 1
        return low


def reached(x: Root | FunctionValue, bound: LowerBound) -> bool:
    """Whether the exact real `x` lies in the half-line."""
    sign = x.compare(bound.value)
    return sign > 0 or (sign == 0 and bound.inclusive)


def chain_value(stages: Sequence[Stage], x: Fraction, channel: int) -> Root | FunctionValue:
    """The exact value of the chain at `x`, to be compared with rationals."""
    if any(isinstance(stage, FunctionStage) for stage in stages):
        return FunctionValue(chain_expression(stages, channel), x)
    return apply_stages(stages, x, channel)
