"""Lines of wide quantizers, against exact rationals and against the staircases of narrow ones."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.affine_shift import affine_shift_of
from pefslc.numeric.format import FixedPoint
from pefslc.numeric.line import BentLine, line_of
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, SnapStage, Stage
from pefslc.numeric.staircase import staircase_of

F = Fraction
slopes = st.builds(F, st.integers(1, 10**9), st.integers(1, 2**40))
numbers = st.builds(F, st.integers(-40, 40), st.integers(1, 7))
chains = st.lists(
    st.builds(LeakyReluStage, st.tuples(st.builds(F, st.integers(0, 10), st.just(10))))
    | st.builds(ClipStage, st.none() | numbers, st.none() | numbers),
    max_size=3,
)


@given(slopes, slopes | st.just(F(0)), st.lists(st.integers(-(2**62), 2**62), min_size=1), st.integers(-(2**31), 2**31))
def test_a_line_rounds_the_exact_product(above: Fraction, below: Fraction, codes: list[int], end: int) -> None:
    line = BentLine(above, below, min(end, 0), max(end, 0) + 5)
    # Python's own round is half to even.
    wanted = [min(max(round(a * (above if a >= 0 else below)), line.low), line.high) for a in codes]
    assert line(np.array(codes)).tolist() == wanted


def test_a_line_is_idle_where_it_returns_every_code_within_its_limits() -> None:
    codes = np.arange(-5, 6)
    for above, below in product((F(1, 2), F(1), F(2)), repeat=2):
        line = BentLine(above, below, -5, 5)
        assert line.is_idle == (line(codes).tolist() == codes.tolist())


@given(chains, st.sampled_from([F(1, 16), F(1, 3), F(2)]), st.booleans())
def test_a_line_is_the_staircase_of_its_quantizer(stages: list[Stage], step: Fraction, signed: bool) -> None:
    """On every code of a domain."""
    quantizer = Quantizer(FixedPoint(3, 2, signed).quantization)
    arguments = Scale((step,)), stages, quantizer, -70, 90
    line, staircase = line_of(*arguments), staircase_of(*arguments, 1)
    assert line is not None
    codes = np.arange(-70, 91)
    assert line(codes).tolist() == staircase(codes).tolist()
    assert (line.low, line.high) == (staircase.low, staircase.high)  # the limits are those that are reached


@pytest.mark.parametrize(
    ("stages", "rounding"),
    [
        ((Affine.bias((F(1),)),), RoundingMode.HALF_EVEN),
        ((SnapStage(F(1)),), RoundingMode.HALF_EVEN),
        ((), RoundingMode.FLOOR),
    ],
)
def test_what_is_no_line_is_not_taken_for_one(stages: tuple[Stage, ...], rounding: RoundingMode) -> None:
    quantizer = Quantizer(FixedPoint(16, 16).quantization, rounding)
    assert line_of(Scale((F(1, 4),)), stages, quantizer, -9, 9) is None


@given(st.integers(1, 9), st.integers(0, 6), st.sampled_from([F(0), F(1), F(1, 2)]), st.integers(-9, 9), st.booleans())
def test_a_line_as_a_shift_is_the_line(numerator: int, shift: int, bend: Fraction, low: int, from_zero: bool) -> None:
    above = F(numerator, 1 << shift)
    line, first = BentLine(above, above * bend, low, 40), 0 if from_zero else -99
    found = affine_shift_of(line, first, 99)
    assert (found is None) == (not from_zero and bend != 1 and not (bend == 0 and low >= 0))
    if found is not None:
        codes = np.arange(first, 100)
        assert found(codes[None])[0].tolist() == line(codes).tolist()


def test_a_line_that_is_no_shift() -> None:
    assert affine_shift_of(BentLine(F(1, 3), F(1, 3), 0, 9), -9, 9) is None
    assert affine_shift_of(BentLine(F(1, 4), F(1, 4), 0, 9), -(1 << 61), 9) is None
