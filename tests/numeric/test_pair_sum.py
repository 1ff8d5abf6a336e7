"""Short factors of a sum of two codes: every pair of small formats against the exact sum, which may have a root."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.pair_sum import CodeLine, PairSum, shortest_factors
from pefslc.numeric.preimage import HalfLines
from pefslc.numeric.stages import Affine, Root

F = Fraction
small = st.fractions(-5, 5, max_denominator=12)


@given(small, small, st.fractions(F(1, 20), 9, max_denominator=20))
def test_the_floor_of_a_number_with_a_root_is_the_largest_integer_below(
    rational: F, coefficient: F, radicand: F
) -> None:
    number = Root(rational, coefficient, radicand)
    assert number.compare(F(number.floor())) >= 0 > number.compare(F(number.floor() + 1))


BOUNDS = [F(-7, 2), F(-1), F(0), F(1, 3), F(2), F(5, 2)]
INCLUSIVE = np.array([True, False] * 3)
A, B = (-6, 5), (-3, 4)


@pytest.mark.parametrize("slope", [F(1, 3), F(-1, 3), F(5, 7), F(1, 1000)])
@pytest.mark.parametrize("other", [F(1, 2), F(-2, 5), F(1, 300)])
@pytest.mark.parametrize("radicand", [F(1), F(2), F(4), F(3, 7)])
@pytest.mark.parametrize("offset", [F(0), F(1, 6)])
def test_factors_take_the_steps_of_the_exact_sum_for_every_pair(slope: F, other: F, radicand: F, offset: F) -> None:
    affine = Affine((F(3, 2),), (offset,), (radicand,), (F(1, 4),))
    steps = HalfLines.at_least(np.array([int(b * 6) for b in BOUNDS]), 6, INCLUSIVE)
    long, short = CodeLine.of(slope, (affine,), 0), CodeLine.of(other, (), 0)
    made = PairSum.of(steps, long, short, A, B)
    assert made is not None
    found = shortest_factors([made])
    assert found is not None
    ((f, g),), (thresholds,) = found
    for a, b in product(range(A[0], A[1] + 1), range(B[0], B[1] + 1)):
        exact = affine.apply(Root(slope * a), 0).plus(other * b)
        taken = [
            exact.compare(bound) > 0 or (exact.compare(bound) == 0 and bool(own))
            for bound, own in zip(BOUNDS, INCLUSIVE, strict=True)
        ]
        assert [made.sign * f * a + g * b >= t for t in thresholds.tolist()] == taken


def test_a_side_that_hardly_moves_the_sum_leaves_no_pair_to_be_decided_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bound lies within 2^-80 of a code, whatever the other side adds."""
    bounds, other = np.arange(-100, 100), F(1, 1 << 90)
    steps = HalfLines.at_least(bounds, 1, bounds % 2 == 0)
    monkeypatch.setattr(Root, "floor", None)
    made = PairSum.of(steps, CodeLine.of(F(1), (), 0), CodeLine.of(other, (), 0), (-128, 127), (-128, 127))
    assert made is not None
    for code, column in zip(range(-128, 128), made.first.T.tolist(), strict=True):
        assert column == [int(n) + (code < 0 or (code == 0 and n % 2 == 1)) for n in bounds]


def test_a_constant_side_has_no_factors() -> None:
    steps = HalfLines.at_least(np.array([1]), 1, np.array([True]))
    constant, line = (CodeLine(F(slope), F(0), F(1), F(0)) for slope in (0, 1))
    assert PairSum.of(steps, constant, line, A, B) is None


def test_factors_that_no_threshold_separates_are_refused() -> None:
    steps = HalfLines.at_least(np.array([1]), 1, np.array([True]))
    made = PairSum.of(steps, CodeLine(F(1), F(0), F(1), F(0)), CodeLine(F(1), F(0), F(1), F(0)), A, B)
    assert made is not None
    assert made.thresholds(1, 1) is not None
    assert made.thresholds(1, 2) is None
