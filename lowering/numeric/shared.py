"""One table of thresholds for all channels: a function's steps over its own argument, each channel on its way to it.

    code(a) = low + number of thresholds that a * multiplier[c] + offset[c] reaches

A Tanh behind biases is one function of bias + scale * a, and its steps lie where they lie whatever the channel. The
argument is a 62-bit integer: between the last code of any channel that must not take a step and the first that must,
there is room for one threshold, or the certificate says no. It does for long accumulators: a slope is
rounded to some 60 bits less those of the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.affine_shift import INT64_HEADROOM
from pefslc.numeric.function_of_line import function_of_line
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps

__all__ = ["SharedTable", "fit_shared"]

Codes = NDArray[np.int64]

_BITS = INT64_HEADROOM - 2  # of the argument


@dataclass(frozen=True, slots=True, eq=False)
class SharedTable:
    """low + number of `thresholds` at or below a * multiplier[c] + offset[c], on the domain of the staircase.

    multiplier, offset  [channels]; a negative multiplier falls
    thresholds          [steps], ascending
    """

    multiplier: Codes
    offset: Codes
    thresholds: Codes
    low: int

    @property
    def channels(self) -> int:
        return len(self.multiplier)

    @property
    def high(self) -> int:
        return self.low + len(self.thresholds)

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of `codes` [channels, points]."""
        arguments = codes * self.multiplier[:, None] + self.offset[:, None]
        return self.low + np.searchsorted(self.thresholds, arguments, side="right").astype(np.int64)


def fit_shared(staircase: Staircase) -> SharedTable | None:
    """The certified table; None where channels differ behind the function, or one threshold does not do for all."""
    chains = staircase.chains
    if chains is None or staircase.step != 1 or staircase.channels == 1 or not staircase.steps:
        return None
    function = function_of_line(chains)
    if function is None:
        return None
    lines = function.lines
    last = max(abs(staircase.domain_low), abs(staircase.domain_high), 1)
    reach = max(abs(slope.scaled(Fraction(last)).nearest()) + abs(offset.nearest()) + 2 for slope, offset in lines)
    factor = Fraction(2) ** (_BITS - reach.bit_length())
    multiplier, offset = (
        np.array([part.scaled(factor).nearest() for part in parts], dtype=np.int64)
        for parts in zip(*lines, strict=True)
    )
    # A falling chain with a rising function comes to it by a negative slope; a falling function is turned round.
    turned = np.where(multiplier * staircase.direction < 0, -1, 1)
    if (multiplier == 0).any() or (turned != turned[0]).any():
        return None
    multiplier, offset = multiplier * turned, offset * turned
    least, most = None, None
    for c in range(staircase.channels):
        steps = Steps.of(staircase.of_channels(c, c + 1))
        gain = int(multiplier[c]) * int(staircase.direction[c])
        reached = np.where(steps.is_reached[0], steps.reached[0] * gain + offset[c], 1 << INT64_HEADROOM)
        passed = np.where(steps.is_before[0], steps.before[0] * gain + offset[c], -1 << INT64_HEADROOM)
        most = reached if most is None else np.minimum(most, reached)
        least = passed if least is None else np.maximum(least, passed)
    assert least is not None
    assert most is not None
    if (least >= most).any():
        return None
    return SharedTable(multiplier, offset, most, staircase.low)
