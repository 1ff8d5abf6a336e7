"""A function's staircase by polynomials: 16 kB where a table of its 65,536 steps takes half a megabyte.

    u = clamp(floor((a * multiplier[c] + offset[c]) / 2^shift), first, last)
    code = low + floor(polynomial[u / 2^segment_bits](u mod 2^segment_bits) / 2^fraction_bits)

The argument's range between its first step and its last is cut into equal segments. In each a polynomial interpolates
the number of steps that are taken, before its floor. Its coefficients are 64-bit integers, products are of 48 bits and
of 62, in two halves of 24. That is a guess at the staircase. It is proved in two parts: what is computed never falls
(`_never_falls`), and it is the staircase at both sides of each step (`agrees_in_blocks`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import cos, floor, pi

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.enclosure import DecimalArithmetic, enclose
from pefslc.numeric.expression import Expression
from pefslc.numeric.function_of_line import FunctionOfLine, function_of_line
from pefslc.numeric.inverse import inverse_bracket
from pefslc.numeric.staircase import Staircase, agrees_everywhere, agrees_in_blocks
from pefslc.numeric.wide import WideAffine, word_bits_of

__all__ = ["PiecewisePolynomial", "fit_polynomial"]

Codes = NDArray[np.int64]

_FACTOR_BITS = 48  # of the argument within a segment, in products
_HALF_BITS = _FACTOR_BITS // 2
_HALF_MASK = (1 << _HALF_BITS) - 1
_VALUE_BITS = 61  # of every number on the way to the value
_SEGMENT_BITS = (48, 44, 40, 36)  # as many as leave room for accumulators far beyond the last step
_ATTEMPTS = ((4, 32), (5, 64), (6, 256), (7, 512))  # degree, segments: 1 to 32 kB
_MARGIN = Fraction(1, 1 << 20)  # of the argument's range, before the first step and behind the last
_DIGITS = 36
_NUDGE = 1 << 4  # units of the value: what rounding takes off, and then some; of no account to most steps


@dataclass(frozen=True, slots=True, eq=False)
class PiecewisePolynomial:
    """From accumulator codes to codes.

    line           to the argument u
    coefficients   [segments, degree + 1], those of the lowest power first
    segment_bits   of the argument within a segment
    fraction_bits  of the value
    """

    line: WideAffine
    coefficients: Codes
    segment_bits: int
    fraction_bits: int
    low: int

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of `codes` [channels, points]."""
        return self.low + (self._value(self.line(codes)) >> self.fraction_bits)

    def of_channels(self, first: int, last: int) -> PiecewisePolynomial:
        """The same for channels first .. last - 1."""
        return replace(self, line=self.line.of_channels(first, last))

    @property
    def degree(self) -> int:
        return int(self.coefficients.shape[1]) - 1

    @property
    def segments(self) -> int:
        return len(self.coefficients)

    def _value(self, u: Codes) -> Codes:
        """As C computes it: acc = c[j] + acc * t / 2^48, each product rounded down, and its lowest quarter left out."""
        segment = u >> self.segment_bits
        t = (u - (segment << self.segment_bits)) << (_FACTOR_BITS - self.segment_bits)
        high, low = t >> _HALF_BITS, t & _HALF_MASK
        total: Codes = self.coefficients[segment, self.degree]
        for power in reversed(range(self.degree)):
            top, rest = total >> _HALF_BITS, total & _HALF_MASK
            product = top * high + ((top * low + rest * high) >> _HALF_BITS)
            total = self.coefficients[segment, power] + product
        return total

    def ends(self) -> tuple[int, int]:
        """The values at the first argument and at the last."""
        low, high = self._value(np.array([self.line.low, self.line.high], dtype=np.int64)).tolist()
        return low, high


def fit_polynomial(staircase: Staircase) -> PiecewisePolynomial | None:
    """The certified polynomials of the fewest bytes; None where the chain is no function of a line, or none certify."""
    chains = staircase.chains
    if chains is None or staircase.step != 1 or not staircase.steps:
        return None
    function = function_of_line(chains)
    if function is None or not function.direction or function.count is None:
        return None
    for degree, segments in _ATTEMPTS:
        found = _grid_and_line(staircase, function, segments)
        if found is None:
            return None
        grid, line = found
        pieces = _pieces(function.count, grid, degree, staircase.steps)
        if pieces is None:
            return None
        coefficients, fraction_bits = pieces
        for nudge in (_NUDGE, -_NUDGE):  # a value that hits a bound exactly must fall to its side of it
            moved = coefficients.copy()
            moved[:, 0] += nudge
            candidate = PiecewisePolynomial(line, moved, grid.bits, fraction_bits, staircase.low)
            if _is_staircase(staircase, candidate):
                return candidate
    return None


