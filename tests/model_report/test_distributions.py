"""Distributions against plain counting, value by value, in exact rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.model_report.distributions import distribution_of
from pefslc.numeric.format import Quantization
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale

HALF_EVEN = RoundingMode.HALF_EVEN
QUARTERS = st.lists(st.integers(-400, 400).map(lambda n: n / 4), min_size=1, max_size=40)


def format_of(bits: int, signed: bool, exponent: int = 0, zero_point: int = 0) -> Quantization:
    return Quantization(bits=bits, signed=signed, scale=Scale.power_of_two(exponent), zero_point=zero_point)


def nearest(value: float, q: Quantization) -> int:
    """The code without bounds, by definition: ties go to the even multiple of the step."""
    return round(Fraction(value) / q.scale.step) + q.zero_point


@given(QUARTERS, st.integers(1, 9), st.booleans(), st.integers(-3, 2), st.integers(-3, 3))
def test_what_clips_and_what_vanishes_is_counted_as_defined(
    values: list[float], bits: int, signed: bool, exponent: int, zero_point: int
) -> None:
    q = format_of(bits, signed, exponent, zero_point)
    found = distribution_of(np.array(values), q, HALF_EVEN, 1)
    codes = [nearest(v, q) for v in values]
    assert found.clipped == sum(not q.low <= code <= q.high for code in codes)
    assert found.vanished == sum(code == q.zero_point and v != 0 for code, v in zip(codes, values, strict=True))
    assert found.zeros == values.count(0.0)
    assert found.count == len(values)
    assert (found.low, found.high) == (min(values), max(values))
    assert found.held == (float(q.value(q.low)), float(q.value(q.high)))


@given(QUARTERS, st.integers(1, 12), st.booleans(), st.integers(-3, 2))
def test_each_value_is_in_the_bin_of_its_nearest_code(
    values: list[float], bits: int, signed: bool, exponent: int
) -> None:
    q = format_of(bits, signed, exponent)
    h = distribution_of(np.array(values), q, HALF_EVEN, 1).histogram
    counts = [0] * len(h.counts)
    for value in values:
        counts[(nearest(value, q) - h.first) // h.width] += 1
    assert list(h.counts) == counts
    assert len(counts) <= 64
    assert (q.low - h.first) % h.width == 0, "the format's lowest code begins a bin"
    assert h.first <= q.low
    assert h.first + len(counts) * h.width > q.high


def test_a_scale_for_each_channel_divides_its_own_channel() -> None:
    q = Quantization(bits=4, signed=True, scale=Scale.of([Fraction(1), Fraction(1, 4)]))
    values = np.array([[7.0, 7.0], [8.0, 2.0]])  # channel 1 holds up to 7/4
    found = distribution_of(values, q, HALF_EVEN, 1)
    assert (found.clipped, found.step, found.held) == (3, 0.25, (-8.0, 7.0))


@pytest.mark.parametrize(("largest", "idle"), [(4.0, 0), (2.0, 1), (1.01, 1), (1.0, 2), (0.0, 0), (100.0, 0)])
def test_idle_bits_are_halvings_that_still_hold_the_largest(largest: float, idle: int) -> None:
    q = format_of(4, True, -1)  # -4 to 3.5
    assert distribution_of(np.array([0.0, -largest]), q, HALF_EVEN, 1).idle_bits == idle


def test_magnitudes_leave_zeros_out() -> None:
    q = format_of(8, True)
    values = np.array([0.0, 0.0, 0.0, -1.0, 2.0, 3.0, -4.0, 5.0])
    assert distribution_of(values, q, HALF_EVEN, 1).magnitudes == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert distribution_of(np.zeros(3), q, HALF_EVEN, 1).magnitudes is None
