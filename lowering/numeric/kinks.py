"""Where an expression goes from one piece to another: 0 for a leaky ReLU, -3 and 3 for a hard sigmoid."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from pefslc.numeric.expression import Call, Expression, Function, Number, Variable, rational

__all__ = ["degree_between_kinks", "kinks"]


def kinks(expression: Expression) -> list[Fraction]:
    """In order: where its minima and maxima of piecewise linear functions go from one argument to the other.

    Those of other functions are not found.
    """
    return sorted(_kinks(expression))


def _kinks(expression: Expression) -> set[Fraction]:
    if not isinstance(expression, Call):
        return set()
    if expression.definition is not None:
        return _kinks(expression.definition)
    found = set[Fraction]().union(*map(_kinks, expression.arguments))
    if expression.function in (Function.MIN, Function.MAX) and all(map(_is_piecewise_linear, expression.arguments)):
        found |= _zeros(Call(Function.SUB, expression.arguments), sorted(found))
    return found


def _is_piecewise_linear(expression: Expression) -> bool:
    match expression:
        case Variable() | Number():
            return True
        case Call(function=Function.MUL, arguments=(a, b)):
            return (isinstance(a, Number) or isinstance(b, Number)) and all(map(_is_piecewise_linear, (a, b)))
        case Call(function=Function.DIV, arguments=(a, Number())):
            return _is_piecewise_linear(a)
    if expression.definition is not None:
        return _is_piecewise_linear(expression.definition)
    sums = (Function.ADD, Function.SUB, Function.MIN, Function.MAX)
    return expression.function in sums and all(map(_is_piecewise_linear, expression.arguments))


def _zeros(line: Expression, bends: list[Fraction]) -> set[Fraction]:
    """Where it changes its sign, a piecewise linear function with these bends."""
    ends = [bends[0] - 1, *bends, bends[-1] + 1] if bends else [Fraction(0), Fraction(1)]
    found = set()
    for i, (a, b) in enumerate(pairwise(ends)):
        at_a, at_b = rational(line, a), rational(line, b)
        assert at_a is not None, "sums and products of rationals"
        assert at_b is not None, "sums and products of rationals"
        if at_a == at_b:
            continue
        zero = a - at_a * (b - a) / (at_b - at_a)
        if (i == 0 or a <= zero) and (i == len(ends) - 2 or zero <= b):  # the outer pieces go on
            found.add(zero)
    return found


def degree_between_kinks(expression: Expression) -> int | None:
    """Of the polynomial that it is between any two of its `kinks`, at most; None where it may be something else."""
    match expression:
        case Variable():
            return 1
        case Number():
            return 0
    if expression.definition is not None:
        return degree_between_kinks(expression.definition)
    degrees = [degree_between_kinks(argument) for argument in expression.arguments]
    known = [degree for degree in degrees if degree is not None]
    if len(known) < len(degrees):
        return None
    match expression.function:
        case Function.ADD | Function.SUB:
            return max(known)
        case Function.MUL:
            return sum(known)
        case Function.DIV if isinstance(expression.arguments[1], Number):
            return known[0]
        case Function.MIN | Function.MAX if all(map(_is_piecewise_linear, expression.arguments)):
            return max(known)
    return None