def _is_staircase(staircase: Staircase, candidate: PiecewisePolynomial) -> bool:
    if not _never_falls(candidate):
        return False
    one = staircase.of_channels(0, 1)  # before all are looked at
    return agrees_everywhere(one, candidate.of_channels(0, 1)) and agrees_in_blocks(staircase, candidate)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The argument x of the function: u = (sign * x - start) / width * 2^bits, in which it rises.

    first, last  u of the first step and of the last, with a margin
    """

    start: Fraction
    width: Fraction
    sign: int
    segments: int
    bits: int
    first: int
    last: int

    @classmethod
    def of(cls, function: FunctionOfLine, reached: tuple[Fraction, Fraction], segments: int, bits: int) -> _Grid:
        """From the first step to the last, 0 at the end of a segment: functions of two pieces change there."""
        sign = function.direction
        assert sign, "it rises or falls"
        first, last = (sign * x for x in reached)  # of a falling function: the mirrored argument, in which it rises
        margin = (last - first) * _MARGIN
        first, last = first - margin, last + margin
        width = Fraction(float((last - first) / (segments - 1) * (1 + Fraction(1, 1 << 40))))
        start = floor(first / width) * width if first < 0 < last else first
        ends = (floor((x - start) / width * (1 << bits)) for x in (first, last))
        return cls(start, width, sign, segments, bits, *ends)

    def argument(self, segment: int, t: Fraction) -> Fraction:
        return self.sign * (self.start + (segment + t) * self.width)


def _grid_and_line(staircase: Staircase, function: FunctionOfLine, segments: int) -> tuple[_Grid, WideAffine] | None:
    """The finest grid to which codes come in words of 64 bits; None where none is."""
    reached = _reach(function)
    if reached is None:
        return None
    for bits in _SEGMENT_BITS:
        grid = _Grid.of(function, reached, segments, bits)
        line = _line(staircase, function, grid)
        if line is not None:
            return grid, line
    return None


def _reach(function: FunctionOfLine) -> tuple[Fraction, Fraction] | None:
    """Where the first level is reached and the last, nearly; None where that is not known."""
    quantizer, levels = function.chains.quantizer, function.chains.levels
    y = np.array([float(quantizer.reaches(level, 0).value) for level in (levels[0], levels[-1])])
    low, high = inverse_bracket(function.function, function.direction, y, np.abs(y) * 2.0**-50)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    first, last = (Fraction(float(x)) for x in (low + high) / 2)
    return None if first == last else (first, last)


def _line(staircase: Staircase, function: FunctionOfLine, grid: _Grid) -> WideAffine | None:
    """From codes to u, within a unit or two."""
    domain = staircase.domain_low, staircase.domain_high
    per_unit = Fraction(1 << grid.bits) / grid.width
    word = word_bits_of(*domain)
    if word <= 0:
        return None
    # The slope is rounded: times a code, that is a unit of u at most.
    shift = -(-bits_for_range(*domain) // word) * word
    multipliers, offsets = [], []
    for slope, offset in function.lines:
        factor = grid.sign * per_unit * (1 << shift)
        multipliers.append(slope.scaled(factor).nearest())
        offsets.append(offset.plus(-grid.sign * grid.start).scaled(factor).nearest())
    return WideAffine.of(domain, (grid.first, grid.last), multipliers, offsets, shift)


def _pieces(count: Expression, grid: _Grid, degree: int, steps: int) -> tuple[Codes, int] | None:
    """(coefficients, fraction bits) of the interpolation; None where the function has no values, or they do not fit."""
    nodes, inverse = _interpolation(degree)
    bits = _VALUE_BITS - max(steps, 1).bit_length() - 2
    arithmetic, unit = DecimalArithmetic(_DIGITS), 1 << bits
    rows = []
    for segment in range(grid.segments):
        values = []
        for node in nodes:
            bounds = enclose(count, arithmetic.number(grid.argument(segment, node)), arithmetic)
            if not bounds.low.is_finite() or not bounds.high.is_finite():
                return None
            values.append(Fraction(bounds.low))
        row = [round(sum(w * v for w, v in zip(weights, values, strict=True)) * unit) for weights in inverse]
        if sum(map(abs, row)) >= 1 << _VALUE_BITS:
            return None
        rows.append(row)
    return np.array(rows, dtype=np.int64), bits


@lru_cache(maxsize=8)
def _interpolation(degree: int) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Chebyshev's nodes in [0, 1], and the matrix from values there to a polynomial's coefficients."""
    count = degree + 1
    nodes = [Fraction(round((1 - cos((2 * j + 1) * pi / (2 * count))) * (1 << 19)), 1 << 20) for j in range(count)]
    columns = []
    for j, node in enumerate(nodes):  # Lagrange's polynomial that is 1 at this node
        polynomial = [Fraction(1)]
        for i, other in enumerate(nodes):
            if i != j:
                shifted = [Fraction(0), *polynomial]
                scaled = [*(-other * c for c in polynomial), Fraction(0)]
                polynomial = [(a + b) / (node - other) for a, b in zip(shifted, scaled, strict=True)]
        columns.append(polynomial)
    return nodes, [list(row) for row in zip(*columns, strict=True)]


def _never_falls(p: PiecewisePolynomial) -> bool:
    """Whether what is computed never falls from one code to the next, whatever the roundings.

    The exact polynomials rise by `slope` at least over a segment, and may jump down from one segment to the next. A
    code further, u is greater by `least`, or at an end of its range. What is computed is less than the polynomial by 2
    units for each product at most.
    """
    rounding = 2 * p.degree
    slopes, starts, ends = [], [], []
    for row in p.coefficients.tolist():
        slopes.append(row[1] - sum(j * abs(c) for j, c in enumerate(row) if j > 1))
        starts.append(row[0])
        ends.append(sum(row))
    falls = [0, *(max(end - start, 0) for end, start in zip(ends, starts[1:])), 0]  # noqa: B905 - one less
    word_sum = [
        abs(sum(w << p.line.word_bits * i for i, w in enumerate(words))) for words in p.line.multipliers.T.tolist()
    ]
    least = min(min(word_sum) >> p.line.shift, 1 << p.segment_bits)
    rises = all(
        slope * least >> p.segment_bits >= rounding + before + after
        for slope, before, after in zip(slopes, falls[:-1], falls[1:], strict=True)
    )
    first, last = p.ends()
    # At the ends of the range u may be greater by less than that: there the value is far from a step.
    unit = 1 << p.fraction_bits
    return rises and first % unit >= 2 * rounding and last % unit < unit - 2 * rounding
