"""Stages on arrays: their float64 values, how far those may be off, and the exact codes of a quantizer behind them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import nearest_floats
from pefslc.numeric.quantize import between_halves, quantize_array, round_floats
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, SnapStage, Stage

__all__ = ["quantize_behind", "stage_values"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_DOUBT = 2.0**-44  # of the magnitude: what a chain of some stages, a few operations of 2^-53 each, may be off by
_SMALLEST_DOUBT = 2.0**-600  # what underflows


def quantize_behind(stages: Sequence[Stage], quantizer: Quantizer, x: NDArray[np.floating], channel_axis: int) -> Codes:
    """The codes of quantizer(stages(x)) with no rounding before the quantizer's own.

    x  float32 or float64, finite
    What is per channel goes along `channel_axis`. A float64 estimate decides where the quantizer makes one code of all
    numbers that it may stand for; the others are decided exactly, each number once.
    """
    if not stages:
        return quantize_array(quantizer, x, channel_axis)
    y = np.asarray(x, dtype=np.float64)
    magnitude = np.abs(y)
    with np.errstate(all="ignore"):
        for stage in stages:
            y, magnitude = stage_values(stage, y, channel_axis), _magnitude(stage, y, magnitude, channel_axis)
        doubt = magnitude * _DOUBT + _SMALLEST_DOUBT
        known = np.isfinite(y) & np.isfinite(doubt)
        low, high = (np.where(known, bound, 0.0) for bound in (y - doubt, y + doubt))
    codes = quantize_array(quantizer, low, channel_axis)
    at = np.nonzero(~known | (codes != quantize_array(quantizer, high, channel_axis)))
    if at[0].size:
        channels = at[channel_axis] if x.ndim > channel_axis else np.zeros(at[0].shape, dtype=np.int64)
        numbers = np.stack([np.asarray(x[at], dtype=np.float64), channels.astype(np.float64)])
        distinct, which = np.unique(numbers, axis=1, return_inverse=True)
        exact = [
            quantizer.code_of(chain_value(stages, Fraction(float(number)), int(channel)), int(channel))
            for number, channel in distinct.T
        ]
        codes[at] = np.array(exact, dtype=np.int64)[which.reshape(-1)]
    return codes


def stage_values(stage: Stage, x: Floats, channel_axis: int) -> Floats:
    """The stage in float64."""
    match stage:
        case Affine():
            factor, addend, radicand, offset = _affine(stage, x.ndim, channel_axis)
            return (x * factor + addend) / np.sqrt(radicand) + offset
        case LeakyReluStage():
            return np.where(x >= 0, x, x * _along([float(a) for a in stage.alphas], x.ndim, channel_axis))
        case ClipStage():
            low = -np.inf if stage.low is None else float(stage.low)
            high = np.inf if stage.high is None else float(stage.high)
            return np.asarray(np.clip(x, low, high), dtype=np.float64)
        case FunctionStage():
            return nearest_floats(stage.expression, x)
        case SnapStage():
            step, zero_point = float(stage.step), stage.zero_point
            return (round_floats(between_halves(x / step) + zero_point, RoundingMode.HALF_EVEN) - zero_point) * step


def _magnitude(stage: Stage, x: Floats, magnitude: Floats, channel_axis: int) -> Floats:
    """What bounds the error behind the stage, as 2^-44 of it; infinity where the stage may enlarge it at will."""
    match stage:
        case Affine():
            factor, addend, radicand, offset = (np.abs(v) for v in _affine(stage, x.ndim, channel_axis))
            return np.asarray((magnitude * factor + addend) / np.sqrt(radicand) + offset, dtype=np.float64)
        case LeakyReluStage():
            alphas = _along([max(1.0, abs(float(a))) for a in stage.alphas], x.ndim, channel_axis)
            return np.asarray(magnitude * alphas, dtype=np.float64)
        case ClipStage():
            limits = [abs(float(limit)) for limit in (stage.low, stage.high) if limit is not None]
            return np.maximum(magnitude, max(limits, default=0.0))
        case FunctionStage() | SnapStage():
            return np.full_like(x, np.inf)


def _affine(stage: Affine, rank: int, channel_axis: int) -> tuple[Floats, ...]:
    """(factor, addend, radicand, offset), each to be broadcast."""
    parts = (stage.factor, stage.addend, stage.radicand, stage.offset)
    return tuple(_along([float(v) for v in part], rank, channel_axis) for part in parts)


def _along(values: Sequence[float], rank: int, channel_axis: int) -> Floats:
    """One value, or one per channel, to go along `channel_axis` of an array of that rank."""
    shape = [1] * rank
    if len(values) > 1:
        shape[channel_axis] = -1
    return np.array(values).reshape(shape)
