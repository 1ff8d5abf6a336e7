"""Formats and scales: their names, ranges and values."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.format import FixedPoint, Quantization, saturate
from pefslc.numeric.scale import Scale, common_grid, power_of_two_exponent

F = Fraction


@pytest.mark.parametrize(
    ("text", "bits", "low", "high"),
    [
        ("Q2.3", 5, F(-2), F(15, 8)),
        ("UQ3.4", 7, F(0), F(127, 16)),
        ("Q8.8", 16, F(-128), F(32767, 256)),
        ("Q1.0", 1, F(-1), F(0)),
        ("UQ1.0", 1, F(0), F(1)),
        ("Q12.-4", 8, F(-2048), F(2032)),
        ("Q-2.8", 6, F(-1, 8), F(31, 256)),
        ("Q16.16", 32, F(-32768), F(2**31 - 1, 2**16)),
        (" Q2.3 ", 5, F(-2), F(15, 8)),
    ],
)
def test_a_format_is_its_bits_and_its_range(text: str, bits: int, low: Fraction, high: Fraction) -> None:
    fixed = FixedPoint.parse(text)
    q = fixed.quantization
    assert (fixed.bits, q.value(q.low), q.value(q.high)) == (bits, low, high)
    assert str(fixed) == text.strip() == str(q)
    assert q.fixed_point == fixed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a format"),
        ("2.3", "is not a format"),
        ("Q2,3", "is not a format"),
        ("q2.3", "is not a format"),
        ("Q2.3.4", "is not a format"),
        ("Q\u0662.3", "is not a format"),
        ("Q1000.2", "is not a format"),
        ("Q2.-2", "has 0 bits"),
        ("Q-5.2", "has -3 bits"),
        ("Q20.13", "has 33 bits: between 1 and 32 are possible"),
    ],
)
def test_what_is_no_format_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FixedPoint.parse(text)


def test_formats_describe_themselves() -> None:
    assert FixedPoint.parse("Q2.3").describe() == "Q2.3: 5 bits, step 0.125, range [-2, 1.875]"
    assert FixedPoint.parse("UQ2.3").describe() == "UQ2.3: 5 bits, step 0.125, range [0, 3.875]"


@pytest.mark.parametrize("bits", range(2, 9))
def test_narrow_drops_the_lowest_signed_and_the_highest_unsigned_code(bits: int) -> None:
    scale = Scale.power_of_two(-2)
    ranges = {
        (signed, narrow): (q.low, q.high)
        for signed in (True, False)
        for narrow in (True, False)
        for q in [Quantization(bits=bits, signed=signed, narrow=narrow, scale=scale)]
    }
    half = 2 ** (bits - 1)
    assert ranges == {
        (True, False): (-half, half - 1),
        (True, True): (-half + 1, half - 1),
        (False, False): (0, 2 * half - 1),
        (False, True): (0, 2 * half - 2),
    }


def test_values_have_their_zero_point_and_their_channels_scale() -> None:
    q = Quantization(bits=8, signed=False, zero_point=3, scale=Scale((F(1, 3), F(1, 7))))
    assert q.value(5, 0) == F(2, 3)
    assert q.value(0, 1) == F(-3, 7)
    assert q.fixed_point is None
    assert str(q) == "u8+3*(1/3,1/7)"
    assert Quantization(bits=4, signed=True, scale=Scale((F(3),))).fixed_point is None


def test_saturate() -> None:
    assert [saturate(v, -2, 3) for v in (-9, -2, 0, 3, 4)] == [-2, -2, 0, 3, 3]
    assert saturate(np.array([-9, -2, 0, 3, 4]), -2, 3).tolist() == [-2, -2, 0, 3, 3]


@given(st.integers(-150, 150))
def test_powers_of_two_are_recognized_and_nothing_else(exponent: int) -> None:
    power = F(2) ** exponent
    assert power_of_two_exponent(power) == exponent
    for other in (power * 3, power / 3, -power, power + F(2) ** -200):
        assert power_of_two_exponent(other) is None
    assert power_of_two_exponent(F(0)) is None


def test_equal_steps_collapse() -> None:
    assert Scale.of([F(1, 4)] * 5) == Scale.power_of_two(-2)
    assert not Scale.of([F(1, 4)] * 5).per_channel
    assert Scale.of([F(1, 4), F(1, 8)]).per_channel


@pytest.mark.parametrize("steps", [[], [F(0)], [F(-1)], [F(1), F(0)]])
def test_a_scale_is_positive(steps: list[Fraction]) -> None:
    with pytest.raises(ValueError, match="a scale is positive"):
        Scale.of(steps)


def test_scales_multiply_channel_by_channel() -> None:
    channels = Scale((F(1, 2), F(1, 3)))
    assert (channels * Scale.power_of_two(-1)).steps == (F(1, 4), F(1, 6))
    assert (Scale.power_of_two(-1) * channels).steps == (F(1, 4), F(1, 6))
    assert (channels * F(6)).steps == (F(3), F(2))
    assert (channels * Scale((F(2), F(3)))) == Scale.power_of_two(0)
    assert (channels.channel(1), channels.channels(2)) == (F(1, 3), (F(1, 2), F(1, 3)))
    assert Scale.power_of_two(-3).channels(3) == (F(1, 8),) * 3
    assert Scale((F(1, 8), F(1, 3))).is_power_of_two is False
    assert Scale((F(1, 8), F(4))).is_power_of_two is True


@given(st.lists(st.fractions(F(1, 1000), 1000), min_size=1, max_size=5))
def test_the_common_grid_is_the_coarsest(steps: list[Fraction]) -> None:
    grid = common_grid(steps)
    quotients = [s / grid for s in steps]
    assert all(q.denominator == 1 for q in quotients)
    assert gcd(*(q.numerator for q in quotients)) == 1, "a coarser grid would do"
