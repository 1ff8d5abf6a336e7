"""Elementwise functions of one variable, as expressions: sigmoid(x), mul(x, sigmoid(x)), clip and scale around them.

An expression is its exact real function; nothing here rounds. `rational` evaluates it where the value is rational and
found to be so, `enclosure` bounds it everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import inf, isqrt, lcm
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import round_fraction

__all__ = [
    "Call", "Expression", "Function", "NotANumberError", "Number", "Variable", "X",
    "direction_of", "number", "open_range", "rational", "rational_values", "substitute",
]  # fmt: skip


Integers = NDArray[np.object_]  # of any size


class NotANumberError(ValueError):
    """The function has no real value there: log(0), 1 / 0, sqrt(-1)."""


class Function(Enum):
    """The value is the name in the IR's text."""

    # Primitives.
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MIN = "min"
    MAX = "max"
    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    ERF = "erf"
    PI = "pi"  # of no arguments
    ROUND = "round"  # half to even
    # Defined by the primitives, below; parameters follow the argument.
    ABS = "abs"
    CELU = "celu"  # (x, alpha)
    ELU = "elu"  # (x, alpha)
    HARD_SIGMOID = "hard_sigmoid"  # (x, alpha, beta)
    RELU = "relu"  # (x, alpha): alpha * x below 0
    SELU = "selu"  # (x, alpha, gamma)
    SIGMOID = "sigmoid"
    SOFTPLUS = "softplus"
    SOFTSIGN = "softsign"
    TANH = "tanh"


@dataclass(frozen=True, slots=True)
class Variable:
    """The argument of the whole expression."""

    def __str__(self) -> str:
        return "x"


@dataclass(frozen=True, slots=True)
class Number:
    """An exact constant."""

    value: Fraction

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Call:
    """function(arguments)."""

    function: Function
    arguments: tuple[Expression, ...]

    def __str__(self) -> str:
        return f"{self.function.value}({', '.join(map(str, self.arguments))})"

    @property
    def definition(self) -> Expression | None:
        """The same function by primitives; None for a primitive."""
        define = _DEFINITIONS.get(self.function)
        return None if define is None else define(*self.arguments)


Expression: TypeAlias = Variable | Number | Call
X = Variable()


def number(value: Fraction | int) -> Number:
    return Number(Fraction(value))


def substitute(expression: Expression, inner: Expression) -> Expression:
    """`expression` with `inner` for its variable."""
    match expression:
        case Variable():
            return inner
        case Number():
            return expression
        case Call():
            return Call(expression.function, tuple(substitute(a, inner) for a in expression.arguments))


def _call(function: Function) -> Callable[..., Call]:
    return lambda *arguments: Call(function, arguments)


_add, _sub, _mul, _div = (_call(f) for f in (Function.ADD, Function.SUB, Function.MUL, Function.DIV))
_min, _max, _exp = (_call(f) for f in (Function.MIN, Function.MAX, Function.EXP))
_log = _call(Function.LOG)
_ZERO, _ONE, _TWO = number(0), number(1), number(2)

# ONNX's definitions (Elu-6, Celu-12, HardSigmoid-6, Selu-6, Softplus-1, Softsign-1).
_DEFINITIONS: dict[Function, Callable[..., Expression]] = {
    Function.ABS: lambda x: _max(x, _sub(_ZERO, x)),
    Function.CELU: lambda x, a: _add(_max(x, _ZERO), _mul(a, _sub(_exp(_div(_min(x, _ZERO), a)), _ONE))),
    Function.ELU: lambda x, a: _add(_max(x, _ZERO), _mul(a, _sub(_exp(_min(x, _ZERO)), _ONE))),
    Function.HARD_SIGMOID: lambda x, a, b: _max(_ZERO, _min(_ONE, _add(_mul(a, x), b))),
    Function.RELU: lambda x, a: _add(_max(x, _ZERO), _mul(a, _min(x, _ZERO))),
    Function.SELU: lambda x, a, g: _mul(g, _add(_max(x, _ZERO), _mul(a, _sub(_exp(_min(x, _ZERO)), _ONE)))),
    Function.SIGMOID: lambda x: _div(_ONE, _add(_ONE, _exp(_sub(_ZERO, x)))),
    # Above 0 as x + log(1 + exp(-x)): no large number appears.
    Function.SOFTPLUS: lambda x: _add(_max(x, _ZERO), _log(_add(_ONE, _exp(_sub(_ZERO, _max(x, _sub(_ZERO, x))))))),
    Function.SOFTSIGN: lambda x: _div(x, _add(_ONE, _max(x, _sub(_ZERO, x)))),
    Function.TANH: lambda x: _sub(_ONE, _div(_TWO, _add(_ONE, _exp(_mul(_TWO, x))))),
}


def rational(expression: Expression, x: Fraction) -> Fraction | None:
    """The exact value at `x`; None where it is irrational, or might be. Raises NotANumberError.

    exp, log and erf are rational at one rational only (Lindemann; erf: Siegel); other sums and products of such
    values are taken for irrational, and `enclosure.compare` ends in an error, not in a guess, if one is not.
    """
    match expression:
        case Variable():
            return x
        case Number():
            return expression.value
        case Call():
            definition = expression.definition
            if definition is not None:
                return rational(definition, x)
            return _primitive(expression.function, [rational(a, x) for a in expression.arguments])


