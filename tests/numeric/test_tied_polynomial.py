"""Polynomials with ties to even: the staircase at every code, and nothing else is taken for a tie."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.expression import Call, Expression, Function, X, number, rational, rational_values
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, FunctionStage
from pefslc.numeric.staircase import Staircase, staircase_of
from pefslc.numeric.tied_polynomial import fit_tied_polynomial
from pefslc.numeric.turning import parted_staircases

F = Fraction
HARD_SIGMOID = Call(Function.HARD_SIGMOID, (X, number(F(1, 6)), number(F(1, 2))))
HARD_SWISH = Call(Function.MUL, (X, HARD_SIGMOID))
SQUARE = Call(Function.MUL, (X, X))
# At a multiple m / 8 of an odd m these are (2 * m^2 + m) / 64: ties of 1/32, of even codes and of odd ones.
PARABOLA = Call(Function.ADD, (Call(Function.MUL, (number(2), SQUARE)), Call(Function.DIV, (X, number(8)))))
FALLING = Call(Function.SUB, (number(7), PARABOLA))
FUNCTIONS: dict[str, Expression] = {"hard swish": HARD_SWISH, "parabola": PARABOLA, "falling parabola": FALLING}


def parts(
    function: Expression, last: int, slopes: tuple[Fraction, ...] = (F(1),), bits: int = 10, zero_point: int = 0
) -> tuple[Staircase, ...]:
    """Of ratios of small numbers, up to 8 on both sides."""
    scale = Scale((F(16, 1 << (bits - 1)),))
    quantizer = Quantizer(Quantization(bits=bits, signed=True, scale=scale, zero_point=zero_point))
    offsets = tuple(F(c, 4) for c in range(len(slopes)))
    line = Affine(slopes, (F(0),) * len(slopes), (F(1),) * len(slopes), offsets)
    found = parted_staircases(
        Scale((F(8, last),)), (line, FunctionStage(function)), quantizer, -last, last, len(slopes)
    )
    assert found is not None
    return found


@pytest.mark.parametrize("zero_point", [0, 3])
@pytest.mark.parametrize("slopes", [(F(1),), (F(1), F(-1), F(1, 2), F(3, 4))], ids=len)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_ties_of_both_ways_are_right_at_every_code(name: str, slopes: tuple[Fraction, ...], zero_point: int) -> None:
    last, fitted = 1 << 13, 0
    codes = np.tile(np.arange(-last, last + 1), (len(slopes), 1))
    for part in parts(FUNCTIONS[name], last, slopes, zero_point=zero_point):
        found = fit_tied_polynomial(part)
        if found is not None:
            fitted += 1
            np.testing.assert_array_equal(found(codes[: part.channels]), part(codes[: part.channels]))
    assert fitted


def test_a_rising_function_has_ties_too() -> None:
    quantizer = Quantizer(Quantization(bits=12, signed=False, scale=Scale((F(1, 1 << 11),))))
    last = 5 << 12
    wanted = staircase_of(Scale((F(1, 1 << 12),)), (FunctionStage(HARD_SIGMOID),), quantizer, -last, last, 1)
    found = fit_tied_polynomial(wanted)
    assert found is not None
    codes = np.arange(-last, last + 1)[None, :]
    np.testing.assert_array_equal(found(codes), wanted(codes))


def test_products_beyond_64_bits_tell_ties_from_their_neighbours() -> None:
    """Behind 34 bits: at the steps, of which thousands are ties, and far from them."""
    last, rng = 1 << 33, np.random.default_rng(1)
    (_, wanted) = parts(HARD_SWISH, last, bits=14)
    found = fit_tied_polynomial(wanted)
    assert found is not None
    largest = abs(int(found.numerators[0, 0, 2])) * last * last
    assert largest > 1 << 64
    codes = np.concatenate([wanted.critical_codes(), rng.integers(-last, last, (1, 20_000))], axis=1)
    np.testing.assert_array_equal(found(codes), wanted(codes))
    assert (found(codes) != found.polynomial(codes)).sum() > 1000


def test_codes_of_ties_are_those_of_exact_rationals() -> None:
    (_, wanted) = parts(HARD_SWISH, 1 << 13)
    found = fit_tied_polynomial(wanted)
    assert found is not None
    assert wanted.chains is not None
    on_tie = np.flatnonzero(
        found(np.arange(-8192, 8193)[None, :])[0] != found.polynomial(np.arange(-8192, 8193)[None, :])[0]
    )
    chains = wanted.chains
    for a in (on_tie[:: len(on_tie) // 20] - 8192).tolist():
        value = chain_value(chains.stages, chains.scale.step * a, 0)
        assert value.compare(chains.quantizer.reaches(chains.quantizer.code_of(value, 0) + 1, 0).value) == 0


@pytest.mark.parametrize("damage", ["odd", "border", "denominator", "numerators"])
def test_each_number_matters(damage: str) -> None:
    last = 1 << 13
    (_, wanted) = parts(HARD_SWISH, last)
    found = fit_tied_polynomial(wanted)
    assert found is not None
    codes = np.arange(-last, last + 1)[None, :]
    changed = {
        "odd": replace(found, odd=1 - found.odd),
        "border": replace(found, border=found.border + last),
        "denominator": replace(found, denominator=found.denominator + 1),
        "numerators": replace(found, numerators=found.numerators[:, :, ::-1].copy()),
    }[damage]
    assert (changed(codes) != wanted(codes)).any()


def test_what_is_no_quadratic_or_has_ties_of_one_way_has_none() -> None:
    cubic = Call(Function.MUL, (X, SQUARE))
    quotient = Call(Function.DIV, (X, Call(Function.ADD, (number(9), SQUARE))))
    scale, quantizer = Scale((F(1, 256),)), Quantizer(Quantization(bits=10, signed=True, scale=Scale((F(1, 64),))))
    for function in (cubic, Call(Function.TANH, (X,)), quotient):
        stages = (FunctionStage(function, proved=1),)
        assert fit_tied_polynomial(staircase_of(scale, stages, quantizer, -500, 500, 1)) is None
    line = (FunctionStage(Call(Function.MUL, (number(3), X))),)
    assert fit_tied_polynomial(staircase_of(Scale((F(1, 192),)), line, quantizer, -500, 500, 1)) is None, "no ties"
    down = replace(quantizer, rounding=RoundingMode.HALF_TO_ZERO)
    assert fit_tied_polynomial(staircase_of(scale, line, down, -500, 500, 1)) is None


@pytest.mark.parametrize(
    "function", [HARD_SWISH, PARABOLA, FALLING, Call(Function.RELU, (X, number(F(-1, 3)))), number(F(2, 7))]
)
def test_values_of_many_codes_are_those_of_each(function: Expression) -> None:
    codes, step = np.arange(-40, 41), F(3, 11)
    found = rational_values(function, codes, step)
    assert found is not None
    numerators = np.broadcast_to(found[0], codes.shape).tolist()
    assert [F(n, found[1]) for n in numerators] == [rational(function, step * a) for a in codes.tolist()]


@pytest.mark.parametrize(
    "function", [Call(Function.TANH, (X,)), Call(Function.DIV, (number(1), X)), Call(Function.SQRT, (X,))]
)
def test_values_of_other_functions_are_not_found_at_once(function: Expression) -> None:
    assert rational_values(function, np.arange(1, 5), F(1)) is None
