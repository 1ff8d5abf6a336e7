"""What a word can hold, and weights moved up in their words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import prefix_bounds
from pefslc.numeric.format import saturate
from pefslc.targets.tensil.groups.group import Limit, Step
from pefslc.targets.tensil.machine.architecture import DataType

__all__ = ["fits_word", "is_clamped_to_word", "saturated_bounds", "shifted", "sums_fit"]

Words = NDArray[np.int64]


def fits_word(low: int, high: int, data_type: DataType) -> bool:
    return data_type.min_code <= low and high <= data_type.max_code


def sums_fit(low: Words, high: Words, bias: Words, data_type: DataType) -> bool:
    """Whether no prefix of any sum saturates: with the bias first, last or anywhere. All [channels]."""
    return fits_word(*prefix_bounds(low.tolist(), high.tolist(), bias.tolist()), data_type)


def is_clamped_to_word(steps: Sequence[Step], data_type: DataType) -> bool:
    """Whether the first step clamps codes to what words at exponent 0 hold: what saturates to a word, just that."""
    return bool(steps) and steps[0] == Limit(data_type.min_code, data_type.max_code)


def saturated_bounds(words: tuple[int, int], data_type: DataType) -> tuple[int, int]:
    """Bounds of accumulators that saturate: the same bounds, where overflow is excluded."""
    low, high = (saturate(word, data_type.min_code, data_type.max_code) for word in words)
    return low, high


def shifted(weight: Words, shift: int) -> Words:
    """weight << shift; where one matrix is that of all taps, so is the result."""
    if weight.strides[2:] == (0, 0):
        return np.broadcast_to(weight[:, :, :1, :1] << shift, weight.shape)
    return weight << shift
