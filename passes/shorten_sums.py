"""Sums of two scales in fewer bits: smaller factors for both sides, where every pair of codes gives the same code.

    y = requantize(f * a + g * b)  ==>  y = requantize'(f' * a + g' * b), the same y for every a and b that occur

The exact factors of two float32 scales have 24 bits each, however few bits the codes have. The fractions f'/g' next to
f/g (its convergents and what lies between them: Khinchin, Continued Fractions, 6) serve as well as long as no pair of
codes comes so close to a threshold that it changes sides, which is asked of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.ranges import result_range
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Requantize, Rescale, Sum
from pefslc.ir.value import Op, Value
from pefslc.numeric.accumulate import bits_for_range, fits_int64, largest_magnitude
from pefslc.numeric.requantize import fit_affine_shift, fit_offset
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase
from pefslc.passes.manager import Exactness

__all__ = ["Pairs", "ShortenSums"]

Codes = NDArray[np.int64]
_Found = tuple[tuple[int, int], list[Staircase]]  # the factors, and what stands behind the sum then

_MOST_PAIRS = 1 << 18  # of codes: two times 9 bits
_MOST_CASES = 1 << 22  # pairs times channels
_LONG_FACTOR = 1 << 24  # two scales of one binade have shorter ones
_WORD = 32  # bits: what any target adds fastest


@dataclass(frozen=True, slots=True)
class ShortenSums:
    """Where a sum does not fit `limits.accumulator_bits`, or has a factor of more than 24 bits, shorter factors.

    Needs: a sum of two tensors whose pairs of codes can all be tried, and only requantizes that rise behind it.
    """

    limits: TargetLimits
    name: ClassVar[str] = "shorten-sums"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        producers, readers = graph.producers(), graph.consumers()
        outputs = {o.value.name for o in graph.outputs}
        changed: dict[str, tuple[Op, ...]] = {}
        for op in graph.of_type(Sum):
            behind = readers.get(op.result.name, ())
            staircases = [r for r in behind if isinstance(r, Requantize)]
            if staircases and len(staircases) == len(behind) and op.result.name not in outputs:
                changed |= self._shortened(op, staircases, producers)
        return graph.with_ops(new for op in graph.ops for new in changed.get(op.result.name, (op,)))

    def _shortened(self, op: Sum, behind: list[Requantize], producers: dict[str, Op]) -> dict[str, tuple[Op, ...]]:
        """The operations that take the place of some: none where the sum stays as it is."""
        room = self.limits.accumulator_bits
        (a, f), (b, g) = (_factored(v, producers) for v in (op.lhs, op.rhs))
        native = self.limits.native_format
        spare = 0 if native is None else native.fraction_bits  # requantization in words needs them
        if bits_for_range(*result_range(op)) <= room - spare and max(abs(f), abs(g)) <= _LONG_FACTOR:
            return {}
        if a.type.codes.scale.per_channel or b.type.codes.scale.per_channel:
            return {}
        pairs = _count(a) * _count(b)
        channels = sum(r.staircase.channels for r in behind)
        if pairs > _MOST_PAIRS or pairs * channels > _MOST_CASES:
            return {}
        largest = abs(f) * largest_magnitude(_range_of(a)) + abs(g) * largest_magnitude(_range_of(b))
        if not fits_int64(max(largest, abs(f), abs(g))):
            return {}
        every, bits = Pairs(a, b, (f, g)), min(room, _WORD)
        found = self._for_a_shift(op, behind, every, bits) or _shortest(behind, every, bits)
        return {} if found is None else _replaced(op, (a, b), found[0], behind, found[1])

    def _for_a_shift(self, op: Sum, behind: list[Requantize], every: Pairs, bits: int) -> _Found | None:
        """Factors with which a code behind the sum is 2^shift codes of it, so that the shift alone requantizes."""
        step = _step_of(op, behind)
        if step is None:
            return None
        native = self.limits.native_format
        for shift in range(1, bits if native is None else native.fraction_bits + 1):  # those that the target has
            proportion = (1 << shift) / step
            short = round(every.factors[0] * proportion), round(every.factors[1] * proportion)
            if not every.fit(short, bits):
                break
            found = every.staircases_on(behind, short, proportion)
            if found is not None and all(fit_offset(s, 1, shift) is not None for s in found):
                return short, found
        return None


def _shortest(behind: list[Requantize], every: Pairs, bits: int) -> _Found | None:
    """The shortest factors with which a multiplication requantizes; if there are none, those that a table needs."""
    f, g = every.factors
    table: _Found | None = None
    for p, q in _fractions_near(abs(f), abs(g)):
        short = p if f > 0 else -p, q if g > 0 else -q
        if not every.fit(short, bits):
            break
        found = every.staircases_on(behind, short, Fraction(max(p, q), max(abs(f), abs(g))))
        if found is None or short == (f, g):
            continue
        if all(fit_affine_shift(s) is not None for s in found):
            return short, found
        table = table or (short, found)
    return table


class Pairs:
    """All codes of two tensors in pairs, in the order of f * a + g * b."""

    def __init__(self, a: Value, b: Value, factors: tuple[int, int]) -> None:
        self._a, self._b = (_range_of(value) for value in (a, b))
        self.factors = factors
        sums = self._sums(factors)
        self._order = np.argsort(sums, kind="stable")
        self._sorted = sums[self._order]

    def fit(self, short: tuple[int, int], bits: int) -> bool:
        """Whether products with these factors, and their sums, fit so many bits."""
        ends = [
            short[0] * x + short[1] * y
            for x in (*self._a[[0, -1]].tolist(), 0)
            for y in (*self._b[[0, -1]].tolist(), 0)
        ]
        return bits_for_range(min(ends), max(ends)) <= bits

    def _sums(self, factors: tuple[int, int]) -> Codes:
        f, g = factors
        return (f * self._a[:, None] + g * self._b[None, :]).reshape(-1)

    def staircases_on(
        self, behind: list[Requantize], short: tuple[int, int], proportion: Fraction
    ) -> list[Staircase] | None:
        """`staircase_on` of every requantize; None where one has none."""
        found = [self.staircase_on(r.staircase, short, proportion) for r in behind]
        staircases = [s for s in found if s is not None]
        return staircases if len(staircases) == len(found) else None

    def staircase_on(self, staircase: Staircase, short: tuple[int, int], proportion: Fraction) -> Staircase | None:
        """What gives on short[0] * a + short[1] * b the codes that `staircase` gives on f * a + g * b.

        None where no staircase that rises does so for all pairs. Its steps lie near `proportion` times the old ones.
        """
        if (staircase.direction < 0).any() or not staircase.steps or not all(short):
            return None
        sums = self._sums(short)[self._order]
        largest_so_far = np.maximum.accumulate(sums)
        least_from_here = np.minimum.accumulate(sums[::-1])[::-1]
        low, high = int(least_from_here[0]), int(largest_so_far[-1])
        thresholds = staircase.rows(0, staircase.channels)
        first = np.searchsorted(self._sorted, thresholds)  # the first sum that takes the step
        # A step lies above every sum that does not take it, and not above any that does.
        least = np.where(first > 0, largest_so_far[np.maximum(first - 1, 0)] + 1, low)
        most = np.where(first < len(sums), least_from_here[np.minimum(first, len(sums) - 1)], high + 1)
        if (least > most).any():
            return None
        placed = np.clip(_in_proportion(thresholds, proportion), least, most)
        return Staircase(low, high, staircase.low, placed, staircase.direction.copy(), staircase.step)


def _in_proportion(thresholds: Codes, proportion: Fraction) -> Codes:
    """The first integers that are not below `thresholds` times the proportion: where the line itself steps."""
    n, d = proportion.numerator, proportion.denominator
    placed = [[-(-t * n // d) for t in row] for row in thresholds.tolist()]
    return np.array(placed, dtype=np.int64).reshape(thresholds.shape)


def _range_of(value: Value) -> Codes:
    codes = value.type.codes
    return np.arange(codes.low, codes.high + 1, dtype=np.int64)


def _count(value: Value) -> int:
    """How many codes there are."""
    return value.type.codes.high - value.type.codes.low + 1


def _factored(value: Value, producers: dict[str, Op]) -> tuple[Value, int]:
    """The tensor of which `value` is an integer multiple, and the factor."""
    op = producers.get(value.name)
    return (op.input, op.factor) if isinstance(op, Rescale) else (value, 1)


def _step_of(op: Sum, behind: list[Requantize]) -> Fraction | None:
    """How many codes of the sum one code behind it is worth; None where that differs."""
    scales = {r.result.type.codes.scale for r in behind}
    scale = op.result.type.codes.scale
    if len(scales) > 1 or scale.per_channel or any(s.per_channel for s in scales):
        return None
    return scales.pop().step / scale.step


def _ends(value: Value) -> tuple[int, int]:
    return value.type.codes.low, value.type.codes.high


def _fractions_near(f: int, g: int) -> Iterator[tuple[int, int]]:
    """The numerators and denominators, rising, of f / g's convergents and of the fractions between two of them."""
    (p, q), (last_p, last_q) = (1, 0), (0, 1)
    while g:
        for n in range(1, f // g + 1) if f // g < 64 else (f // g,):
            if last_p + n * p and last_q + n * q:
                yield last_p + n * p, last_q + n * q
        quotient, rest = divmod(f, g)
        (p, q), (last_p, last_q) = (last_p + quotient * p, last_q + quotient * q), (p, q)
        f, g = g, rest


def _replaced(
    op: Sum, terms: tuple[Value, Value], factors: tuple[int, int], behind: list[Requantize], staircases: list[Staircase]
) -> dict[str, tuple[Op, ...]]:
    """The operations that take the place of the sum and of what stands behind it, by name."""
    (a, b), (f, g) = terms, factors
    scale = Scale((a.type.codes.scale.step / abs(f),))
    parts = [_rescaled(op, side, value, factor, scale) for side, value, factor in (("lhs", a, f), ("rhs", b, g))]
    rescaled = [part.result if isinstance(part, Rescale) else part for part in parts]
    total = replace(op, lhs=rescaled[0], rhs=rescaled[1])
    total = replace(total, result=_with_range(op.result, scale, *result_range(total)))
    changed: dict[str, tuple[Op, ...]] = {op.result.name: (*(p for p in parts if isinstance(p, Rescale)), total)}
    for reader, staircase in zip(behind, staircases, strict=True):
        changed[reader.result.name] = (replace(reader, input=total.result, staircase=staircase),)
    return changed


def _rescaled(op: Sum, side: str, value: Value, factor: int, scale: Scale) -> Rescale | Value:
    """The multiple, which is about the value where that is on no such grid; the value itself where nothing changes."""
    if factor == 1 and value.type.codes.scale == scale:
        return value
    result = replace(value, name=f"{op.result.name}.short_{side}")
    ends = sorted(factor * end for end in _ends(value))
    return Rescale(result=_with_range(result, scale, *ends), input=value, factor=factor)


def _with_range(value: Value, scale: Scale, low: int, high: int) -> Value:
    codes = replace(value.type.codes, low=low, high=high, scale=scale)
    return replace(value, type=replace(value.type, element=codes))
