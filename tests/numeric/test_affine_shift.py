"""Multiply, add, shift, clamp: what it computes and says of itself, against exact rationals on every code."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from pefslc.numeric.affine_shift import AffineShift, affine_shift_of
from pefslc.numeric.line import BentLine
from pefslc.numeric.rounding import RoundingMode, round_fraction

F = Fraction


def affine(
    *lines: tuple[int, int], shift: int = 0, rounding: RoundingMode = RoundingMode.FLOOR, low: int = -2, high: int = 3,
    domain: tuple[int, int] = (-5, 6),
) -> AffineShift:  # fmt: skip
    multiplier, offset = np.array(lines, dtype=np.int64).T
    return AffineShift(*domain, multiplier, offset, shift, rounding, low, high)


@pytest.mark.parametrize("rounding", [RoundingMode.HALF_EVEN, RoundingMode.FLOOR])
@pytest.mark.parametrize("shift", range(4))
def test_codes_and_whether_the_clamp_acts_are_those_of_the_rational(shift: int, rounding: RoundingMode) -> None:
    """With limits that the codes just pass, reach, and do not reach."""
    for m, b, domain in product((-3, -1, 0, 1, 2), (-4, 0, 3), [(-5, 6), (0, 3), (-4, -4)]):
        codes = range(domain[0], domain[1] + 1)
        exact = [round_fraction(F(a * m + b, 2**shift), rounding) for a in codes]
        for below, above in product((-1, 0, 1), repeat=2):
            low, high = min(exact) - below, max(exact) + above
            found = affine((m, b), shift=shift, rounding=rounding, low=low, high=high, domain=domain)
            assert found.clamps == (min(exact) < low or max(exact) > high)
            if low <= high:
                assert found(np.array([codes]))[0].tolist() == [min(max(code, low), high) for code in exact]


def test_the_numerators_are_the_sums_with_half_an_output_code() -> None:
    found = affine((3, -4), (-2, 7), shift=3)
    sums = [a * m + b for a in range(-5, 7) for m, b in ((3, -4), (-2, 7))]
    assert found.numerators == (min(sums), max(sums) + 4)
    assert affine((3, -4)).numerators == (-19, 14)  # no shift, nothing to round


def test_a_shift_alone_is_one_in_every_channel() -> None:
    assert affine((1, 0), (1, 0), shift=2).is_shift
    for other in ((2, 0), (-1, 0), (0, 0), (1, 1)):
        assert not affine((1, 0), other, shift=2).is_shift
        assert not affine(other, (1, 0), shift=2).is_shift


def test_channels_are_those_that_are_told_apart() -> None:
    one, three = affine((2, 1)), affine((2, 1), (1, 0), (3, 5))
    assert (one.channels, three.channels) == (1, 3)
    assert one.of_channels(4, 9) is one
    part = three.of_channels(1, 3)
    assert (part.multiplier.tolist(), part.offset.tolist()) == ([1, 3], [0, 5])


def test_a_line_that_bends_is_one_from_0_on() -> None:
    line = BentLine(F(4), F(1), -9, 9)
    assert affine_shift_of(line, 0, 5) is not None
    assert affine_shift_of(line, -1, 5) is None


@pytest.mark.parametrize("domain", [(-(1 << 20), 5), (-5, 1 << 20)])
def test_a_line_whose_products_leave_int64_is_no_shift(domain: tuple[int, int]) -> None:
    """At either end; what is taken computes the same at both."""
    for numerator in (1 << 39 | 1, 1 << 42 | 1):
        slope = F(numerator, 1 << 30)
        line = BentLine(slope, slope, -(1 << 31), 1 << 31)
        found = affine_shift_of(line, *domain)
        assert (found is not None) == (numerator < 1 << 40)
        if found is not None:
            assert found(np.array([domain]))[0].tolist() == line(np.array(domain)).tolist()
