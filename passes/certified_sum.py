"""A quantized sum whose scales have no grid within 62 bits: shorter factors that give the same code for every pair.

    y = quantize(F * a + G * b + O)  ==>  y = requantize(f * a + g * b),  G rational, F and O with a root, per channel

A convolution's sums with float scales, and a quantized shortcut, added before one quantizer: 72 bits and more would
hold that exactly. But the quantizer takes few steps (`pefslc.numeric.pair_sum`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pefslc.ir.integer import Requantize, Sum
from pefslc.ir.quantized import Add, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.pair_sum import CodeLine, PairSum, shortest_factors
from pefslc.numeric.preimage import preimage
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine
from pefslc.numeric.staircase import Staircase
from pefslc.passes.integer_builder import IntegerBuilder, Lowered, with_codes

__all__ = ["certified_sum"]


_MOST_SHORT_CODES = 1 << 9  # of the shorter side
_MOST_CASES = 1 << 28  # channels times steps times codes of the shorter side


@dataclass(frozen=True, slots=True)
class _Side:
    """Codes of zero point 0, and what stands behind them."""

    codes: Value
    tail: tuple[Affine, ...]

    @property
    def count(self) -> int:
        return self.codes.type.codes.high - self.codes.type.codes.low + 1

    @property
    def roots(self) -> int:
        return sum(stage.has_root for stage in self.tail)


def _sides(builder: IntegerBuilder, op: Add) -> tuple[_Side, _Side] | None:
    """The long and the short one: that with a root, or with more codes; the other has no root, and few codes."""
    found = []
    for value in (op.lhs, op.rhs):
        lowered = builder.operand(value, op)
        found.append(_Side(builder.centred(lowered.value), lowered.tail))
    short, long = sorted(found, key=lambda side: (side.roots, side.count))
    return (long, short) if not short.roots and long.roots <= 1 and short.count <= _MOST_SHORT_CODES else None


def certified_sum(builder: IntegerBuilder, op: Quantize, add: Op) -> Lowered:
    """The sum in short factors, and what requantizes it to the model's codes.

    Raises CompileError, the refusal of the sum itself, where no factors are found.
    """
    assert isinstance(add, Add)
    found = _certified(builder, op, add)
    if found is None:
        raise builder.refusals[add.result.name]
    return found


def _certified(builder: IntegerBuilder, op: Quantize, add: Add) -> Lowered | None:
    sides, q = _sides(builder, add), op.quantization
    channels = op.input.type.channels
    if sides is None or channels * (q.high - q.low) * sides[1].count > _MOST_CASES:
        return None
    made = [_channel(op, sides, c) for c in range(channels)]
    known = [channel for channel in made if channel is not None]
    found = shortest_factors(known) if len(known) == channels else None
    if found is None:
        return None
    factors, rows = found
    scale = Scale.of(channel.long / f for channel, (f, _) in zip(known, factors, strict=True))
    own = [channel.sign * f for channel, (f, _) in zip(known, factors, strict=True)], [g for _, g in factors]
    lhs, rhs = (
        builder.rescaled(side.codes, factor, scale, f"{op.result.name}.{name}")
        for side, factor, name in zip(sides, own, ("long", "short"), strict=True)
    )
    result = replace(with_codes(add.result, scale), name=f"{op.result.name}.sum")
    total = builder.append(Sum(result=result, lhs=lhs, rhs=rhs))
    low, high = total.type.codes.low, total.type.codes.high
    thresholds = np.clip(np.array(rows, dtype=np.int64), low, high + 1)
    staircase = Staircase(low, high, q.low - q.zero_point, thresholds, np.ones(channels, dtype=np.int64))
    result = with_codes(op.result, q.scale)
    return Lowered(builder.append(Requantize(result=result, input=total, staircase=staircase)))


def _channel(op: Quantize, sides: tuple[_Side, _Side], c: int) -> PairSum | None:
    """What channel c quantizes; None where its longer side is constant, or the stages do not rise."""
    q = op.quantization
    steps = preimage(op.stages, c, op.quantizer.bounds(np.arange(q.low + 1, q.high + 1, dtype=np.int64), c))
    if steps is None:
        return None
    long, short = (CodeLine.of(side.codes.type.codes.scale.channel(c), side.tail, c) for side in sides)
    a, b = ((side.codes.type.codes.low, side.codes.type.codes.high) for side in sides)
    return PairSum.of(steps, long, short, a, b)
