"""Bounds of expressions: interval arithmetic, in decimals of any precision and in arrays of float64.

A decision (which code is it?) never rests on a rounded number. Decimals: `decimal` rounds every operation, exp and ln
included, correctly; bounds are rounded outward, and the precision grows until the question is decided. Arrays: each
operation is widened by what IEEE leaves open, 2^-51 of its size, and functions by 2^-45, which is beyond what any math
library does; what that does not decide goes to the decimals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.expression import (
    Call,
    Expression,
    Function,
    NotANumberError,
    Number,
    Variable,
    open_range,
    rational,
)

__all__ = [
    "WIDENING", "DecimalArithmetic", "FloatArithmetic", "FunctionValue", "Interval", "UndecidedError", "enclose",
    "nearest_floats",
]  # fmt: skip

_N = TypeVar("_N")
Floats = NDArray[np.float64]

_PRECISIONS = (24, 48, 96, 192, 384, 768, 1536)  # decimal digits; twice as many take six times as long
WIDENING = 2.0**-45
_ROUNDING = 2.0**-51  # of sums, products, quotients, roots: half a unit of the last place, and that of the widening
_TINY = 1e-300
_LARGEST = float(np.finfo(np.float64).max) * (1 - WIDENING)
_LARGEST_EXPONENT = 100_000  # what is larger is infinite, which bounds it as well


class UndecidedError(ValueError):
    """1536 digits do not tell a number from a rational: they may be equal, and no rule here says so."""


@dataclass(frozen=True, slots=True)
class Interval(Generic[_N]):
    """All reals between the two, ends included."""

    low: _N
    high: _N


class Arithmetic(Protocol[_N]):
    """Operations on intervals whose results hold every possible value."""

    def number(self, value: Fraction) -> Interval[_N]: ...

    def pi(self) -> Interval[_N]: ...

    def apply(self, function: Function, arguments: list[Interval[_N]]) -> Interval[_N]:
        """The bounds of a primitive function."""
        ...


def enclose(expression: Expression, x: Interval[_N], arithmetic: Arithmetic[_N]) -> Interval[_N]:
    """Bounds of the expression for every value of its variable in `x`."""
    match expression:
        case Variable():
            return x
        case Number():
            return arithmetic.number(expression.value)
        case Call(function=Function.PI):
            return arithmetic.pi()
        case Call():
            definition = expression.definition
            if definition is not None:
                return enclose(definition, x, arithmetic)
            return arithmetic.apply(expression.function, [enclose(a, x, arithmetic) for a in expression.arguments])


class FunctionValue:
    """The real number expression(x), which is compared exactly with rationals.

    Raises NotANumberError where there is none, UndecidedError where 1536 digits do not tell it from a rational.
    """

    def __init__(self, expression: Expression, x: Fraction) -> None:
        self.expression, self.x = expression, x
        self.exact = rational(expression, x)
        self.enclosures: dict[int, Interval[Decimal]] = {}

    def compare(self, other: Fraction) -> int:
        """The sign of self - other."""
        if self.exact is not None:
            return (self.exact > other) - (self.exact < other)
        low, high = open_range(self.expression)
        if low >= other:
            return 1
        if high <= other:
            return -1
        for digits in _PRECISIONS:
            value = self._bounds(digits)
            if value.low > other:  # Python compares a Decimal and a Fraction exactly
                return 1
            if value.high < other:
                return -1
        raise UndecidedError(f"{self.expression} at {self.x} may be {other}")

    def estimate(self) -> float:
        """The value in float64, with its sign; where it is above 1e-30, off by at most 2^-36 of its size."""
        if self.exact is not None:
            return float(self.exact)
        for digits in _PRECISIONS[1:]:
            bounds = self._bounds(digits)
            if bounds.low > 0 or bounds.high < 0:
                break
        return float(bounds.low if bounds.low > 0 else bounds.high)

    def _bounds(self, digits: int) -> Interval[Decimal]:
        if digits not in self.enclosures:
            arithmetic = DecimalArithmetic(digits)
            self.enclosures[digits] = enclose(self.expression, arithmetic.number(self.x), arithmetic)
        return self.enclosures[digits]


class DecimalArithmetic:
    """Outward rounding to `digits` decimal digits."""

    def __init__(self, digits: int) -> None:
        def context(rounding: str) -> Context:
            return Context(prec=digits, rounding=rounding, Emin=-_LARGEST_EXPONENT, Emax=_LARGEST_EXPONENT, traps=[])

        self.down, self.up, self.nearest = context(ROUND_FLOOR), context(ROUND_CEILING), context(ROUND_HALF_EVEN)
        self.digits = digits

    def number(self, value: Fraction) -> Interval[Decimal]:
        n, d = Decimal(value.numerator), Decimal(value.denominator)
        return Interval(self.down.divide(n, d), self.up.divide(n, d))

    def pi(self) -> Interval[Decimal]:
        return _pi(self.digits)

    def apply(self, function: Function, arguments: list[Interval[Decimal]]) -> Interval[Decimal]:
        found = self._apply(function, arguments[0], arguments[-1])
        return _EVERYTHING if found.low.is_nan() or found.high.is_nan() else found

    def _apply(self, function: Function, a: Interval[Decimal], b: Interval[Decimal]) -> Interval[Decimal]:
        match function:
            case Function.ADD:
                return Interval(self.down.add(a.low, b.low), self.up.add(a.high, b.high))
            case Function.SUB:
                return Interval(self.down.subtract(a.low, b.high), self.up.subtract(a.high, b.low))
            case Function.MUL:
                return self._hull(lambda c, x, y: c.multiply(x, y), a, b)
            case Function.DIV:
                if b.low <= 0 <= b.high:
                    return _EVERYTHING
                return self._hull(lambda c, x, y: c.divide(x, y), a, b)
            case Function.MIN:
                return Interval(min(a.low, b.low), min(a.high, b.high))
            case Function.MAX:
                return Interval(max(a.low, b.low), max(a.high, b.high))
            case Function.EXP:
                return self._rising(self.nearest.exp, a)
            case Function.LOG:
                return self._rising(self.nearest.ln, a) if a.low > 0 else _EVERYTHING
            case Function.SQRT:
                return self._rising(self.nearest.sqrt, a) if a.low >= 0 else _EVERYTHING
            case Function.ERF:
                return Interval(self._erf(a.low).low, self._erf(a.high).high)
            case Function.ROUND:
                return Interval(self.nearest.to_integral_value(a.low), self.nearest.to_integral_value(a.high))
        raise AssertionError(f"{function} is no primitive")

    def _rising(self, function: Callable[[Decimal], Decimal], a: Interval[Decimal]) -> Interval[Decimal]:
        """`function` rounds correctly to the nearest: one step outward holds the true value."""
        return Interval(self.down.next_minus(function(a.low)), self.up.next_plus(function(a.high)))

    def _hull(
        self, operation: Callable[[Context, Decimal, Decimal], Decimal], a: Interval[Decimal], b: Interval[Decimal]
    ) -> Interval[Decimal]:
        pairs = [(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
        low, high = [operation(self.down, *p) for p in pairs], [operation(self.up, *p) for p in pairs]
        if any(v.is_nan() for v in (*low, *high)):
            return _EVERYTHING
        return Interval(min(low), max(high))

    def _erf(self, x: Decimal) -> Interval[Decimal]:
        """2 / sqrt(pi) * exp(-x^2) * sum of (2 x^2)^n x / (1 * 3 * ... * (2n + 1)): all terms of one sign.

        (Abramowitz and Stegun, 7.1.6.) Beyond |x| = 2 * sqrt(digits) the value is +-1 within 10^-digits:
        1 - erf(x) < exp(-x^2) for x > 1.
        """
        if x == 0:
            return Interval(Decimal(0), Decimal(0))
        if x.copy_abs() > 2 * math.isqrt(self.digits) + 2:
            rest = Decimal(10) ** -self.digits
            near = self.down.subtract(Decimal(1), rest)
            return Interval(near, Decimal(1)) if x > 0 else Interval(Decimal(-1), near.copy_negate())
        if x < 0:
            mirrored = self._erf(x.copy_negate())  # not -x: that rounds
            return Interval(mirrored.high.copy_negate(), mirrored.low.copy_negate())
        # 1 - erf(x) is about 10^(-0.434 x^2). The series would take thousands of terms to say a little more.
        if x > 10 and self.digits < 0.868 * float(x) ** 2:
            return self._erf_far(x)
        bounds = []
        for context in (self.down, self.up):
            square = context.multiply(Decimal(2), context.multiply(x, x))
            term = total = x
            n = 0
            # Past n = 2 x^2 each term is at most half the one before: the rest is below the last term. Where terms
            # round up to the least positive number, and become no less, the bound for them is rounded up alike.
            while n < square or term > context.scaleb(total, -self.digits):
                n += 1
                term = context.divide(context.multiply(term, square), Decimal(2 * n + 1))
                total = context.add(total, term)
            bounds.append(total if context is self.down else context.add(total, term))
        series = Interval(*bounds)
        minus_square = self._hull(
            lambda c, a, b: c.multiply(a, b), Interval(x, x), Interval(x.copy_negate(), x.copy_negate())
        )
        factor = self.apply(Function.EXP, [minus_square])
        root_pi = self.apply(Function.SQRT, [self.pi()])
        scaled = self.apply(
            Function.MUL, [self.apply(Function.MUL, [series, factor]), Interval(Decimal(2), Decimal(2))]
        )
        return self.apply(Function.DIV, [scaled, root_pi])

    def _erf_far(self, x: Decimal) -> Interval[Decimal]:
        """1 - erf(x) lies between 2 / sqrt(pi) * exp(-x^2) / (x + sqrt(x^2 + c)) for c = 2 and c = 4 / pi.

        (Abramowitz and Stegun, 7.1.13; x > 0.) It says little of erf's digits, but it tells erf from 1, and soon.
        """

        def apply(function: Function, *arguments: Interval[Decimal]) -> Interval[Decimal]:
            return self.apply(function, list(arguments))

        pi, at, two = _pi(self.digits), Interval(x, x), Interval(Decimal(2), Decimal(2))
        square = apply(Function.MUL, at, at)
        c = Interval(apply(Function.DIV, Interval(Decimal(4), Decimal(4)), pi).low, Decimal(2))
        divisor = apply(Function.ADD, at, apply(Function.SQRT, apply(Function.ADD, square, c)))
        bell = apply(Function.EXP, Interval(square.high.copy_negate(), square.low.copy_negate()))
        factor = apply(Function.DIV, two, apply(Function.SQRT, pi))
        rest = apply(Function.DIV, apply(Function.MUL, factor, bell), divisor)
        return apply(Function.SUB, Interval(Decimal(1), Decimal(1)), rest)


_EVERYTHING = Interval(Decimal("-Infinity"), Decimal("Infinity"))


def _pi(digits: int) -> Interval[Decimal]:
    """Machin's formula, 16 atan(1/5) - 4 atan(1/239), in integers; each of the divisions errs by less than 1."""
    unit = 10 ** (digits + 10)

    def arctangent(inverse: int) -> int:
        power, total, n = unit // inverse, 0, 0
        while power:
            total += (-1) ** n * (power // (2 * n + 1))
            power //= inverse * inverse
            n += 1
        return total

    value = 16 * arctangent(5) - 4 * arctangent(239)
    slack = 100 * digits + 1000
    wide = Context(prec=digits + 20)
    return Interval(
        wide.divide(Decimal(value - slack), Decimal(unit)), wide.divide(Decimal(value + slack), Decimal(unit))
    )


class FloatArithmetic:
    """Arrays of float64, every result widened. NaN: no bound at all."""

    def number(self, value: Fraction) -> Interval[Floats]:
        return _widened(np.asarray(float(value)), np.asarray(float(value)), _ROUNDING)

    def pi(self) -> Interval[Floats]:
        return _widened(np.asarray(np.pi), np.asarray(np.pi), _ROUNDING)

    def apply(self, function: Function, arguments: list[Interval[Floats]]) -> Interval[Floats]:
        with np.errstate(all="ignore"):
            return self._apply(function, arguments[0], arguments[-1])

    def _apply(self, function: Function, a: Interval[Floats], b: Interval[Floats]) -> Interval[Floats]:
        match function:
            case Function.ADD:
                return _widened(a.low + b.low, a.high + b.high, _ROUNDING)
            case Function.SUB:
                return _widened(a.low - b.high, a.high - b.low, _ROUNDING)
            case Function.MUL:
                return _hull(a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high)
            case Function.DIV:
                found = _hull(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high)
                bad = (b.low <= 0) & (b.high >= 0)
                return Interval(np.where(bad, np.nan, found.low), np.where(bad, np.nan, found.high))
            case Function.MIN:
                return Interval(np.minimum(a.low, b.low), np.minimum(a.high, b.high))
            case Function.MAX:
                return Interval(np.maximum(a.low, b.low), np.maximum(a.high, b.high))
            case Function.EXP:
                return _widened(np.exp(a.low), np.exp(a.high))
            case Function.LOG:
                return _widened(np.log(a.low), np.log(a.high))
            case Function.SQRT:
                return _widened(np.sqrt(a.low), np.sqrt(a.high), _ROUNDING)
            case Function.ERF:
                return _widened(_float_erf(a.low), _float_erf(a.high))
            case Function.ROUND:
                return Interval(np.rint(a.low), np.rint(a.high))
        raise AssertionError(f"{function} is no primitive")


def nearest_floats(expression: Expression, x: Floats) -> Floats:
    """expression(x) for each element, on the value's side of every short number.

    Above 1e-30 it is off by at most 2^-36 of its size; below, its sign is right.

    1 - 4e-18 becomes the float64 below 1: what rounds down must see that it is less. NaN where there is no value.
    """
    points, where = np.unique(x, return_inverse=True)
    bounds = enclose(expression, Interval(points, points), FloatArithmetic())
    values = np.array(np.broadcast_to((bounds.low + bounds.high) / 2, points.shape))
    with np.errstate(invalid="ignore"):
        close = bounds.high - bounds.low <= np.abs(values) * 2.0**-36
        short = _shortened(values)
        doubtful = ~close | ((bounds.low <= short) & (short <= bounds.high))
    for i in np.flatnonzero(doubtful & np.isfinite(points)):
        values[i] = _nearest_float(expression, Fraction(points[i]))
    return values[where].reshape(x.shape)


def _nearest_float(expression: Expression, x: Fraction) -> float:
    try:
        value = FunctionValue(expression, x)
    except NotANumberError:
        return math.nan
    near = value.estimate()
    if value.exact is not None or not math.isfinite(near) or near != _shortened(np.array(near)):
        return near
    try:
        return math.nextafter(near, value.compare(Fraction(near)) * math.inf)
    except UndecidedError:
        return near


def _shortened(values: Floats) -> Floats:
    """The nearest numbers of 26 significant bits: such are the bounds of quantizers, and few others are."""
    fraction, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(fraction, 26)), exponent - 26), dtype=np.float64)


def _float_erf(x: Floats) -> Floats:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=np.float64)


def _widened(low: Floats, high: Floats, by: float = WIDENING) -> Interval[Floats]:
    """What overflowed lies beyond the last finite number."""
    with np.errstate(invalid="ignore"):
        least = np.where(low == np.inf, _LARGEST, low - (np.abs(low) * by + _TINY))
        most = np.where(high == -np.inf, -_LARGEST, high + (np.abs(high) * by + _TINY))
    return Interval(least, most)


def _hull(*candidates: Floats) -> Interval[Floats]:
    return _widened(np.minimum.reduce(candidates), np.maximum.reduce(candidates), _ROUNDING)
