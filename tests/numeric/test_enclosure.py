"""Interval arithmetic: whatever numbers two intervals hold, the bounds hold what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from pefslc.numeric.enclosure import DecimalArithmetic, FloatArithmetic, FunctionValue, Interval, enclose
from pefslc.numeric.expression import Call, Function, X

F = Fraction
Ends = tuple[Fraction, Fraction]
EXACT: dict[Function, Callable[[Fraction, Fraction], Fraction]] = {
    Function.ADD: lambda a, b: a + b,
    Function.SUB: lambda a, b: a - b,
    Function.MUL: lambda a, b: a * b,
    Function.DIV: lambda a, b: a / b,
    Function.MIN: min,
    Function.MAX: max,
}
ENDS = [F(n, 4) for n in (-9, -2, 0, 1, 5)]
INTERVALS = [(low, high) for low, high in product(ENDS, ENDS) if low <= high]


def decimal_bounds(function: Function, a: Ends, b: Ends) -> Ends | None:
    arithmetic = DecimalArithmetic(24)
    found = arithmetic.apply(function, [Interval(*(arithmetic.number(end).low for end in ends)) for ends in (a, b)])
    return None if found.low.is_infinite() else (F(found.low), F(found.high))


def float_bounds(function: Function, a: Ends, b: Ends) -> Ends | None:
    found = FloatArithmetic().apply(function, [Interval(*(np.array([float(end)]) for end in ends)) for ends in (a, b)])
    assert np.isnan(found.low[0]) == np.isnan(found.high[0])
    return None if np.isnan(found.low[0]) else (F(float(found.low[0])), F(float(found.high[0])))


@pytest.mark.parametrize("bounds", [decimal_bounds, float_bounds])
@pytest.mark.parametrize("function", EXACT, ids=lambda f: f.value)
def test_bounds_hold_the_results_of_all_that_the_operands_hold(
    function: Function, bounds: Callable[[Function, Ends, Ends], Ends | None]
) -> None:
    """And no more than that, but for the last digits; a divisor that may be 0 has no bounds."""
    for a, b in product(INTERVALS, INTERVALS):
        found = bounds(function, a, b)
        assert (found is None) == (function is Function.DIV and b[0] <= 0 <= b[1])
        if found is not None:
            results = [EXACT[function](x, y) for x in a for y in b]  # monotone in each operand: the ends are extreme
            slack = F(1, 10**11)
            assert min(results) - slack <= found[0] <= min(results)
            assert max(results) <= found[1] <= max(results) + slack


@pytest.mark.parametrize("x", [-230_200, -230_300, -300_000])
def test_what_is_too_small_for_the_exponents_is_bounded(x: int) -> None:
    """Down to 10^-100000 the decimals have numbers; exp(-300000) is less. erf(t) is 2 / sqrt(pi) * t there."""
    value = Context(prec=40, Emin=-999_999).exp(Decimal(x))
    exponential = Call(Function.EXP, (X,))
    for expression, least, most in (
        (exponential, value, value),
        (Call(Function.ERF, (exponential,)), value * Decimal("1.1283"), value * Decimal("1.1284")),
    ):
        arithmetic = DecimalArithmetic(24)
        bounds = enclose(expression, arithmetic.number(F(x)), arithmetic)
        assert bounds.low <= most
        assert least <= bounds.high < Decimal("1e-99900")
        assert FunctionValue(expression, F(x)).compare(F(1, 2)) == -1
