"""Every rounding mode, exhaustively on small ratios, against its definition in words."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from oracle import round_by_name
from pefslc.numeric.quantize import round_floats
from pefslc.numeric.rounding import RoundingMode, round_fraction, round_ratio, round_shift, rounds_to_at_least

QONNX = {
    "ROUND": RoundingMode.HALF_EVEN,
    "HALF_EVEN": RoundingMode.HALF_EVEN,
    "HALF_UP": RoundingMode.HALF_AWAY,
    "HALF_DOWN": RoundingMode.HALF_TO_ZERO,
    "FLOOR": RoundingMode.FLOOR,
    "CEIL": RoundingMode.CEIL,
    "UP": RoundingMode.AWAY,
    "DOWN": RoundingMode.TO_ZERO,
    "ROUND_TO_ZERO": RoundingMode.TO_ZERO,
}
NAME = {mode: name for name, mode in reversed(QONNX.items())} | {RoundingMode.SIGN: "SIGN"}
all_modes = pytest.mark.parametrize("mode", list(RoundingMode), ids=lambda m: m.value)


@pytest.mark.parametrize(("name", "mode"), QONNX.items())
def test_qonnx_names_in_any_case(name: str, mode: RoundingMode) -> None:
    for spelled in (name, name.lower(), name.title()):
        assert RoundingMode.from_qonnx(spelled) is mode


@pytest.mark.parametrize("name", ["", "BANANA", "STOCHASTIC_ROUND", "DPU", "half_away", "ROUND "])
def test_other_names_mean_nothing(name: str) -> None:
    assert RoundingMode.from_qonnx(name) is None


@pytest.mark.parametrize(
    ("name", "rounded"),
    [  # of -2.5 -1.5 -0.7 -0.5 -0.2 0 0.2 0.5 0.7 1.5 2.5
        ("ROUND", [-2, -2, -1, 0, 0, 0, 0, 0, 1, 2, 2]),
        ("HALF_UP", [-3, -2, -1, -1, 0, 0, 0, 1, 1, 2, 3]),
        ("HALF_DOWN", [-2, -1, -1, 0, 0, 0, 0, 0, 1, 1, 2]),
        ("FLOOR", [-3, -2, -1, -1, -1, 0, 0, 0, 0, 1, 2]),
        ("CEIL", [-2, -1, 0, 0, 0, 0, 1, 1, 1, 2, 3]),
        ("UP", [-3, -2, -1, -1, -1, 0, 1, 1, 1, 2, 3]),
        ("DOWN", [-2, -1, 0, 0, 0, 0, 0, 0, 0, 1, 2]),
    ],
)
def test_the_modes_on_paper(name: str, rounded: list[int]) -> None:
    tenths = [-25, -15, -7, -5, -2, 0, 2, 5, 7, 15, 25]
    assert [round_fraction(Fraction(t, 10), QONNX[name]) for t in tenths] == rounded
    assert [round_by_name(Fraction(t, 10), name) for t in tenths] == rounded


@all_modes
def test_ratios_exhaustively(mode: RoundingMode) -> None:
    numerators = np.arange(-200, 201)
    for denominator in range(1, 33):
        expected = [round_by_name(Fraction(int(n), denominator), NAME[mode]) for n in numerators]
        assert [round_ratio(int(n), denominator, mode) for n in numerators] == expected
        assert round_ratio(numerators, denominator, mode).tolist() == expected
        assert [round_fraction(Fraction(int(n), denominator), mode) for n in numerators] == expected


@all_modes
def test_shifts_of_python_integers_of_any_size(mode: RoundingMode) -> None:
    for value in (0, 1, 2**100 + 1, 3 * 2**99, -(2**100) - 1, -3 * 2**99, 5 * 2**69, -5 * 2**69):
        for shift in (0, 1, 70, 100):
            assert round_shift(value, shift, mode) == round_by_name(Fraction(value, 2**shift), NAME[mode])


@all_modes
def test_arrays_of_python_integers(mode: RoundingMode) -> None:
    values = [3 * 2**80 + d for d in (-1, 0, 1)] + [-5 * 2**80 - d for d in (-1, 0, 1)]
    rounded = round_ratio(np.array(values, dtype=object), 2**81, mode)
    assert rounded.tolist() == [round_by_name(Fraction(v, 2**81), NAME[mode]) for v in values]


@all_modes
def test_what_rounds_to_at_least_a_code_is_the_inverse(mode: RoundingMode) -> None:
    for code in (0, 1) if mode is RoundingMode.SIGN else range(-6, 7):
        bound = rounds_to_at_least(code, mode)
        for n in range(-64, 65):
            y = Fraction(n, 8)
            assert bound.contains(y) == (round_by_name(y, NAME[mode]) >= code), (code, y)
        for y in (bound.value - Fraction(1, 10**40), bound.value, bound.value + Fraction(1, 10**40)):
            assert bound.contains(y) == (round_by_name(y, NAME[mode]) >= code), (code, y)


@all_modes
def test_floats_round_as_the_exact_numbers_that_they_hold(mode: RoundingMode) -> None:
    eighths = np.arange(-80, 81) / 8
    below_half = np.nextafter(0.5, 0)
    others = [below_half, -below_half, 2.0**52 + 0.5, -(2.0**52) - 0.5, 2.0**53 - 1, 1e300, -1e300, 4503599627370497.5]
    x = np.concatenate([eighths, others])
    expected = [round_fraction(Fraction(float(v)), mode) for v in x]
    assert [int(v) for v in round_floats(x, mode)] == expected
