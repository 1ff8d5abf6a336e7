"""Lines: what an activation and a wide quantizer do together, where a list of every step would be too long.

A quantizer of 32 bits has 2^32 steps, and `Staircase` lists its steps. Where only piecewise linear activations stand
before it, it multiplies, rounds half to even, and clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import fits_int64, largest_magnitude
from pefslc.numeric.format import saturate
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode, round_fraction, round_ratio
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import ClipStage, LeakyReluStage, Stage, apply_stages
from pefslc.numeric.staircase import is_uniform

__all__ = ["BentLine", "line_of"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BentLine:
    """code(a) = min(max(round_half_even(a * slope), low), high); slope is `above` for a >= 0, else `below`.

    above  > 0
    below  >= 0
    """

    above: Fraction
    below: Fraction
    low: int
    high: int

    def __post_init__(self) -> None:
        assert self.above > 0 <= self.below, "a slope of 0 or less above 0, or less than 0 below"
        assert self.low <= self.high, "an empty range"

    @property
    def is_idle(self) -> bool:
        """Whether every code within the limits is its own output code."""
        return self.above == self.below == 1

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of accumulator `codes`, exactly: in Python integers where int64 does not suffice."""
        denominator = lcm(self.above.denominator, self.below.denominator)
        above, below = int(self.above * denominator), int(self.below * denominator)
        if not fits_int64(2 * max(largest_magnitude(codes) * max(above, below), denominator)):
            codes = codes.astype(object)
        rounded = round_ratio(np.where(codes >= 0, codes * above, codes * below), denominator)
        return saturate(rounded, self.low, self.high).astype(np.int64)


def line_of(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int
) -> BentLine | None:
    """`quantizer(stages(scale * a))` for codes a in [domain_low, domain_high] as a line, its limits those that are
    reached; None where the stages are other than ReLU, LeakyReLU and clips, or it rounds otherwise.

    All are non-decreasing, so that every limit on the way is one of the whole: the value at an end of the domain.
    """
    q = quantizer.quantization
    if not is_uniform(scale, stages, quantizer) or q.zero_point or quantizer.rounding is not RoundingMode.HALF_EVEN:
        return None
    below = above = scale.step / q.scale.step
    for stage in stages:
        if isinstance(stage, LeakyReluStage) and stage.rises:
            below *= stage.alpha(0)
        elif not isinstance(stage, ClipStage):
            return None
    ends = [apply_stages(stages, scale.step * a, 0).rational / q.scale.step for a in (domain_low, domain_high)]
    low, high = (saturate(round_fraction(end), q.low, q.high) for end in ends)
    return BentLine(above, below, low, high)
