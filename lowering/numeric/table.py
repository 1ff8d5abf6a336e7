"""Lookup tables: the exact meaning of a function and its Quant on every code of a small domain.

For functions that are no staircases: SiLU falls before it rises. Where the table does rise or fall, it is a staircase;
where it turns once, on many codes, see `turning`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import WIDENING, FloatArithmetic, Interval, enclose
from pefslc.numeric.expression import Function
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.runs import Runs, staircase_of_runs
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Stage, chain_expression, direction
from pefslc.numeric.staircase import Staircase, is_uniform

__all__ = ["codes_within", "staircase_of_table", "table_of"]

Codes = NDArray[np.int64]

_MOST_OUTPUT_CODES = 1 << 24  # the bounds of each are listed


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
    least, most = (np.broadcast_to(codes, domain.shape) for codes in codes_within(y, quantizer, channel))
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


def codes_within(y: Interval[NDArray[np.float64]], quantizer: Quantizer, channel: int) -> tuple[Codes, Codes]:
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
    return staircase_of_runs([Runs.of(row, domain_low) for row in table])
