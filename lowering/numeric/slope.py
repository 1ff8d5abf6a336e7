"""Bounds of a function's slope, by the rules of differentiation in interval arithmetic.

A function that is the larger of two has a kink where they meet. There its slopes to the left and to the right lie
within the bounds: where the lower bound is not negative, the function does not fall.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import FloatArithmetic, Interval
from pefslc.numeric.expression import Call, Expression, Function, Number, Variable

__all__ = ["enclose_slope"]

Floats = NDArray[np.float64]
_Pair = tuple[Interval[Floats], Interval[Floats]]

_ARITHMETIC = FloatArithmetic()
_ZERO, _ONE, _TWO, _FOUR = (Interval(np.asarray(v), np.asarray(v)) for v in (0.0, 1.0, 2.0, 4.0))


def enclose_slope(expression: Expression, x: Interval[Floats]) -> Interval[Floats]:
    """Bounds of all slopes on each interval `x`; NaN: none known.

    Where both bounds are finite, the function has a value everywhere on the interval and does not jump.
    """
    slope = _enclose(expression, x)[1]
    low, high = (np.broadcast_to(end, np.shape(x.low)) for end in (slope.low, slope.high))
    return Interval(low, high)


def _enclose(expression: Expression, x: Interval[Floats]) -> _Pair:
    """(bounds of the value, bounds of the slope)."""
    match expression:
        case Variable():
            return x, _ONE
        case Number():
            return _ARITHMETIC.number(expression.value), _ZERO
        case Call(function=Function.PI):
            return _ARITHMETIC.pi(), _ZERO
    definition = expression.definition
    if definition is not None:
        return _enclose(definition, x)
    arguments = [_enclose(argument, x) for argument in expression.arguments]
    value = _ARITHMETIC.apply(expression.function, [v for v, _ in arguments])
    slope = _slope(expression.function, value, arguments[0], arguments[-1])
    unknown = np.isnan(value.low) | np.isnan(value.high)
    return value, Interval(np.where(unknown, np.nan, slope.low), np.where(unknown, np.nan, slope.high))


def _slope(function: Function, value: Interval[Floats], a: _Pair, b: _Pair) -> Interval[Floats]:
    (u, du), (v, dv) = a, b
    match function:
        case Function.ADD:
            return _add(du, dv)
        case Function.SUB:
            return _sub(du, dv)
        case Function.MUL:
            return _add(_mul(du, v), _mul(u, dv))
        case Function.DIV:
            return _div(_sub(du, _mul(value, dv)), v)
        case Function.MIN:
            return _chosen(u, v, du, dv)
        case Function.MAX:
            return _chosen(v, u, du, dv)
        case Function.EXP:
            return _mul(value, du)
        case Function.LOG:
            return _div(du, u)
        case Function.SQRT:
            return _div(du, _mul(_TWO, value))
        case Function.ERF:  # 2 / sqrt(pi) * exp(-u^2)
            bell = _ARITHMETIC.apply(Function.EXP, [_sub(_ZERO, _mul(u, u))])
            root_pi = _ARITHMETIC.apply(Function.SQRT, [_div(_ARITHMETIC.pi(), _FOUR)])
            return _mul(_div(bell, root_pi), du)
        case Function.ROUND:  # it jumps
            return Interval(np.asarray(np.nan), np.asarray(np.nan))
    raise AssertionError(f"{function} is no primitive of an argument")


def _chosen(
    less: Interval[Floats], more: Interval[Floats], du: Interval[Floats], dv: Interval[Floats]
) -> Interval[Floats]:
    """The first slope where `less` is certainly less than `more`, the second where it is more, else both."""
    first, second = less.high < more.low, less.low > more.high
    low = np.where(first, du.low, np.where(second, dv.low, np.minimum(du.low, dv.low)))
    high = np.where(first, du.high, np.where(second, dv.high, np.maximum(du.high, dv.high)))
    return Interval(low, high)


def _binary(function: Function) -> Callable[[Interval[Floats], Interval[Floats]], Interval[Floats]]:
    return lambda a, b: _ARITHMETIC.apply(function, [a, b])


_add, _sub, _mul, _div = map(_binary, (Function.ADD, Function.SUB, Function.MUL, Function.DIV))
