"""Chains that are one function of a line: all channels have the function, and each its own slope and offset.

    levels reached = count(slope[c] * a + offset[c])

A Tanh behind biases is such a chain: where its steps lie does not depend on the channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pefslc.numeric.chain import ROUNDED_AS_FLOOR, Chains
from pefslc.numeric.expression import Call, Expression, Function, number
from pefslc.numeric.stages import Affine, FunctionStage, Root, apply_stages, chain_expression, direction

__all__ = ["FunctionOfLine", "function_of_line"]


@dataclass(frozen=True, slots=True)
class FunctionOfLine:
    """lines: of each channel (slope, offset), from accumulator codes to the function's argument."""

    chains: Chains
    at: int
    lines: tuple[tuple[Root, Root], ...]

    @property
    def function(self) -> Expression:
        """From the argument to the quantizer's operand."""
        return chain_expression(self.chains.stages[self.at :], 0)

    @property
    def direction(self) -> int | None:
        """1 where the function rises, -1 where it falls, 0 where it is constant; None: not known."""
        return direction(self.chains.stages[self.at :], 0)

    @property
    def count(self) -> Expression | None:
        """How many levels are reached at an argument, before the floor, but for exact hits of a bound.

        None where the rounding is no floor of something.
        """
        quantizer = self.chains.quantizer
        below, above = ROUNDED_AS_FLOOR.get(quantizer.rounding, (None, Fraction(0)))
        if below is None or below != above:
            return None
        addend = above + quantizer.quantization.zero_point - (self.chains.levels.start - 1)
        scaled = Call(Function.DIV, (self.function, number(quantizer.quantization.scale.step)))
        return Call(Function.ADD, (scaled, number(addend)))


def function_of_line(chains: Chains) -> FunctionOfLine | None:
    """The chains as such; None where other than affine stages stand before the function, or channels differ behind."""
    stages = chains.stages
    at = next((i for i, stage in enumerate(stages) if isinstance(stage, FunctionStage)), None)
    if at is None or not all(isinstance(stage, Affine) for stage in stages[:at]):
        return None
    if chains.quantizer.quantization.scale.per_channel:
        return None
    if any(getattr(stage, "channels", 1) > 1 for stage in stages[at:]):
        return None
    lines = []
    for c in range(chains.channels):
        at_zero, at_one = (apply_stages(stages[:at], x, c) for x in (Fraction(0), chains.scale.channel(c)))
        slope = Root(at_one.rational - at_zero.rational, at_one.coefficient - at_zero.coefficient, at_one.radicand)
        lines.append((slope, at_zero))
    return FunctionOfLine(chains, at, tuple(lines))
