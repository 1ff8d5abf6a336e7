"""Polynomials with ties to even: HardSwish of scales that are powers of two, where thousands of sums lie on ties.

    code(a) = n - (N[c](a) == (n - low) * D[c] and n is odd),  n = polynomial(a),  levels reached at a: floor(N(a) / D)

As with lines (`half_even`), the polynomials take all ties up, and a comparison of integers takes every other one down.
Between its kinks the function is a polynomial of rationals, of degree 2 at most: N's coefficients and D are integers.
N(a) may need more than 64 bits. But n - low is the floor of N(a) / D, or off by a few levels before the first step and
behind the last. So N(a) - (n - low) * D is below 2^63, and 0 just where it is 0 modulo 2^64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, lcm

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.expression import Expression, rational, rational_values, substitute
from pefslc.numeric.function_of_line import FunctionOfLine, function_of_line
from pefslc.numeric.kinks import degree_between_kinks, kinks
from pefslc.numeric.polynomial import PiecewisePolynomial, fit_polynomial
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.stages import chain_expression
from pefslc.numeric.staircase import Staircase

__all__ = ["TiedPolynomial", "fit_tied_polynomial"]

Codes = NDArray[np.int64]

_DEGREE = 2
_MOST_LISTED = 1 << 23  # thresholds of all channels: 64 MB
_LARGEST_DENOMINATOR = 1 << 56
_FEW_LEVELS = 64
_Quadratic = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True, slots=True, eq=False)
class TiedPolynomial:
    """polynomial   takes all ties up
    numerators   [channels, 2, 3]: N's coefficients modulo 2^64, the lowest power first, below a border and from it on
    denominator  [channels]: D
    border       [channels]: the first code of the second piece
    odd          0, or 1 where an even number is an odd code: the zero point lies between
    """

    polynomial: PiecewisePolynomial
    numerators: Codes
    denominator: Codes
    border: Codes
    odd: int

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of `codes` [channels, points]."""
        u, found = self.polynomial.line(codes), self.polynomial(codes)
        rows = np.arange(len(self.border))[:, None]
        n0, n1, n2 = np.moveaxis(self.numerators[rows, (codes >= self.border[:, None]).astype(np.int64)], -1, 0).view(
            np.uint64
        )
        a, taken = codes.view(np.uint64), (found - self.polynomial.low).view(np.uint64)
        on_tie = (n2 * a + n1) * a + n0 == taken * self.denominator[:, None].view(np.uint64)
        inside = (u > self.polynomial.line.low) & (u < self.polynomial.line.high)
        made: Codes = found - (on_tie & inside & ((found & 1) != self.odd))
        return made

    @property
    def channels(self) -> int:
        return len(self.border)


def fit_tied_polynomial(staircase: Staircase) -> TiedPolynomial | None:
    """The certified polynomials; None where the function is none of rationals, its ties go one way, or none certify."""
    chains = staircase.chains
    if chains is None or chains.quantizer.rounding is not RoundingMode.HALF_EVEN or not staircase.steps:
        return None
    if staircase.step != 1 or staircase.channels * staircase.steps > _MOST_LISTED:
        return None
    function = function_of_line(chains)
    if function is None or any(part.coefficient for line in function.lines for part in line):
        return None
    exact = _numerators(function, staircase)
    taken_up = None if exact is None else _ties_taken_up(staircase, function)
    if exact is None or taken_up is None:
        return None
    polynomial = fit_polynomial(taken_up)
    if polynomial is None or not _stays_near(polynomial, staircase.steps):
        return None
    q = chains.quantizer
    rounded = chains.levels.start - 1 - (q.quantization.zero_point if q.adds_zero_point_last else 0)
    return TiedPolynomial(polynomial, *exact, (staircase.low - rounded) & 1)


def _stays_near(polynomial: PiecewisePolynomial, steps: int) -> bool:
    """Whether no more than a few levels are counted before the first and behind the last."""
    first, last = (value >> polynomial.fraction_bits for value in polynomial.ends())
    return first > -_FEW_LEVELS and last < steps + _FEW_LEVELS


