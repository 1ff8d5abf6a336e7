"""A function's staircase by polynomials: 16 kB where a table of its 65,536 steps takes half a megabyte.

    u = clamp(floor((a * multiplier[c] + offset[c]) / 2^shift), first, last)
    code = low + floor(polynomial[u / 2^segment_bits](u mod 2^segment_bits) / 2^fraction_bits)

The argument's range between its first step and its last is cut into equal segments. In each a polynomial interpolates
the number of steps that are taken, before its floor. Its coefficients are 64-bit integers, products are of 48 bits and
of 62, in two halves of 24. That is a guess at the staircase, and proved: what is computed may fall by so little from
one code to a later one (`_most_fall`) that it is the staircase at both sides of each step even with so much taken off
or added. So it stays within a step's code up to the next step, where the function is nearly flat, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil, comb, cos, floor, lcm, pi

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.enclosure import DecimalArithmetic, FloatArithmetic, Interval, enclose
from pefslc.numeric.expression import Expression
from pefslc.numeric.function_of_line import FunctionOfLine, function_of_line
from pefslc.numeric.inverse import inverse_bracket
from pefslc.numeric.kinks import kinks
from pefslc.numeric.staircase import Staircase, agrees_everywhere, agrees_in_blocks
from pefslc.numeric.wide import WideAffine, word_bits_of

__all__ = ["PiecewisePolynomial", "fit_polynomial"]

Codes = NDArray[np.int64]

_FACTOR_BITS = 48  # of the argument within a segment, in products
_HALF_BITS = _FACTOR_BITS // 2
_HALF_MASK = (1 << _HALF_BITS) - 1
_VALUE_BITS = 61  # of every number on the way to the value
_SEGMENT_BITS = (48, 44, 40, 36)  # as many as leave room for accumulators far beyond the last step
_ATTEMPTS = ((2, 8), (4, 32), (5, 64), (6, 128), (6, 256), (7, 512))  # degree, segments
_MARGIN = Fraction(1, 1 << 20)  # of the argument's range, before the first step and behind the last
_DIGITS = 36
_HOPELESS = 16  # steps that are likely to be taken elsewhere: 1 in e^16 such grids has none
_SHORT_PART = Fraction(
    1, 16
)  # of a segment: a polynomial of a high degree through so near points has large coefficients
_SHORT_DEGREE = 3
_NUDGE = 1 << 4  # units of the value, more than what it may fall by; of no account to most steps


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

    def moved(self, by: int) -> PiecewisePolynomial:
        """The same with so many units added to the value."""
        coefficients = self.coefficients.copy()
        coefficients[:, 0] += by
        return replace(self, coefficients=coefficients)


def fit_polynomial(staircase: Staircase) -> PiecewisePolynomial | None:
    """The certified polynomials of the fewest bytes; None where the chain is no function of a line, or none certify."""
    chains = staircase.chains
    if chains is None or staircase.step != 1 or not staircase.steps:
        return None
    function = function_of_line(chains)
    if function is None or not function.direction or function.count is None:
        return None
    for degree, segments in _ATTEMPTS:
        placed = _grid_and_line(staircase, function, segments)
        if placed is None:
            return None
        grid, line = placed
        if _expected_misses(function.count, grid, degree) * staircase.channels > _HOPELESS:
            continue
        pieces = _pieces(function.count, grid, degree, staircase.steps)
        if pieces is None:
            return None
        found = PiecewisePolynomial(line, pieces[0], grid.bits, pieces[1], staircase.low)
        nudge = _NUDGE + 2 * _most_fall(found)
        rounded = 4 * int(np.abs(found.coefficients[:, 1:]).sum(axis=1).max()) >> grid.bits  # with the argument
        # What rounding takes off, about; or so that a value that hits a bound exactly falls to its side of it.
        for by in (degree, nudge, -nudge, nudge + rounded, -nudge - rounded):
            if _is_staircase(staircase, found.moved(by)):
                return found.moved(by)
    return None


def _is_staircase(staircase: Staircase, candidate: PiecewisePolynomial) -> bool:
    """Whether it is the staircase at both sides of each step, and therefore between them."""
    fall = _most_fall(candidate)
    one = staircase.of_channels(0, 1)  # before all are looked at
    least_most = [candidate.moved(by) for by in sorted({-fall, fall})]
    return all(agrees_everywhere(one, moved.of_channels(0, 1)) for moved in least_most) and all(
        agrees_in_blocks(staircase, moved) for moved in least_most
    )


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
        """From the first step to the last, the end of a segment where a function of two pieces changes."""
        sign = function.direction
        assert sign, "it rises or falls"
        first, last = (sign * x for x in reached)  # of a falling function: the mirrored argument, in which it rises
        margin = (last - first) * _MARGIN
        first, last = first - margin, last + margin
        width = Fraction(float((last - first) / (segments - 1) * (1 + Fraction(1, 1 << 40))))
        inner = [sign * x for x in kinks(function.function) if first < sign * x < last] or [Fraction(0)]
        start = inner[0] - -floor((first - inner[0]) / width) * width if first < inner[0] < last else first
        low, high = (floor((x - start) / width * (1 << bits)) for x in (first, last))
        return cls(start, width, sign, (high >> bits) + 1, bits, low, high)

    def used(self, segment: int) -> tuple[Fraction, Fraction]:
        """Which part of a segment, from 0 to 1, arguments lie in."""
        return _used_part(segment, self.first, self.last, self.bits)

    def argument(self, segment: int, t: Fraction) -> Fraction:
        return self.sign * (self.start + (segment + t) * self.width)


def _used_part(segment: int, first: int, last: int, bits: int) -> tuple[Fraction, Fraction]:
    low, high = (min(max(Fraction(u, 1 << bits) - segment, Fraction(0)), Fraction(1)) for u in (first, last))
    return low, high


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


def _expected_misses(count: Expression, grid: _Grid, degree: int) -> float:
    """How many of a channel's steps the interpolation is likely to take at another code, were codes everywhere: about
    the sum of its errors at all steps. In float64; 0 where that has no values.
    """
    inner = range(1, grid.segments - 1)
    if not inner:
        return 0.0
    nodes, inverse = _interpolation(degree, Fraction(0), Fraction(1))
    between = [(a + b) / 2 for a, b in pairwise(nodes)]
    values, wanted = (
        np.stack([_float_values(count, [grid.argument(segment, t) for segment in inner]) for t in places])
        for places in (nodes, between)
    )
    coefficients = np.array([[float(w) for w in row] for row in inverse]) @ values
    powers = np.array([[float(t) ** j for j in range(degree + 1)] for t in between])
    errors = np.abs(powers @ coefficients - wanted).max(axis=0)
    return float(np.nan_to_num(errors * np.abs(values[-1] - values[0])).sum())


def _float_values(count: Expression, places: list[Fraction]) -> NDArray[np.float64]:
    x = np.array([float(place) for place in places])
    bounds = enclose(count, Interval(x, x), FloatArithmetic())
    return np.asarray(np.broadcast_to((bounds.low + bounds.high) / 2, x.shape), dtype=np.float64)


def _pieces(count: Expression, grid: _Grid, degree: int, steps: int) -> tuple[Codes, int] | None:
    """(coefficients, fraction bits) of the interpolation; None where the function has no values, or they do not fit."""
    bits = _VALUE_BITS - max(steps, 1).bit_length() - 2
    arithmetic, unit = DecimalArithmetic(_DIGITS), 1 << bits
    rows: list[list[int]] = []
    values: list[Fraction] = []
    for segment in range(grid.segments):
        nodes, inverse = _interpolation(degree, *grid.used(segment))
        values = values[-1:]  # the end of the segment before
        for node in nodes[len(values) :]:
            bounds = enclose(count, arithmetic.number(grid.argument(segment, node)), arithmetic)
            if not bounds.low.is_finite() or not bounds.high.is_finite():
                return None
            values.append(Fraction(bounds.low))
        row = [round(sum(w * v for w, v in zip(weights, values, strict=True)) * unit) for weights in inverse]
        if nodes[-1] == 1:  # where the next segment starts, to the unit
            row[1] += round(values[-1] * unit) - sum(row)
        row += [0] * (degree + 1 - len(row))
        if sum(map(abs, row)) >= 1 << _VALUE_BITS:
            return None
        rows.append(row)
    return np.array(rows, dtype=np.int64), bits


@lru_cache(maxsize=16)
def _interpolation(degree: int, low: Fraction, high: Fraction) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Chebyshev's nodes in [low, high], both ends among them: segments meet. And the matrix from values there to a
    polynomial's coefficients, few where the part is short.
    """
    if high - low < _SHORT_PART:
        degree = min(degree, _SHORT_DEGREE)
    places = [Fraction(round((1 - cos(j * pi / degree)) * (1 << 19)), 1 << 20) for j in range(degree + 1)]
    nodes = [low + (high - low) * place for place in places]
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


