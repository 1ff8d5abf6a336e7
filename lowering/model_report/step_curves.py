"""What a requantization computes, as few enough points to be drawn: accumulator code to code of the result.

A staircase has a threshold for each step and channel. One channel is listed, the middle one, and of all the others how
far to the left and to the right of it their thresholds lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.ir.integer import Lookup, Requantize, Round
from pefslc.ir.summary import stage_text
from pefslc.numeric.staircase import Staircase

__all__ = ["StepCurve", "step_curve_of"]

Codes = NDArray[np.int64]

_MOST_POINTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCurve:
    """A function of accumulator codes in [low, high] that is constant between `at`.

    stages    what was merged into it, in order: "affine", "relu"; the quantizer is its end
    channels  how many functions there are: 1 where all channels share one
    channel   the one that is shown
    start     its code at `low`
    at        [points] accumulator codes, ascending, at which the code changes; `codes` [points] it is from there on
    least, most  [points] of all channels that rise as this one does, the lowest and the highest code at which the step
              is taken; empty where there is one channel
    left_out  how many of the channel's steps lie between the points
    """

    low: int
    high: int
    stages: tuple[str, ...]
    channels: int
    channel: int
    start: int
    at: tuple[int, ...]
    codes: tuple[int, ...]
    least: tuple[int, ...] = ()
    most: tuple[int, ...] = ()
    left_out: int = 0

    def to_json(self) -> JsonObject:
        return {
            "domain": [self.low, self.high],
            "stages": list(self.stages),
            "channels": self.channels,
            "channel": self.channel,
            "code_at_start": self.start,
            "steps_at": list(self.at),
            "codes": list(self.codes),
            "earliest": list(self.least),
            "latest": list(self.most),
            "steps_left_out": self.left_out,
        }


def step_curve_of(op: Requantize | Lookup | Round) -> StepCurve | None:
    """The curve of an operation; None of one whose steps nobody lists (`numeric.line`)."""
    match op:
        case Requantize():
            return _of_staircase(op.staircase)
        case Lookup():
            return _of_table(op.low, op.table.data)
        case Round():
            return None


def _of_staircase(staircase: Staircase) -> StepCurve:
    stages = () if staircase.chains is None else tuple(map(stage_text, staircase.chains.stages))
    rising = staircase.direction == staircase.direction[0]
    if staircase.has_many_steps:
        shown, rows = 0, staircase.rows(0, 1)
    else:
        candidates = np.flatnonzero(rising)
        rows = staircase.thresholds[candidates]
        middle = np.argsort(rows[:, rows.shape[1] // 2], kind="stable")[len(candidates) // 2] if rows.shape[1] else 0
        shown, rows = int(candidates[middle]), np.concatenate([rows[middle : middle + 1], rows])
    up = int(staircase.direction[shown]) > 0
    points, codes = rows[0], staircase.low + staircase.step * np.arange(1, rows.shape[1] + 1)
    start = staircase.low
    if not up:  # from high codes to low ones: a step is taken at or below its threshold
        points, codes, start = points[::-1] + 1, (codes - staircase.step)[::-1], int(codes[-1]) if len(codes) else start
        rows = rows[:, ::-1] + 1
    inside = (points > staircase.domain_low) & (points <= staircase.domain_high)
    before = int(np.count_nonzero(points <= staircase.domain_low))
    start = int(codes[before - 1]) if before else start
    kept = _few(np.flatnonzero(inside))
    several = len(rows) > 1 and staircase.channels > 1
    return StepCurve(
        low=staircase.domain_low,
        high=staircase.domain_high,
        stages=stages,
        channels=staircase.channels,
        channel=shown,
        start=start,
        at=_tuple(points[kept]),
        codes=_tuple(codes[kept]),
        least=_tuple(rows.min(axis=0)[kept]) if several else (),
        most=_tuple(rows.max(axis=0)[kept]) if several else (),
        left_out=int(np.count_nonzero(inside)) - len(kept),
    )


def _of_table(low: int, table: Codes) -> StepCurve:
    row = table[0]
    changes = np.flatnonzero(row[1:] != row[:-1]) + 1
    kept = _few(changes)
    return StepCurve(
        low=low,
        high=low + len(row) - 1,
        stages=("table",),
        channels=len(table),
        channel=0,
        start=int(row[0]),
        at=_tuple(kept + low),
        codes=_tuple(row[kept]),
        left_out=len(changes) - len(kept),
    )


def _few(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    """All of them, or some that are spread evenly, the first and the last among them."""
    if len(indices) <= _MOST_POINTS:
        return indices
    return indices[np.rint(np.linspace(0, len(indices) - 1, _MOST_POINTS)).astype(np.intp)]


def _tuple(codes: Codes | NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(codes.tolist())
