"""One channel's thresholds by the exact predicate, against a look at every code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.chain import Chain, Chains
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage

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


_SINGLES = st.floats(2.0**-12, 2.0**4, width=32).map(F)
_STEPS = st.one_of(_SINGLES, st.integers(-8, 3).map(lambda e: F(2) ** e), st.just(F(1, 3)), st.just(F(1, 1 << 500)))
_NUMBERS = st.one_of(st.floats(-8, 8, width=32).map(F), st.integers(-32, 32).map(lambda n: F(n, 4)), st.just(F(0)))


@st.composite
def chains(draw: st.DrawFn) -> Chains:
    """Three channels; scales of any kind, so that numbers lie on ties, next to them, and far beyond the range."""
    n = 3

    def each(of: st.SearchStrategy[Fraction]) -> tuple[Fraction, ...]:
        return tuple(draw(st.lists(of, min_size=n, max_size=n)))

    radicand = each(_SINGLES) if draw(st.booleans()) else (F(1),) * n
    stages: list[Stage] = [Affine(each(_NUMBERS), each(_NUMBERS), radicand, each(_NUMBERS))]
    if draw(st.booleans()):
        stages.append(LeakyReluStage((draw(st.sampled_from([F(0), F(1, 8), F(1, 3), F(1)])),)))
    if draw(st.booleans()):
        stages.append(ClipStage(F(0), F(6)))
    q = Quantization(
        bits=draw(st.integers(2, 16)), signed=draw(st.booleans()), scale=Scale.of([draw(_STEPS)]),
        zero_point=draw(st.integers(0, 1)),
    )  # fmt: skip
    modes = [mode for mode in RoundingMode if mode is not RoundingMode.SIGN]
    quantizer = Quantizer(q, draw(st.sampled_from(modes)), draw(st.booleans()))
    return Chains(
        scale=Scale.of(each(_STEPS)), stages=tuple(stages), quantizer=quantizer, domain_low=-(1 << 60),
        domain_high=1 << 60, channels=n, levels=range(0),
    )  # fmt: skip


@given(chains(), st.lists(st.one_of(st.integers(-300, 300), st.integers(-(1 << 60), 1 << 60)), min_size=1, max_size=3))
def test_codes_of_all_channels_at_once_are_those_of_the_exact_chains(found: Chains, accumulators: list[int]) -> None:
    exact = [[found.chain(c).code(a) for c in range(found.channels)] for a in accumulators]
    assert found.codes(*accumulators).tolist() == exact
