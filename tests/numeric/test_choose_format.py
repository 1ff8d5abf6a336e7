"""Steps for known values, against a search over exact rationals."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pefslc.numeric.choose_format import AutoFormat, Calibration, Candidate, candidates, choose, covering_format
from pefslc.numeric.format import FixedPoint
from pefslc.numeric.rounding import round_fraction

reals = st.floats(-1e6, 1e6, allow_subnormal=False) | st.integers(-300, 300).map(lambda k: k / 16)


def covers(fmt: FixedPoint, *values: float) -> bool:
    step, bits = Fraction(2) ** -fmt.fraction_bits, fmt.bits
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if fmt.signed else (0, 2**bits - 1)
    return all(low <= round_fraction(Fraction(v) / step) <= high for v in values)


@given(st.tuples(reals, reals).map(sorted), st.integers(2, 16), st.booleans())
@example([-5.0, 0.0], 8, True)
@example([-4.0, 3.0], 8, True)
@example([2.0**-1074, 2.0**1023], 8, False)
def test_the_covering_format_is_the_finest_that_clips_nothing(ends: list[float], bits: int, signed: bool) -> None:
    low, high = ends if signed else sorted(abs(v) for v in ends)
    fmt = covering_format(low, high, bits, signed=signed)
    assert (fmt.bits, fmt.signed) == (bits, signed)
    assert covers(fmt, low, high)
    if low or high:
        finer = FixedPoint(fmt.integer_bits - 1, fmt.fraction_bits + 1, signed)
        assert not covers(finer, low, high)


def test_zeros_get_a_format_around_zero() -> None:
    assert str(covering_format(0.0, 0.0, 8, signed=True)) == "Q1.7"
    assert str(covering_format(0.0, -0.0, 8, signed=False)) == "UQ0.8"


def test_candidates_begin_with_the_covering_format_and_get_finer() -> None:
    names = [str(c.fmt) for c in candidates(-1.0, 3.0, 8, signed=True)]
    assert names == ["Q3.5", "Q2.6", "Q1.7", "Q0.8", "Q-1.9"]


MEASURED = tuple(
    Candidate(FixedPoint(3 - i, 5 + i), clipped, error)
    for i, (clipped, error) in enumerate([(0, 4.0), (1, 2.0), (9, 3.0)])
)


@pytest.mark.parametrize(
    ("method", "count", "chosen"),
    [
        (Calibration.MINMAX, 1000, "Q3.5"),
        (Calibration.PERCENTILE, 999, "Q3.5"),
        (Calibration.PERCENTILE, 1000, "Q2.6"),
        (Calibration.PERCENTILE, 9000, "Q1.7"),
        (Calibration.MSE, 1000, "Q2.6"),
    ],
)
def test_each_calibration_chooses_by_what_its_name_says(method: Calibration, count: int, chosen: str) -> None:
    assert str(choose(MEASURED, count, method)) == chosen


def test_a_request_names_a_width_and_a_format_is_no_request() -> None:
    assert AutoFormat.parse(" auto:8") == AutoFormat(8)
    assert str(AutoFormat(6)) == "auto:6"
    assert AutoFormat.parse("Q2.3") is None
    for text in ("auto", "auto:", "auto:x", "auto:1", "auto:33", "auto:-8"):
        with pytest.raises(ValueError, match=r"auto:8 for 8 bits|between 2 and 32 bits"):
            AutoFormat.parse(text)
