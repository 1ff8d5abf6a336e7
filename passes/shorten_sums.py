"""Sums of two scales in fewer bits: smaller factors for both sides, where every pair of codes gives the same code.

    y = requantize(f * a + g * b)  ==>  y = requantize'(f' * a + g' * b), the same y for every a and b that occur

The exact factors of two float32 scales have 24 bits each, however few bits the codes have. The fractions f'/g' next to
f/g (its convergents and what lies between them: Khinchin, Continued Fractions, 6) serve as well as long as no pair of
codes comes so close to a threshold that it changes sides, which is asked of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.ranges import result_range
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Requantize, Rescale, Sum
from pefslc.ir.value import Op, Value
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.requantize import fit_affine_shift
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase
from pefslc.passes.manager import Exactness

__all__ = ["Pairs", "ShortenSums"]

Codes = NDArray[np.int64]

_MOST_PAIRS = 1 << 18  # of codes: two times 9 bits
_MOST_CASES = 1 << 22  # pairs times channels
_LONG_FACTOR = 1 << 24  # two scales of one binade have shorter ones
_WORD = 32  # bits: what any target adds fastest


@dataclass(frozen=True, slots=True)
class ShortenSums:
    """Where a sum leaves no room in `limits`, or has a factor of more than 24 bits, shorter factors.

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

    @property
    def _room(self) -> int:
        """The bits of a sum that can be requantized: a target of fixed-point words needs their fraction bits for it."""
        native = self.limits.native_format
        return self.limits.accumulator_bits - (0 if native is None else native.fraction_bits)

    def _shortened(self, op: Sum, behind: list[Requantize], producers: dict[str, Op]) -> dict[str, tuple[Op, ...]]:
        """The operations that take the place of some: none where the sum stays as it is."""
        room = self._room
        (a, f), (b, g) = (_factored(v, producers) for v in (op.lhs, op.rhs))
        if bits_for_range(*result_range(op)) <= room and max(abs(f), abs(g)) <= _LONG_FACTOR:
            return {}
        pairs = _range_of(a).size * _range_of(b).size
        channels = sum(r.staircase.channels for r in behind)
        if pairs > _MOST_PAIRS or pairs * channels > _MOST_CASES:
            return {}
        every = Pairs(a, b, (f, g))
        exact: tuple[tuple[int, int], list[Staircase]] | None = None
        for short in _shorter(f, g, a, b, min(self.limits.accumulator_bits, _WORD)):
            found = [every.staircase_on(r.staircase, short) for r in behind]
            staircases = [s for s in found if s is not None]
            if len(staircases) < len(behind):
                continue
            exact = exact or (short, staircases)
            if all(fit_affine_shift(s) is not None for s in staircases):
                exact = short, staircases
                break
        if exact is None:
            return {}
        (short_f, short_g), staircases = exact
        return _replaced(op, (a, short_f), (b, short_g), behind, staircases)


class Pairs:
    """All codes of two tensors in pairs, in the order of f * a + g * b."""

    def __init__(self, a: Value, b: Value, factors: tuple[int, int]) -> None:
        self._a, self._b = (_range_of(value) for value in (a, b))
        self.factors = factors
        sums = self._sums(factors)
        self._order = np.argsort(sums, kind="stable")
        self._sorted = sums[self._order]

    def _sums(self, factors: tuple[int, int]) -> Codes:
        f, g = factors
        return (f * self._a[:, None] + g * self._b[None, :]).reshape(-1)

    def staircase_on(self, staircase: Staircase, short: tuple[int, int]) -> Staircase | None:
        """What gives on short[0] * a + short[1] * b the codes that `staircase` gives on f * a + g * b.

        None where no staircase that rises does so for all pairs.
        """
        if (staircase.direction < 0).any() or not staircase.steps:
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
        side = int(abs(self.factors[1]) > abs(self.factors[0]))
        placed = np.clip(_in_proportion(thresholds, self.factors[side], short[side]), least, most)
        return Staircase(low, high, staircase.low, placed, staircase.direction.copy(), staircase.step)


def _in_proportion(thresholds: Codes, factor: int, short: int) -> Codes:
    """About thresholds * short / factor: a line that a multiplication finds again."""
    return np.round(thresholds.astype(np.float64) * (short / factor)).astype(np.int64)


def _range_of(value: Value) -> Codes:
    codes = value.type.codes
    return np.arange(codes.low, codes.high + 1, dtype=np.int64)


def _factored(value: Value, producers: dict[str, Op]) -> tuple[Value, int]:
    """The tensor of which `value` is an integer multiple, and the factor."""
    op = producers.get(value.name)
    return (op.input, op.factor) if isinstance(op, Rescale) else (value, 1)


def _shorter(f: int, g: int, a: Value, b: Value, bits: int) -> Iterator[tuple[int, int]]:
    """Shorter factors whose sums fit so many bits, the shortest first."""
    for short_f, short_g in _fractions_near(abs(f), abs(g)):
        pair = (short_f if f > 0 else -short_f, short_g if g > 0 else -short_g)
        ends = [pair[0] * x + pair[1] * y for x in _ends(a) for y in _ends(b)]
        if bits_for_range(min(ends), max(ends)) > bits:
            break
        if pair != (f, g):
            yield pair


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
    op: Sum, lhs: tuple[Value, int], rhs: tuple[Value, int], behind: list[Requantize], staircases: list[Staircase]
) -> dict[str, tuple[Op, ...]]:
    (a, f), (b, g) = lhs, rhs
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