def rational_values(expression: Expression, codes: NDArray[np.int64], step: Fraction) -> tuple[Integers, int] | None:
    """(numerators, denominator) of the values at codes * step, exactly; None for other than sums, products, minima and
    maxima of the argument and of numbers.
    """
    match expression:
        case Variable():
            return codes.astype(object) * step.numerator, step.denominator
        case Number():
            return np.array(expression.value.numerator, dtype=object), expression.value.denominator
    if expression.definition is not None:
        return rational_values(expression.definition, codes, step)
    found = [rational_values(argument, codes, step) for argument in expression.arguments]
    known = [part for part in found if part is not None]
    if len(known) != len(found) or not known:
        return None
    (a, unit_a), (b, unit_b) = known[0], known[-1]
    combine = _COMBINED.get(expression.function)
    if combine is not None:
        common = lcm(unit_a, unit_b)
        return combine(a * (common // unit_a), b * (common // unit_b)), common
    divisor = expression.arguments[-1]
    if expression.function is Function.MUL:
        return a * b, unit_a * unit_b
    if expression.function is Function.DIV and isinstance(divisor, Number) and divisor.value:
        return rational_values(Call(Function.MUL, (expression.arguments[0], Number(1 / divisor.value))), codes, step)
    return None


_COMBINED: dict[Function, Callable[[Integers, Integers], Integers]] = {
    Function.ADD: np.add,
    Function.SUB: np.subtract,
    Function.MIN: np.minimum,
    Function.MAX: np.maximum,
}


def _primitive(function: Function, arguments: list[Fraction | None]) -> Fraction | None:
    if function is Function.MUL and Fraction(0) in arguments:
        return Fraction(0)
    if function is Function.PI:
        return None
    known = [a for a in arguments if a is not None]
    if len(known) != len(arguments):
        return None
    a, b = known[0], known[-1]
    match function:
        case Function.ADD:
            return a + b
        case Function.SUB:
            return a - b
        case Function.MUL:
            return a * b
        case Function.DIV:
            if b == 0:
                raise NotANumberError("a division by 0")
            return a / b
        case Function.MIN:
            return min(a, b)
        case Function.MAX:
            return max(a, b)
        case Function.EXP:
            return Fraction(1) if a == 0 else None
        case Function.ERF:
            return Fraction(0) if a == 0 else None
        case Function.LOG:
            if a <= 0:
                raise NotANumberError(f"the logarithm of {float(a):g}")
            return Fraction(0) if a == 1 else None
        case Function.SQRT:
            if a < 0:
                raise NotANumberError(f"the square root of {float(a):g}")
            root = Fraction(isqrt(a.numerator), isqrt(a.denominator))
            return root if root * root == a else None
        case Function.ROUND:
            return Fraction(round_fraction(a))
    raise AssertionError(f"{function} is defined by others")


_OPEN_RANGES: dict[Function, tuple[Fraction | float, Fraction | float]] = {
    Function.EXP: (Fraction(0), inf),
    Function.ERF: (Fraction(-1), Fraction(1)),
    Function.SIGMOID: (Fraction(0), Fraction(1)),
    Function.SOFTPLUS: (Fraction(0), inf),
    Function.TANH: (Fraction(-1), Fraction(1)),
}


def open_range(expression: Expression) -> tuple[Fraction | float, Fraction | float]:
    """Numbers that every value lies strictly between: sigmoid(5000) is below 1, though hundreds of digits say 1."""
    function = expression.function if isinstance(expression, Call) else None
    return (-inf, inf) if function is None else _OPEN_RANGES.get(function, (-inf, inf))


_RISING = {
    Function.EXP, Function.LOG, Function.SQRT, Function.ERF, Function.ROUND, Function.SIGMOID, Function.SOFTPLUS,
    Function.SOFTSIGN, Function.TANH,
}  # fmt: skip
_RISING_WITH_POSITIVE_PARAMETERS = {
    Function.CELU, Function.ELU, Function.HARD_SIGMOID, Function.RELU, Function.SELU,
}  # fmt: skip


def direction_of(expression: Expression) -> int | None:
    """1 where the function is certainly non-decreasing, -1 non-increasing, 0 constant; None where neither is known."""
    match expression:
        case Variable():
            return 1
        case Number() | Call(function=Function.PI):
            return 0
    inner = [direction_of(a) for a in expression.arguments]
    first, last = inner[0], inner[-1]
    if first is None or last is None:
        return None
    parameters = [a.value for a in expression.arguments[1:] if isinstance(a, Number)]
    match expression.function:
        case f if f in _RISING:
            return first
        case f if f in _RISING_WITH_POSITIVE_PARAMETERS:
            return first if all(p >= 0 for p in parameters) else None
        case Function.ADD | Function.MIN | Function.MAX:
            return first or last if first * last >= 0 else None
        case Function.SUB:
            return first or -last if first * last <= 0 else None
        case Function.MUL:
            for factor, other in (expression.arguments, reversed(expression.arguments)):
                if isinstance(factor, Number):
                    sign = (factor.value > 0) - (factor.value < 0)
                    return sign * (direction_of(other) or 0)
        case Function.DIV if parameters and parameters[0] != 0:
            return first if parameters[0] > 0 else -first
    return None
