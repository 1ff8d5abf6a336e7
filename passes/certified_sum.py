"""A quantized sum whose scales have no grid within 62 bits: shorter factors that give the same code for every pair.

    y = quantize(F * a + G * b + O)  ==>  y = requantize(f * a + g * b),  F, G, O any rationals, per channel

A convolution's sums with float scales, and a quantized shortcut, added before one quantizer: 72 bits and more would
hold that exactly. But the quantizer takes few steps. For each step and each code b of the shorter side, the codes a
that take it are those from one on, T(b), which is known exactly. Factors f and g serve where one threshold separates
all pairs that take the step from those that do not:

    f * (T(b) - 1) + g * b  <  threshold  <=  f * T(b) + g * b    for every b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.integer import Requantize, Sum
from pefslc.ir.quantized import Add, Quantize
from pefslc.numeric.preimage import HalfLines, preimage
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase
from pefslc.passes.affine_operand import AffineOperand, added
from pefslc.passes.integer_builder import IntegerBuilder, Lowered, with_codes

__all__ = ["certified_sum"]

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

_MOST_SHORT_CODES = 1 << 9  # of the shorter side
_MOST_CASES = 1 << 28  # channels times steps times codes of the shorter side
_WIDTHS = (40, 48, 56, 61)  # bits of the sums
_DOUBT = 2.0**-49  # relative to the terms of a quotient: four roundings of 2^-53


@dataclass(frozen=True, slots=True)
class _WideSum:
    """The operands of a sum that no reader but a quantizer can have, the one with fewer codes as `short`."""

    long: AffineOperand
    short: AffineOperand

    @classmethod
    def of(cls, builder: IntegerBuilder, op: Add) -> _WideSum:
        """Those of `op`."""
        short, long = sorted((builder.affine(value, op) for value in (op.lhs, op.rhs)), key=_count)
        return cls(long, short)


@dataclass(frozen=True, slots=True)
class _Channel:
    """What one channel quantizes: long * a + short * b, where `long` is positive for codes a of [low, high]."""

    long: Fraction
    short: Fraction
    low: int
    high: int
    b: Codes
    first: Codes  # [steps, codes b] the first a that takes the step; high + 1 where none does

    def factors(self, bits: int) -> tuple[int, int]:
        """Short factors in the ratio of the exact ones, with which the sums fit so many bits."""
        reach = abs(self.long) * max(-self.low, self.high, 1) + abs(self.short) * max(int(np.abs(self.b).max()), 1)
        unit = reach / (1 << (bits - 2))
        return max(round(self.long / unit), 1), round(self.short / unit)

    def thresholds(self, f: int, g: int) -> Codes | None:
        """[steps] of f * a + g * b; None where a step has none."""
        sums = g * self.b
        least = np.where(self.first > self.low, f * (self.first - 1) + sums + 1, _NEVER_LESS).max(axis=1)
        most = np.where(self.first <= self.high, f * self.first + sums, _NEVER_MORE).min(axis=1)
        if (least > most).any():
            return None
        # Next to the middle of what is free, of what has two ends.
        return np.where(least == _NEVER_LESS, most, np.where(most == _NEVER_MORE, least, least + (most - least) // 2))


_NEVER_LESS, _NEVER_MORE = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def certified_sum(builder: IntegerBuilder, op: Quantize, add: Add) -> Lowered | None:
    """The sum in short factors, and what requantizes it to the model's codes; None where no factors are found."""
    wide = _WideSum.of(builder, add)
    channels = op.input.type.channels
    signs = [1 if _at(wide.long.steps, c) > 0 else -1 for c in range(channels)]
    made = [_channel(op, wide, c, signs[c]) for c in range(channels)] if _is_small(op, wide) else [None]
    known = [channel for channel in made if channel is not None]
    found = _shortest(known) if len(known) == channels else None
    if found is None:
        return None
    factors, rows = found
    scale = Scale.of(channel.long / f for channel, (f, _) in zip(known, factors, strict=True))
    parts = []
    for name, operand, own in (
        ("long", wide.long, [s * f for s, (f, _) in zip(signs, factors, strict=True)]),
        ("short", wide.short, [g for _, g in factors]),
    ):
        parts.append(builder.multiple(operand.codes, own, scale, f"{op.result.name}.{name}"))
    result = replace(with_codes(add.result, scale), name=f"{op.result.name}.sum")
    total = builder.append(Sum(result=result, lhs=parts[0], rhs=parts[1]))
    low, high = total.type.codes.low, total.type.codes.high
    thresholds = np.clip(np.array(rows, dtype=np.int64), low, high + 1)
    q = op.quantization
    staircase = Staircase(low, high, q.low - q.zero_point, thresholds, np.ones(channels, dtype=np.int64))
    result = with_codes(op.result, q.scale)
    return Lowered(builder.append(Requantize(result=result, input=total, staircase=staircase)))


