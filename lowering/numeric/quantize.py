"""Arrays of floats to codes, and back: what a host does before and after a network, and the float64 evaluation.

These are float64 on the outside of the integers. Nothing that a target computes is rounded here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.format import Quantization
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Quantizer

__all__ = ["broadcast_steps", "dequantize", "quantize_array", "round_floats"]

Floats = NDArray[np.float64]


def quantize_array(quantizer: Quantizer, x: Floats, channel_axis: int) -> NDArray[np.int64]:
    """clip(round(x / scale + zero_point)) of float64 values.

    Exact for power-of-two scales, where the division is; else x / scale is rounded once to float64 first.
    """
    q = quantizer.quantization
    inside = 0 if quantizer.adds_zero_point_last else q.zero_point
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinity, and is clipped
        scaled = x / broadcast_steps(q.scale, x.ndim, channel_axis)
        rounded = round_floats(scaled + inside, quantizer.rounding) + (q.zero_point - inside)
    # Clip before the conversion: a float beyond int64 would wrap.
    return np.clip(rounded, q.low, q.high).astype(np.int64)


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
