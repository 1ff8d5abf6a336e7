"""Thresholds so near to an accumulator code that occurs that an executor in float32 may take the other side of them.

A mean whose quantizer has 4/36 of the scale of its input, rounded to float32, is such a case: every other sum lies on a
tie in float32, and just beside it in exact arithmetic.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.chain import Chain
from pefslc.numeric.stages import FunctionStage
from pefslc.numeric.staircase import Staircase

__all__ = ["float32_ties"]

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

_UNITS = 4 * Fraction(1, 2**24)  # of the value: the sum, its scale, the quotient, the zero point
_MOST_STEPS = 1024
_SAMPLE = 64
_MANY = 8  # one in so many is no accident


def float32_ties(staircase: Staircase) -> int:
    """How many thresholds lie within four roundings to float32 of a code in the domain, but not on it; 0 if few do.

    What lies on a threshold is a tie for float32 as well, and is rounded as the model says. Only staircases that all
    channels share are looked at, of at most 1024 steps, without functions; of the others
    only few thresholds can be such neighbours, by accident.
    """
    chains = staircase.chains
    if chains is None or staircase.channels > 1 or len(chains.levels) > _MOST_STEPS:
        return 0
    if any(isinstance(stage, FunctionStage) for stage in chains.stages):
        return 0
    chain = chains.chain(0)
    if chain.is_constant or not chains.levels:
        return 0
    levels = np.array(chains.levels, dtype=np.int64)
    thresholds = chains.thresholds(0, 1)[0]
    some = slice(None, None, -(-len(levels) // _SAMPLE))
    sample = _are_near(staircase, chain, levels[some], thresholds[some])
    if _MANY * np.count_nonzero(sample) < len(sample):
        return 0
    return int(np.count_nonzero(_are_near(staircase, chain, levels, thresholds)))


def _are_near(staircase: Staircase, chain: Chain, levels: Codes, thresholds: Codes) -> Flags:
    """`_is_near` of several thresholds: of rational chains all at once, in integers of any size."""
    near = np.zeros(len(levels), dtype=np.bool_)
    bounds = chain.quantizer.bounds(levels, chain.channel)
    bound = bounds.numerators.astype(object)
    for codes in (thresholds, thresholds + (1 if chain.falls else -1)):
        found = chain.rational_values(codes)
        if found is None:
            pairs = zip(levels.tolist(), thresholds.tolist(), strict=True)
            return np.array([_is_near(staircase, chain, *pair) for pair in pairs], dtype=np.bool_)
        numerators, unit = found
        off = np.abs(numerators * bounds.denominator - bound * unit)
        occurs = (codes >= staircase.domain_low) & (codes <= staircase.domain_high)
        is_next = (off > 0) & (off * _UNITS.denominator <= np.abs(bound) * unit * _UNITS.numerator)
        near |= occurs & is_next.astype(np.bool_)
    return near


def _is_near(staircase: Staircase, chain: Chain, level: int, at: int) -> bool:
    """Whether a code beside the threshold, which is reached at `at`, has a value next to that of the threshold."""
    bound = chain.quantizer.reaches(level, 0).value
    reach = abs(bound) * _UNITS
    for a in (at, at + (1 if chain.falls else -1)):
        if staircase.domain_low <= a <= staircase.domain_high:
            value = chain.value(a)
            if value.compare(bound) and value.compare(bound - reach) >= 0 >= value.compare(bound + reach):
                return True
    return False
