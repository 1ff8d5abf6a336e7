"""One channel's thresholds by the exact predicate, against a look at every code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.chain import Chain
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine

F = Fraction


@pytest.mark.parametrize("falls", [False, True])
def test_the_search_finds_the_threshold_from_any_estimate(falls: bool) -> None:
    """Right, off by some codes, outside of the domain, or none at all."""
    quantization = Quantization(bits=4, signed=True, scale=Scale((F(1),)))
    factor = F(-3, 7) if falls else F(3, 7)
    chain = Chain(F(1, 2), (Affine((factor,), (F(0),), (F(1),), (F(1, 3),)),), Quantizer(quantization), 0)
    low, high = -20, 25
    for code in range(-8, 9):
        bound = chain.quantizer.reaches(code, 0)
        reached = [a for a in range(low, high + 1) if bound.contains(F(a, 2) * factor + F(1, 3))]
        wanted = max(reached, default=low - 1) if falls else min(reached, default=high + 1)
        for estimate in (*np.arange(low - 3, high + 4, 0.75).tolist(), np.nan, np.inf, -np.inf):
            assert chain.search(bound, estimate, falls, low, high) == wanted