def _ties_taken_up(staircase: Staircase, function: FunctionOfLine) -> Staircase | None:
    """The same staircase with all ties up; None where they all go one way."""
    count = function.count
    assert count is not None, "half to even is a floor of something"
    thresholds, goes_up = staircase.rows(0, staircase.channels).copy(), False
    levels = np.arange(1, staircase.steps + 1).astype(object)
    for c, direction in enumerate(staircase.direction.tolist()):
        inner = chain_expression(function.chains.stages[: function.at], c)
        step, expression = function.chains.scale.channel(c), substitute(count, inner)

        def on_tie(codes: Codes, expression: Expression = expression, step: Fraction = step) -> Codes:
            found = rational_values(expression, codes, step)
            assert found is not None, "polynomials of rationals"
            inside = (codes >= staircase.domain_low) & (codes <= staircase.domain_high)
            return (inside & np.asarray(found[0] == levels * found[1], dtype=np.bool_)).astype(np.int64)

        goes_up |= bool(on_tie(thresholds[c]).any())
        thresholds[c] -= direction * on_tie(thresholds[c] - direction)
    if not goes_up or (thresholds == staircase.rows(0, staircase.channels)).all():
        return None
    low, high = staircase.domain_low, staircase.domain_high
    return Staircase(low, high, staircase.low, thresholds, staircase.direction.copy(), 1, function.chains)


def _numerators(function: FunctionOfLine, staircase: Staircase) -> tuple[Codes, Codes, Codes] | None:
    """(numerators, denominator, border) as `TiedPolynomial` has them."""
    count = function.count
    assert count is not None, "half to even is a floor of something"
    pieces = _pieces(count, staircase.steps)
    if pieces is None or any(not slope.rational for slope, _ in function.lines):
        return None
    (below, border), (above, _) = pieces[0], pieces[-1]
    numerators, denominators, borders = [], [], []
    for slope, offset in function.lines:
        m, b = slope.rational, offset.rational
        both = [_behind_line(piece, m, b) for piece in ((below, above) if m > 0 else (above, below))]
        denominator = lcm(*(part.denominator for piece in both for part in piece))
        if denominator >= _LARGEST_DENOMINATOR:
            return None
        numerators.append([[_modulo(int(part * denominator)) for part in piece] for piece in both])
        denominators.append(denominator)
        at = ceil((border - b) / m) if m > 0 else floor((border - b) / m) + 1
        borders.append(min(max(at, staircase.domain_low), staircase.domain_high + 1))
    arrays = (np.array(values, dtype=np.int64) for values in (numerators, denominators, borders))
    n, d, at_code = arrays
    return n, d, at_code


def _pieces(count: Expression, steps: int) -> list[tuple[_Quadratic, Fraction]] | None:
    """(coefficients, end) of the one or two pieces of `count` in which steps are taken; None where they are others."""
    degree, ends = degree_between_kinks(count), kinks(count)
    if degree is None or degree > _DEGREE:
        return None
    outer = [ends[0] - 1, *ends, ends[-1] + 1] if ends else [Fraction(0), Fraction(1)]
    found = []
    for a, b in pairwise(outer):
        at = [a + (b - a) * Fraction(j, 4) for j in range(5)]
        values = [value for x in at if (value := rational(count, x)) is not None]
        assert len(values) == len(at), "sums and products of rationals"
        open_ended = a < min(ends, default=b) or b > max(ends, default=a)  # it goes on as far as the line does
        if (min(values) < steps and max(values) > 1) or (open_ended and values[0] != values[-1]):
            found.append((_through(at[1:4], values[1:4]), b))
    return found if 1 <= len(found) <= 2 else None


def _through(x: list[Fraction], y: list[Fraction]) -> _Quadratic:
    """The coefficients of the quadratic through three points, by Newton's divided differences."""
    first = (y[1] - y[0]) / (x[1] - x[0])
    second = ((y[2] - y[1]) / (x[2] - x[1]) - first) / (x[2] - x[0])
    return y[0] - first * x[0] + second * x[0] * x[1], first - second * (x[0] + x[1]), second


def _behind_line(piece: _Quadratic, m: Fraction, b: Fraction) -> _Quadratic:
    """piece(m * a + b)."""
    p0, p1, p2 = piece
    return p0 + p1 * b + p2 * b * b, (p1 + 2 * p2 * b) * m, p2 * m * m


def _modulo(value: int) -> int:
    """The int64 that is equal to it modulo 2^64."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
