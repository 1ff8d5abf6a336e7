"""Thresholds next to codes that occur: many at once are those that are found one by one, as fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.float32_ties import float32_ties
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, LeakyReluStage, Stage
from pefslc.numeric.staircase import staircase_of


def quantizer_of(bits: int, scale: Fraction) -> Quantizer:
    return Quantizer(Quantization(bits=bits, signed=True, narrow=False, scale=Scale((scale,))))


UNITS = 4 * Fraction(1, 2**24)


def scales() -> st.SearchStrategy[Fraction]:
    """Float32 numbers, and powers of two among them."""
    plain = st.floats(2.0**-9, 4, width=32).map(Fraction)
    return plain | st.sampled_from([Fraction(1, 4), Fraction(1), Fraction(2)])


@given(scales(), scales(), st.integers(1, 40), st.booleans(), st.booleans())
def test_each_threshold_is_looked_at_as_a_fraction(
    step: Fraction, out: Fraction, parts: int, falls: bool, leaky: bool
) -> None:
    """Scales as means have them, a part of step / 36 rounded to float32, and others."""
    near = Fraction(float(np.float32(step * Fraction(parts, 36))))
    stages: list[Stage] = [Affine.product((Fraction(-1 if falls else 1, 36),))]
    if leaky:
        stages.append(LeakyReluStage((Fraction(1, 8),)))
    for scale in (near, out):
        quantizer = quantizer_of(6, scale)
        staircase = staircase_of(Scale((step,)), stages, quantizer, -900, 900, 1)
        found = 0
        chains = staircase.chains
        for level, at in zip(chains.levels, chains.thresholds(0, 1)[0].tolist(), strict=True):
            bound = (level - Fraction(1, 2)) * scale
            beside = [a for a in (at, at + (1 if falls else -1)) if -900 <= a <= 900]
            values = [step * a / (-36 if falls else 36) for a in beside]
            values = [v / 8 if leaky and v < 0 else v for v in values]
            found += any(0 < abs(v - bound) <= abs(bound) * UNITS for v in values)
        assert float32_ties(staircase) == (found if found * 8 >= staircase.steps else 0)  # few are an accident


def test_means_with_a_float32_scale_have_ties() -> None:
    quantizer = quantizer_of(6, Fraction(float(np.float32(0.25 * 4 / 36))))
    stages = [Affine.product((Fraction(1, 36),))]
    assert float32_ties(staircase_of(Scale((Fraction(1, 4),)), stages, quantizer, -900, 900, 1)) > 10
