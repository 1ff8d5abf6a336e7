"""A function's staircase by polynomials: at both sides of each step, and what is damaged is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.expression import Call, Expression, Function, X, number
from pefslc.numeric.format import Quantization
from pefslc.numeric.polynomial import PiecewisePolynomial, _is_staircase, _most_fall, fit_polynomial
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, FunctionStage, Stage
from pefslc.numeric.staircase import Staircase, staircase_of
from pefslc.numeric.table import table_of

F = Fraction
TANH = Call(Function.TANH, (X,))
SIGMOID = Call(Function.SIGMOID, (X,))
FUNCTIONS: dict[str, Expression] = {
    "tanh": TANH,
    "falling sigmoid": Call(Function.SUB, (number(1), SIGMOID)),
    "elu": Call(Function.ELU, (X, number(F(1, 2)))),
    "softsign": Call(Function.SOFTSIGN, (X,)),
    "softplus": Call(Function.SOFTPLUS, (X,)),
    "erf": Call(Function.ERF, (X,)),
}


def chain_of(function: Expression, last: int, out: float) -> tuple[Scale, tuple[Stage, ...], Quantizer]:
    """Four channels of other slopes, of both signs, and other biases."""
    rng = np.random.default_rng(last)
    factors, offsets = rng.uniform(0.3, 2, 4) * [1, -1, 1, -1], rng.normal(0, 0.3, 4)
    factor, offset = (tuple(F(float(v)) for v in part.astype(np.float32)) for part in (factors, offsets))
    stages = (Affine(factor, (F(0),) * 4, (F(1),) * 4, offset), FunctionStage(function))
    quantizer = Quantizer(Quantization(bits=16, signed=True, scale=Scale((F(float(np.float32(out))),))))
    return Scale((F(3, last),)), stages, quantizer


def staircase(function: Expression, last: int, out: float = 0.0007) -> Staircase:
    scale, stages, quantizer = chain_of(function, last, out)
    return staircase_of(scale, stages, quantizer, -last, last, 4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_polynomials_are_the_function_at_every_code_of_a_small_domain(name: str) -> None:
    last = 2500
    found = fit_polynomial(staircase(FUNCTIONS[name], last))
    assert found is not None
    wanted = table_of(*chain_of(FUNCTIONS[name], last, 0.0007), -last, last, 4)
    np.testing.assert_array_equal(found(np.tile(np.arange(-last, last + 1), (4, 1))), wanted)


@pytest.mark.parametrize("last", [1 << 27, 1 << 34])
@pytest.mark.parametrize("name", ["tanh", "falling sigmoid", "softsign"])
def test_polynomials_are_the_staircase_at_both_sides_of_each_of_thousands_of_steps(name: str, last: int) -> None:
    wanted = staircase(FUNCTIONS[name], last, 0.0001)
    found = fit_polynomial(wanted)
    assert found is not None
    assert found.coefficients.nbytes <= 1 << 15
    codes = wanted.critical_codes()
    np.testing.assert_array_equal(found(codes), wanted(codes))


def test_sums_far_beyond_the_last_step_leave_fewer_bits_to_a_segment() -> None:
    """Where a Tanh saturates at a thousandth of the sums."""
    scale, stages, quantizer = chain_of(TANH, 1 << 30, 0.0007)
    wanted = staircase_of(Scale((scale.step * 1000,)), stages, quantizer, -(1 << 30), 1 << 30, 4)
    found = fit_polynomial(wanted)
    assert found is not None
    assert found.segment_bits < 48
    codes = wanted.critical_codes()
    np.testing.assert_array_equal(found(codes), wanted(codes))


@pytest.mark.parametrize("bits", [12, 13])
def test_a_value_that_hits_a_bound_exactly_falls_to_its_side(bits: int) -> None:
    """sigmoid(0) * (2^bits - 1) ends in one half: 2047.5 rounds up to even; thrice as coarse, 682.5 goes down."""
    for numerator in (1, 3):
        unit = Scale((F(numerator, (1 << bits) - 1),))
        quantizer = Quantizer(Quantization(bits=bits, signed=False, scale=unit))
        wanted = staircase_of(Scale((F(1, 1 << 16),)), (FunctionStage(SIGMOID),), quantizer, -(1 << 20), 1 << 20, 1)
        found = fit_polynomial(wanted)
        assert found is not None
        codes = np.concatenate([wanted.critical_codes(), [[-1, 0, 1]]], axis=1)
        np.testing.assert_array_equal(found(codes), wanted(codes))


def fitted() -> tuple[Staircase, PiecewisePolynomial]:
    wanted = staircase(TANH, 1 << 20)
    found = fit_polynomial(wanted)
    assert found is not None
    return wanted, found


def test_polynomials_that_are_off_at_one_step_are_refused() -> None:
    wanted, found = fitted()
    moved = wanted.thresholds.copy()
    moved[2, 1000] += 1
    other = Staircase(
        wanted.domain_low, wanted.domain_high, wanted.low, moved, wanted.direction.copy(), 1, wanted.chains
    )
    assert _is_staircase(wanted, found)
    assert not _is_staircase(other, found)


def test_polynomials_that_may_fall_between_two_steps_are_refused() -> None:
    """A bump where no step is looked at: within a segment, and at the start of one below the last one's end."""
    wanted, found = fitted()
    assert _is_staircase(wanted, found)
    at = found.segments // 2
    step = int(found.coefficients[at, 1])
    for power, by in ((2, -step), (0, -step)):
        damaged = found.coefficients.copy()
        damaged[at, power] += by
        moved = replace(found, coefficients=damaged)
        assert _most_fall(moved) >= step // 2
        assert not _is_staircase(wanted, moved)


def test_a_function_of_pieces_that_meet_elsewhere_than_at_0_has_none() -> None:
    kinked = Call(Function.MIN, (TANH, Call(Function.ADD, (number(F(1, 5)), Call(Function.MUL, (number(F(1, 9)), X))))))
    assert fit_polynomial(staircase(kinked, 1 << 14)) is None


def test_channels_that_differ_behind_the_function_have_none() -> None:
    scale, stages, quantizer = chain_of(TANH, 3000, 0.0007)
    behind = Affine.bias((F(0), F(1, 3), F(0), F(0)))
    assert fit_polynomial(staircase_of(scale, (*stages, behind), quantizer, -3000, 3000, 4)) is None