def _most_fall(p: PiecewisePolynomial) -> int:
    """How much less the value may be at a later code than at an earlier one, in its units, whatever the roundings.

    The exact polynomials fall within a segment where their slope is negative, and where one segment ends above the
    start of the next. What is computed is less than the polynomial by 2 units for each product at most; that is of no
    account where the polynomial rises by more from each code to the next. (At the ends of the arguments' range it may
    rise by less; that is of no account where they are far from a step.)
    """
    rows = p.coefficients.astype(object)
    for segment in {0, p.segments - 1}:  # of which a part is used
        low, high = _used_part(segment, p.line.low, p.line.high, p.segment_bits)
        rows[segment] = _stretched(rows[segment].tolist(), low, high)
    derivatives = rows[:, 1:] * np.arange(1, p.degree + 1).astype(object)
    weights, unit = _bernstein(p.degree - 1)
    least = (derivatives @ weights).min(axis=1).tolist()  # the slope lies among its coefficients in Bernstein's form
    within = sum(-floor(min(slope, 0) / Fraction(unit)) for slope in least)
    starts, ends = rows[:, 0].tolist(), rows.sum(axis=1).tolist()
    between = sum(max(ceil(end - start), 0) for end, start in zip(ends, starts[1:]))  # noqa: B905 - one less
    rounding = 2 * p.degree
    rise = floor(min(least) * _least_way(p) / unit) >> p.segment_bits
    return int(within + between) + (0 if rise >= rounding and _ends_flat(p, rounding) else rounding)


