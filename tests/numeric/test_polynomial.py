"""A function's staircase by polynomials: at both sides of each step, and what is damaged is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.expression import Call, Expression, Function, X, number
from pefslc.numeric.format import Quantization
from pefslc.numeric.polynomial import PiecewisePolynomial, _is_staircase, _most_fall, fit_polynomial
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, FunctionStage, Stage
from pefslc.numeric.staircase import Staircase, staircase_of
from pefslc.numeric.table import table_of
from pefslc.numeric.wide import WideAffine

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


@given(st.data())
def test_codes_fall_by_no_more_than_is_proved(data: st.DataObject) -> None:
    """Any coefficients, at codes that are farther apart than arguments, and beyond the ends."""
    degree, segments, bits = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3)), 5
    low = data.draw(st.integers(0, (1 << bits) - 2))
    high = data.draw(st.integers(max(low + 1, (segments - 1) << bits), (segments << bits) - 1))
    spread = data.draw(st.sampled_from([3, 60, 4000]))
    numbers = st.lists(st.integers(-spread, spread), min_size=degree + 1, max_size=degree + 1)
    coefficients = np.array([data.draw(numbers) for _ in range(segments)])
    coefficients[:, 1] += data.draw(st.sampled_from([0, 10 * spread]))
    p = polynomial_of(
        coefficients, bits, (low, high), data.draw(st.sampled_from([1, 3, 7])), data.draw(st.integers(0, 6))
    )
    codes = np.arange(201)[None, :]
    assert (np.maximum.accumulate(p(codes)[0]) <= p.moved(_most_fall(p))(codes)[0]).all()


@given(st.data())
def test_what_is_computed_is_below_the_polynomial_by_two_units_for_each_product_at_most(data: st.DataObject) -> None:
    degree, bits = data.draw(st.integers(1, 7)), 40
    row = data.draw(st.lists(st.integers(-(2**58), 2**58), min_size=degree + 1, max_size=degree + 1))
    p = polynomial_of(np.array([row]), bits, (0, (1 << bits) - 1), 1, 0)
    u = data.draw(st.integers(0, (1 << bits) - 1))
    exact = sum(c * F(u, 1 << bits) ** power for power, c in enumerate(row))
    assert 0 <= exact - int(p._value(np.array([u]))[0]) <= 2 * degree


def test_roundings_count_where_a_segment_is_flat_or_a_step_is_near_the_ends() -> None:
    steep, unit = [1 << 19, 1 << 20, 0], 20
    assert _most_fall(polynomial_of(np.array([steep]), 5, (0, 31), 1, unit)) == 0
    above_a_bound, below_one = [1, 1 << 20, 0], [(1 << 20) - 1 - (31 << 15), 1 << 20, 0]
    for row in (above_a_bound, below_one):
        assert _most_fall(polynomial_of(np.array([row]), 5, (0, 31), 1, unit)) == 4
    flat = [steep[0] + steep[1], 0, 1]
    assert _most_fall(polynomial_of(np.array([steep, flat]), 5, (0, 63), 1, unit)) == 4


def polynomial_of(
    coefficients: np.ndarray, bits: int, ends: tuple[int, int], slope: int, fraction_bits: int
) -> PiecewisePolynomial:
    """Of u = slope * code between the ends."""
    line = WideAffine.of((0, 200), ends, [slope << 30], [0], 30)
    assert line is not None
    return PiecewisePolynomial(line, coefficients, bits, fraction_bits, 0)


def test_a_function_of_pieces_that_meet_elsewhere_than_at_0_has_none() -> None:
    kinked = Call(Function.MIN, (TANH, Call(Function.ADD, (number(F(1, 5)), Call(Function.MUL, (number(F(1, 9)), X))))))
    assert fit_polynomial(staircase(kinked, 1 << 14)) is None


def test_channels_that_differ_behind_the_function_have_none() -> None:
    scale, stages, quantizer = chain_of(TANH, 3000, 0.0007)
    behind = Affine.bias((F(0), F(1, 3), F(0), F(0)))
    assert fit_polynomial(staircase_of(scale, (*stages, behind), quantizer, -3000, 3000, 4)) is None