def _is_small(op: Quantize, wide: _WideSum) -> bool:
    cases = op.input.type.channels * (op.quantization.high - op.quantization.low) * _count(wide.short)
    return _count(wide.short) <= _MOST_SHORT_CODES and cases <= _MOST_CASES


def _shortest(channels: Sequence[_Channel]) -> tuple[list[tuple[int, int]], list[Codes]] | None:
    for bits in _WIDTHS:
        factors = [channel.factors(bits) for channel in channels]
        if not all(g for _, g in factors):
            continue
        rows = [channel.thresholds(*own) for channel, own in zip(channels, factors, strict=True)]
        found = [row for row in rows if row is not None]
        if len(found) == len(rows):
            return factors, found
    return None


def _channel(op: Quantize, wide: _WideSum, c: int, sign: int) -> _Channel | None:
    """What channel c quantizes, a negated where it falls; None where the stages behind the sum do not rise."""
    q, a, b = op.quantization, wide.long.codes.type.codes, wide.short.codes.type.codes
    of = preimage(op.stages, c, op.quantizer.bounds(np.arange(q.low + 1, q.high + 1, dtype=np.int64), c))
    if of is None:
        return None
    long, short = sign * _at(wide.long.steps, c), _at(wide.short.steps, c)
    low, high = (a.low, a.high) if sign > 0 else (-a.high, -a.low)
    codes = np.arange(b.low, b.high + 1, dtype=np.int64)
    moved = of.moved(-_at(added(wide.long.offsets, wide.short.offsets), c)).scaled(1 / long)
    first = np.clip(_first_integers(moved, short / long, codes), low, high + 1)
    first = np.where(moved.everywhere[:, None], low, np.where(moved.nowhere[:, None], high + 1, first))
    return _Channel(long, short, low, high, codes, first)


def _first_integers(of: HalfLines, slope: Fraction, codes: Codes) -> Codes:
    """[sets, codes]: the first integer a for which a + slope * code lies in the set; the full and empty ones aside."""
    bounds = [Fraction(int(n), of.denominator) for n in of.numerators]
    left, right = np.array([float(v) for v in bounds])[:, None], float(slope) * codes
    x = left - right
    nearest = np.rint(x)
    doubtful = np.abs(x - nearest) <= _DOUBT * (np.abs(left) + np.abs(right) + 1)
    first = np.ceil(x)
    for i, j in np.argwhere(doubtful).tolist():
        exact = bounds[i] - slope * int(codes[j])
        below = floor(exact)
        first[i, j] = below if of.inclusive[i] and below == exact else below + 1
    limit = float(1 << 53)
    return np.clip(first, -limit, limit).astype(np.int64)


def _count(operand: AffineOperand) -> int:
    codes = operand.codes.type.codes
    return codes.high - codes.low + 1


def _at(values: Sequence[Fraction], channel: int) -> Fraction:
    return values[channel] if len(values) > 1 else values[0]
