"""Requantizations that bend at 0 (LeakyRelu): two straight ones, added.

    y = staircase(a)    ==>    below = its steps up to code 0 of a,  above = its steps from there on,  y = below + above

A rewrite of the integer graph, exact by construction, done where no line takes every step, and two of the TCU's miss
fewer codes than one. What the target reports of both parts is brought back to the operation that the model has
(`outcome`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize, Sum
from pefslc.ir.value import Op, Value
from pefslc.numeric.deviation import deviations_of
from pefslc.numeric.requantize import bent_parts, fit_affine_shift, line_corners, takes_line
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import fit_channels, may_be_straight

__all__ = ["Bends", "merged", "split_bends"]

_NO_LINE = 1 << 40


@dataclass(frozen=True, slots=True)
class Bends:
    """The graph to lower; by the result of each operation that was split, both parts."""

    graph: Graph
    parts: Mapping[str, tuple[Requantize, Requantize]] = field(default_factory=dict)


def split_bends(graph: Graph, data_type: DataType) -> Bends:
    """The graph with every bent requantization as the sum of two."""
    parts: dict[str, tuple[Requantize, Requantize]] = {}
    ops: list[Op] = []
    for op in graph.ops:
        if not isinstance(op, Requantize) or not _is_bent(op, data_type):
            ops.append(op)
            continue
        below, above = (_part(op, name, part) for name, part in zip(_NAMES, bent_parts(op.staircase), strict=True))
        parts[op.result.name] = below, above
        ops += [below, above, Sum(result=op.result, lhs=below.result, rhs=above.result)]
    return Bends(graph.with_ops(ops), parts)


_NAMES = (".below", ".above")


def _is_bent(op: Requantize, data_type: DataType) -> bool:
    staircase = op.staircase
    if staircase.step != 1 or not staircase.low < 0 < staircase.high or op.result.type.codes.zero_point:
        return False
    if staircase.has_many_steps and staircase.chains is not None and not staircase.chains.may_bend:
        return False  # few steps with ties, half to even, may still be two lines and not one
    corners = line_corners(staircase)
    # Of many steps, straight with any multiplier: then there is nothing to search.
    if fit_affine_shift(staircase) is not None if corners is None else takes_line(staircase, corners):
        return False
    by_two = sum(_missed(part, data_type) for part in bent_parts(staircase))
    if by_two == 0 and not may_be_straight(staircase, *_domain(staircase), data_type, corners):
        return True  # without a search for a line that cannot be
    return by_two < _missed(staircase, data_type)


def _missed(staircase: Staircase, data_type: DataType) -> int:
    """By how much all codes together are off where one line implements the staircase."""
    low, high = _domain(staircase)
    found = fit_channels(staircase, low, high, 0, data_type, corners=line_corners(staircase))
    if found is None:
        return _NO_LINE
    return sum(abs(d.by) * d.codes for d in deviations_of(staircase, found.computed, low, high).found)


def _domain(staircase: Staircase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All codes, in each channel."""
    low, high = (np.full(staircase.channels, end) for end in (staircase.domain_low, staircase.domain_high))
    return low, high


def _part(op: Requantize, name: str, staircase: Staircase) -> Requantize:
    codes = replace(op.result.type.codes, low=staircase.low, high=staircase.high)
    result = Value(op.result.name + name, replace(op.result.type, element=codes), op.result.origin)
    return Requantize(result=result, input=op.input, staircase=staircase)


def merged(whole: Staircase, below: Staircase, above: Staircase) -> Staircase:
    """The sum of what both parts compute, with the codes of `whole`.

    The code is the lowest one and the number of thresholds passed, whichever part they are of.
    """
    parts = [_widened(below, whole, whole.low, 0), _widened(above, whole, 0, whole.high)]
    sign = whole.direction[:, None]
    thresholds = np.sort(np.concatenate(parts, axis=1) * sign, axis=1) * sign
    return replace(whole, thresholds=thresholds, chains=None)


def _widened(part: Staircase, whole: Staircase, low: int, high: int) -> NDArray[np.int64]:
    """The thresholds of all codes from low to high: those that the part never passes lie beyond the domain."""
    channels = whole.channels
    rising = whole.direction[:, None] > 0
    always = np.where(rising, whole.domain_low, whole.domain_high).astype(np.int64)
    never = np.where(rising, whole.domain_high + 1, whole.domain_low - 1).astype(np.int64)
    thresholds = np.broadcast_to(part.thresholds, (channels, part.steps))
    before, after = np.repeat(always, part.low - low, axis=1), np.repeat(never, high - part.high, axis=1)
    return np.concatenate([before, thresholds, after], axis=1)
