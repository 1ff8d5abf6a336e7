"""Ties to even on both sides of some steps, against Python's own rounding of fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.numeric.format import Quantization
from pefslc.numeric.half_even import HalfEvenLine, fit_half_even
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, LeakyReluStage, Stage
from pefslc.numeric.staircase import Staircase, agrees_everywhere, staircase_of
from pefslc.numeric.wide import fit_line

F = Fraction


def staircase(
    ratio: Fraction, offsets: list[Fraction], last: int, zero_point: int = 0, adds_last: bool = False
) -> tuple[Staircase, Quantizer]:
    quantization = Quantization(bits=12, signed=True, narrow=False, scale=Scale((F(1),)), zero_point=zero_point)
    quantizer = Quantizer(quantization, adds_zero_point_last=adds_last)
    stages = (Affine.product((ratio,)), Affine.bias(tuple(offsets)))
    return staircase_of(Scale((F(1),)), stages, quantizer, -last, last, len(offsets)), quantizer


def rounded(x: Fraction, quantizer: Quantizer) -> int:
    q = quantizer.quantization
    inside = round(x) + q.zero_point if quantizer.adds_zero_point_last else round(x + q.zero_point)
    return min(max(inside, q.low), q.high)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-9, 9).filter(bool),
    st.integers(2, 60),
    st.lists(st.integers(-300, 300), min_size=1, max_size=3),
    st.integers(-3, 3),
    st.booleans(),
)
def test_every_code_is_that_of_the_fraction(
    numerator: int, half: int, offsets: list[int], zero_point: int, adds_last: bool
) -> None:
    ratio, last = F(numerator, 2 * half), 3000
    biases = [F(offset, 4 * half) for offset in offsets]
    found, quantizer = staircase(ratio, biases, last, zero_point, adds_last)
    line = fit_half_even(found)
    assert line is not None
    domain = range(-last, last + 1)
    wanted = [[rounded(ratio * a + bias, quantizer) for a in domain] for bias in biases][: found.channels]
    codes = line(np.tile(np.array(domain, dtype=np.int64), (found.channels, 1)))
    np.testing.assert_array_equal(codes, wanted)


def test_a_floor_alone_does_not_take_such_ties() -> None:
    found, _ = staircase(F(1, 6), [F(0)], 3000)
    assert fit_line(found) is None
    assert isinstance(fit_half_even(found), HalfEvenLine)


def test_a_line_that_takes_its_ties_to_the_odd_codes_is_refused() -> None:
    found, _ = staircase(F(1, 6), [F(0)], 3000)
    line = fit_half_even(found)
    assert line is not None
    assert agrees_everywhere(found, line)
    assert not agrees_everywhere(found, replace(line, odd=1 - line.odd))


def test_lengths_that_64_bits_do_not_compare_are_refused() -> None:
    found, _ = staircase(F(1, (1 << 52) + 2), [F(1, 2)], 1 << 62)
    assert fit_half_even(found) is None


@pytest.mark.parametrize("mode", [RoundingMode.FLOOR, RoundingMode.HALF_AWAY])
def test_other_roundings_have_no_ties_to_even(mode: RoundingMode) -> None:
    quantizer = Quantizer(Quantization(bits=12, signed=True, scale=Scale((F(6),))), mode)
    assert fit_half_even(staircase_of(Scale((F(1),)), (), quantizer, -3000, 3000, 1)) is None


@pytest.mark.parametrize("below", [True, False])
def test_a_chain_that_bends_at_0_has_such_ties_in_both_pieces(below: bool) -> None:
    stages: tuple[Stage, ...] = (LeakyReluStage((F(1, 10),)),)
    quantizer = Quantizer(Quantization(bits=12, signed=True, scale=Scale((F(3),))))
    whole = staircase_of(Scale((F(1, 2),)), stages, quantizer, -9000, 9000, 1)
    part = whole.between(0, -whole.low, whole.low) if below else whole.between(-whole.low, whole.steps, 0)
    line = fit_half_even(part, below=below)
    assert line is not None
    domain = np.arange(-9000, 9001, dtype=np.int64)[None, :]
    np.testing.assert_array_equal(line(domain), part(domain))
