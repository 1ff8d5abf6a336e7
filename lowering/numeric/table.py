"""Lookup tables: the exact meaning of a function and its Quant on every code of a small domain.

For functions that are no staircases: SiLU falls before it rises. Where the table does rise or fall, it is a staircase,
and where it turns once, the sum of two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import WIDENING, FloatArithmetic, Interval, enclose
from pefslc.numeric.expression import Function
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Stage, chain_expression, direction
from pefslc.numeric.staircase import MOST_STEPS, Staircase, is_uniform

__all__ = ["staircase_of_table", "table_of", "turning_staircases"]

Codes = NDArray[np.int64]

_EXACT_IN_FLOAT64 = 1 << 52
_MOST_OUTPUT_CODES = 1 << 24  # the bounds of each are listed
_FIRST_BLOCKS = 1 << 9
_MOST_BLOCKS = 1 << 21  # a second
_MOST_DECISIONS = 1 << 12  # a second, or a few


def table_of(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int, channels: int
) -> Codes:
    """[channels or 1, codes]: quantizer(stages(scale * a)) for a = domain_low ... domain_high.

    channels  of the tensor; 1 row where all have the same table
    Raises NotANumberError and UndecidedError (see `enclosure`), OverflowError for a quantizer of too many codes.
    """
    told_apart = 1 if is_uniform(scale, stages, quantizer) else channels
    domain = np.arange(domain_low, domain_high + 1, dtype=np.int64)
    return np.stack([_row(scale.channel(c), stages, quantizer, domain, c) for c in range(told_apart)])


def _row(step: Fraction, stages: Sequence[Stage], quantizer: Quantizer, domain: Codes, channel: int) -> Codes:
    arithmetic = FloatArithmetic()
    points = domain.astype(np.float64)
    x = arithmetic.apply(Function.MUL, [Interval(points, points), arithmetic.number(step)])
    y = enclose(chain_expression(stages, channel), x, arithmetic)
    least, most = (np.broadcast_to(codes, domain.shape) for codes in _codes(y, quantizer, channel))
    row = least.copy()

    def decide(index: int) -> int:
        row[index] = quantizer.code_of(chain_value(stages, step * int(domain[index]), channel), channel)
        return int(row[index])

    doubtful = np.flatnonzero(least != most)
    if direction(stages, channel) is None:
        for i in doubtful.tolist():
            decide(i)
    else:
        for run in np.split(doubtful, np.flatnonzero(np.diff(doubtful) != 1) + 1):
            if len(run):
                _decide_monotone(row, int(run[0]), int(run[-1]), decide)
    return row


def _decide_monotone(row: Codes, first: int, last: int, decide: Callable[[int], int]) -> None:
    """row[first ... last] by few decisions: between two equal codes of a monotone function all are equal.

    Thousands of codes may lie where sigmoid is nearly 1, each to be told from 1 by hundreds of digits.
    """
    pending = [(first, decide(first), last, decide(last))]
    while pending:
        first, at_first, last, at_last = pending.pop()
        if at_first == at_last:
            row[first : last + 1] = at_first
        elif last - first > 1:
            middle = (first + last) // 2
            at_middle = decide(middle)
            pending += [(first, at_first, middle, at_middle), (middle, at_middle, last, at_last)]


def _codes(y: Interval[NDArray[np.float64]], quantizer: Quantizer, channel: int) -> tuple[Codes, Codes]:
    """The lowest and the highest code that values within `y` may have; they differ where nothing bounds them."""
    q = quantizer.quantization
    if q.high - q.low > _MOST_OUTPUT_CODES:
        raise OverflowError(f"a table of a quantizer of {q.bits} bits")
    bounds = quantizer.bounds(np.arange(q.low + 1, q.high + 1, dtype=np.int64), channel)
    steps = bounds.numerators.astype(np.float64) / float(bounds.denominator)
    slack = np.abs(steps) * WIDENING
    least = q.low + np.searchsorted(steps + slack, y.low, side="right")
    # NaN sorts behind every number, as the highest code; and as the lowest, it must be the lowest.
    most = q.low + np.searchsorted(steps - slack, y.high, side="right")
    unbounded = np.isnan(y.low) | np.isnan(y.high)
    return np.where(unbounded, q.low, least), np.where(unbounded, q.high, most)


def staircase_of_table(table: Codes, domain_low: int) -> Staircase | None:
    """The same function as a staircase, where every channel rises or falls; else None."""
    return _staircase_of([_Runs.of(row, domain_low) for row in table])


def turning_staircases(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int, channels: int
) -> tuple[Staircase, Staircase] | None:
    """Two staircases whose sum is the table, where every channel turns once at most, as SiLU does; else None.

    The first does what comes before the turn, the second what comes after. For domains of any size: None, too, where
    a channel would take too many evaluations, or the staircases too many steps.
    """
    if quantizer.quantization.high - quantizer.quantization.low > MOST_STEPS:
        return None
    told_apart = 1 if is_uniform(scale, stages, quantizer) else channels
    parts: list[tuple[_Runs, _Runs]] = []
    for c in range(told_apart):
        runs = _runs(scale.channel(c), stages, quantizer, (domain_low, domain_high), c)
        found = None if runs is None else runs.parts()
        if found is None:
            return None
        parts.append(found)
    before, after = (_staircase_of(list(side)) for side in zip(*parts, strict=True))
    assert before is not None, "what comes before the turn is monotone"
    assert after is not None, "what comes after the turn is monotone"
    return before, after


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """A row of a table as its runs of equal codes: where each begins, and its code. The last one ends at `end`."""

    starts: Codes
    codes: Codes
    end: int

    @classmethod
    def of(cls, row: Codes, domain_low: int) -> _Runs:
        starts = np.concatenate([[0], np.flatnonzero(np.diff(row)) + 1])
        return cls(domain_low + starts, row[starts], domain_low + len(row) - 1)

    @property
    def direction(self) -> int | None:
        """1 where the codes rise (or are all one), -1 where they fall."""
        changes = np.diff(self.codes)
        return 1 if (changes >= 0).all() else -1 if (changes <= 0).all() else None

    def parts(self) -> tuple[_Runs, _Runs] | None:
        """Up to the lowest code, or the highest, and from there on: two monotone rows whose sum is this one."""
        for turn in (int(self.codes.argmin()), int(self.codes.argmax())):
            before = _Runs(self.starts[: turn + 1], self.codes[: turn + 1], self.end)
            rest = np.concatenate([[0], self.codes[turn + 1 :] - self.codes[turn]])
            after = _Runs(np.concatenate([self.starts[:1], self.starts[turn + 1 :]]), rest, self.end)
            if before.direction and after.direction:
                return before, after
        return None

    def thresholds(self, levels: Codes) -> Codes:
        """Of a monotone row: where each level is reached, as a `Staircase` has it."""
        ends = np.append(self.starts, self.end + 1)  # of run i: ends[i + 1] - 1
        if self.direction == 1:
            return ends[np.searchsorted(self.codes, levels, side="left")]
        return ends[len(self.codes) - np.searchsorted(self.codes[::-1], levels, side="left")] - 1


def _runs(
    step: Fraction, stages: Sequence[Stage], quantizer: Quantizer, domain: tuple[int, int], channel: int
) -> _Runs | None:
    """One channel's row without a look at every code: a block of codes whose bounds leave one code is not divided.

    None where that takes more than _MOST_BLOCKS, or _MOST_DECISIONS by digits.
    """
    if not -_EXACT_IN_FLOAT64 < domain[0] <= domain[1] < _EXACT_IN_FLOAT64:
        return None
    arithmetic, expression = FloatArithmetic(), chain_expression(stages, channel)
    width = -(-(domain[1] - domain[0] + 1) // _FIRST_BLOCKS)
    first = np.arange(domain[0], domain[1] + 1, width, dtype=np.int64)
    last = np.minimum(first + width - 1, domain[1])
    starts, codes, blocks, decisions = [first[:0]], [first[:0]], 0, 0
    while len(first):
        points = Interval(first.astype(np.float64), last.astype(np.float64))
        x = arithmetic.apply(Function.MUL, [points, arithmetic.number(step)])
        found = _codes(enclose(expression, x, arithmetic), quantizer, channel)
        least, most = (np.array(np.broadcast_to(bound, first.shape)) for bound in found)
        doubtful = np.flatnonzero((least != most) & (first == last))
        blocks, decisions = blocks + len(first), decisions + len(doubtful)
        if blocks > _MOST_BLOCKS or decisions > _MOST_DECISIONS:
            return None
        for i in doubtful.tolist():
            least[i] = most[i] = quantizer.code_of(chain_value(stages, step * int(first[i]), channel), channel)
        done = least == most
        starts.append(first[done])
        codes.append(least[done])
        first, last = first[~done], last[~done]
        middle = (first + last) // 2
        first, last = np.concatenate([first, middle + 1]), np.concatenate([middle, last])
    every, code = np.concatenate(starts), np.concatenate(codes)
    order = np.argsort(every)
    every, code = every[order], code[order]
    changes = np.concatenate([[True], np.diff(code) != 0])
    return _Runs(every[changes], code[changes], domain[1])


def _staircase_of(rows: Sequence[_Runs]) -> Staircase | None:
    """One row per channel; None where one neither rises nor falls."""
    directions = [row.direction for row in rows]
    if None in directions:
        return None
    low, high = (int(pick(pick(row.codes) for row in rows)) for pick in (min, max))
    levels = np.arange(low + 1, high + 1, dtype=np.int64)
    thresholds = np.stack([row.thresholds(levels) for row in rows])
    return Staircase(int(rows[0].starts[0]), rows[0].end, low, thresholds, np.array(directions, dtype=np.int64))
