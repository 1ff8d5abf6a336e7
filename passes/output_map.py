"""From output codes to values, for the host: what stands behind the last codes becomes one scale and offset."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from pefslc.ir.graph import OutputMap
from pefslc.ir.value import Value
from pefslc.numeric.stages import Affine

__all__ = ["output_map"]


def output_map(value: Value, tail: tuple[Affine, ...]) -> OutputMap:
    """value = scale * code + offset, per channel: the codes' own scale and zero point, then the tail."""
    codes = value.type.codes
    per_channel = codes.scale.per_channel or any(stage.channels > 1 for stage in tail)
    scales, offsets = [], []
    for c in range(value.type.channels if per_channel else 1):
        scale = codes.scale.channel(c)
        offset = -codes.zero_point * scale
        for stage in tail:
            i = c if stage.channels > 1 else 0
            factor = stage.factor[i] / _square_root(stage.radicand[i])
            scale = scale * factor
            offset = offset * factor + stage.addend[i] / _square_root(stage.radicand[i]) + stage.offset[i]
        scales.append(scale)
        offsets.append(offset)
    return OutputMap(tuple(scales), tuple(offsets))


def _square_root(value: Fraction) -> Fraction:
    """The root, exactly where it is rational, else within 2^-100 relatively: a value for the host, not for a code."""
    numerator, denominator = isqrt(value.numerator), isqrt(value.denominator)
    if numerator * numerator == value.numerator and denominator * denominator == value.denominator:
        return Fraction(numerator, denominator)
    shift = 256 + 2 * max(value.denominator.bit_length() - value.numerator.bit_length(), 0)
    shift += shift % 2
    return Fraction(isqrt((value.numerator << shift) // value.denominator), 1 << (shift // 2))
