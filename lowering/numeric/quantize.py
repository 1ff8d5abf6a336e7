"""Floats to codes: clip(round(x / scale + zero_point)) of every float32 and float64, with no rounding before that one.

A float64 quotient may be rounded to an integer or to a tie, and so may its sum with a zero point: the code would be
rounded twice. What `round` needs of a real number is only where it lies among the multiples of 1/2, on one or between
two. That is decided exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode, round_bounds
from pefslc.numeric.scale import Scale

__all__ = ["between_halves", "broadcast_steps", "dequantize", "quantize_array", "round_floats"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

# The float64 next to a step and the division by it are each off by 2^-53 of the quotient at most. What is farther than
# this from a multiple of 1/2, relative to that, is on the right side of it.
_DOUBT = 2.0**-50
_BLOCK = 1 << 16  # numbers: some arrays of half a megabyte


def quantize_array(quantizer: Quantizer, x: NDArray[np.floating], channel_axis: int) -> Codes:
    """The codes of x, float32 or float64 without NaN; infinity saturates. Scales per channel go along `channel_axis`.

    A step is any rational next to which float64 has a normal number.
    """
    if not x.ndim:
        return quantize_array(quantizer, x.reshape(1), 0).reshape(())
    if x.size > _BLOCK and len(x) > 1:
        return _in_blocks(quantizer, x, channel_axis)
    q = quantizer.quantization
    # Farther out than 3/4 every mode saturates, and no multiple of 1/2 is near to 3/4.
    low, high = q.low - q.zero_point - 0.75, q.high - q.zero_point + 0.75
    with np.errstate(over="ignore", under="ignore"):  # what is too large becomes infinity
        y = np.asarray(x / broadcast_steps(q.scale, x.ndim, channel_axis), dtype=np.float64)
    halves, side = _position(np.clip(y, low, high, out=y))
    np.copyto(side, np.sign(x), where=halves == 0)  # a quotient may have become 0
    if not q.scale.is_power_of_two:
        _decide_doubtful(halves, side, y, quantizer, x, channel_axis)
    inside = 0 if quantizer.adds_zero_point_last else q.zero_point
    rounded = round_floats(_between(halves, side) + inside, quantizer.rounding)
    rounded += q.zero_point - inside
    return np.clip(rounded, q.low, q.high, out=rounded).astype(np.int64)


def _in_blocks(quantizer: Quantizer, x: NDArray[np.floating], channel_axis: int) -> Codes:
    """`quantize_array` of some rows at a time, so that what it makes on its way stays in the caches."""
    codes = np.empty(x.shape, dtype=np.int64)
    rows = max(_BLOCK * len(x) // x.size, 1)
    q = quantizer.quantization
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        if channel_axis == 0 and q.scale.per_channel:
            own = replace(q, scale=Scale(q.scale.steps[part]))
            codes[part] = quantize_array(replace(quantizer, quantization=own), x[part], 0)
        else:
            codes[part] = quantize_array(quantizer, x[part], channel_axis)
    return codes


def between_halves(y: Floats) -> Floats:
    """A number on the same multiple of 1/2 as y, or between the same two, that needs only two bits after the point.

    It rounds like y in every mode, and its sum with an integer is exact and rounds like the sum of y with it, while
    both are below 2^50.
    """
    return _between(*_position(np.asarray(y)))


def _position(y: Floats) -> tuple[Floats, Floats]:
    """(halves, side): the multiple of 1/2 next to y, and on which side of it y is: -1, 0 or 1."""
    twice = 2 * y
    halves = np.rint(twice, out=np.empty_like(twice))
    twice -= halves
    return halves, np.sign(twice, out=twice)


def _between(halves: Floats, side: Floats) -> Floats:
    between = side * 0.5
    between += halves
    between *= 0.5
    return between


def _decide_doubtful(
    halves: Floats, side: Floats, y: Floats, quantizer: Quantizer, x: NDArray[np.floating], channel_axis: int
) -> None:
    """Correct `side`, the sign of x / scale - halves / 2, where y, the quotient in float64, cannot be sure of it.

    Only at the multiples of 1/2 where the mode goes on to the next code: all even ones, or all odd ones.
    """
    distance = halves * -0.5
    distance += y
    at = np.nonzero((np.abs(distance) <= _DOUBT * np.abs(halves)) & (halves != 0))
    breaks = halves[at] % 2 == int(round_bounds(0, quantizer.rounding)[0]) % 2
    at = tuple(axis[breaks] for axis in at)
    scale = quantizer.quantization.scale
    channel = at[channel_axis] if scale.per_channel else np.zeros(at[0].shape, dtype=np.int64)
    decide = _signs_of_floats if all(Fraction(float(s)) == s for s in scale.steps) else _signs_of_rationals
    side[at] = decide(x[at].astype(np.float64), halves[at], scale.steps, channel)


def _signs_of_floats(x: Floats, halves: Floats, steps: Sequence[Fraction], channel: Codes) -> Floats:
    """The signs of x - halves / 2 * step, of steps that are float64, where the two are equal in 49 bits or more.

    With the step in pieces of 18 bits the products are exact, `halves` having at most 35 bits. So are the differences
    but the last, of which the sign is: what one loses in its upper bits is what the next one needs.
    """
    rest, exponent = np.frexp(np.array([float(s) for s in steps]))
    difference = np.ldexp(x, 1 - exponent[channel])
    for bits in (18, 36, 54):
        piece = np.floor(np.ldexp(rest, bits)) * 2.0**-bits
        rest -= piece
        difference -= halves * piece[channel]
    return np.asarray(np.sign(difference), dtype=np.float64)


def _signs_of_rationals(x: Floats, halves: Floats, steps: Sequence[Fraction], channel: Codes) -> Floats:
    """The same of any steps, in integers of any size."""
    fraction, exponent = np.frexp(x)
    integers = np.ldexp(fraction, 53).astype(np.int64).astype(object)  # 2 * x = integer * 2^(exponent - 52)
    shift = exponent.astype(np.int64) - 52
    numerators, denominators = (
        np.array(part, dtype=object)[channel] for part in zip(*(s.as_integer_ratio() for s in steps), strict=True)
    )
    left = integers * denominators << np.maximum(shift, 0).astype(object)
    right = halves.astype(np.int64).astype(object) * numerators << np.maximum(-shift, 0).astype(object)
    return np.asarray((left > right).astype(np.float64) - (left < right), dtype=np.float64)


def broadcast_steps(scale: Scale, rank: int, channel_axis: int) -> Floats:
    """The steps as float64, shaped to go along `channel_axis` of an array of that rank."""
    shape = [1] * rank
    if scale.per_channel:
        shape[channel_axis] = -1
    return np.array([float(s) for s in scale.steps]).reshape(shape)


def round_floats(x: Floats, mode: RoundingMode) -> Floats:
    """`numeric.rounding` on floats that hold the exact number (a test compares the two)."""
    match mode:
        case RoundingMode.HALF_EVEN:
            return np.rint(x)
        case RoundingMode.FLOOR:
            return np.floor(x)
        case RoundingMode.CEIL:
            return np.ceil(x)
        case RoundingMode.TO_ZERO:
            return np.trunc(x)
        case RoundingMode.SIGN:
            return np.where(x >= 0, 1.0, -1.0)
        case RoundingMode.AWAY:
            magnitude = np.ceil(np.abs(x))
        case RoundingMode.HALF_AWAY:
            magnitude = np.floor(np.abs(x))
            magnitude = magnitude + (np.abs(x) - magnitude >= 0.5)
        case RoundingMode.HALF_TO_ZERO:
            magnitude = np.floor(np.abs(x))
            magnitude = magnitude + (np.abs(x) - magnitude > 0.5)
    signed: Floats = np.copysign(magnitude, x)
    return signed


def dequantize(codes: NDArray[np.int64], q: Quantization, channel_axis: int) -> Floats:
    """(code - zero_point) * scale in float64."""
    steps = broadcast_steps(q.scale, codes.ndim, channel_axis)
    values: Floats = (codes - q.zero_point).astype(np.float64) * steps
    return values