def _least_way(p: PiecewisePolynomial) -> int:
    """By how much u is greater a code further, up to a segment, but for the ends of its range."""
    bits, words = p.line.word_bits, p.line.multipliers.T.tolist()
    slopes: list[int] = [abs(sum(w << bits * i for i, w in enumerate(channel))) for channel in words]
    return min(min(slopes) >> p.line.shift, 1 << p.segment_bits)


def _ends_flat(p: PiecewisePolynomial, rounding: int) -> bool:
    """Whether the values are far from a step at the ends of u's range, where it may be greater by less than that."""
    (first, last), unit = p.ends(), 1 << p.fraction_bits
    return first % unit >= 2 * rounding and last % unit < unit - 2 * rounding


def _stretched(coefficients: list[int], low: Fraction, high: Fraction) -> list[Fraction]:
    """The polynomial p(low + (high - low) * t)."""
    found = [Fraction(0)]
    for c in reversed(coefficients):  # Horner's rule
        times_low = [*(low * f for f in found), Fraction(0)]
        times_t = [Fraction(0), *((high - low) * f for f in found)]
        found = [a + b for a, b in zip(times_low, times_t, strict=True)]
        found[0] += c
    return found[: len(coefficients)]


@lru_cache(maxsize=8)
def _bernstein(degree: int) -> tuple[NDArray[np.object_], int]:
    """(matrix, unit): from a polynomial's coefficients to `unit` times those in Bernstein's form on [0, 1]."""
    unit = lcm(*(comb(degree, j) for j in range(degree + 1)))
    columns = [[comb(i, j) * unit // comb(degree, j) for i in range(degree + 1)] for j in range(degree + 1)]
    return np.array(columns, dtype=object), unit
