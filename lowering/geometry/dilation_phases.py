"""A convolution over a dilated input as ordinary convolutions that do not see the inserted zeros.

With zeros between the pixels, a tap lies on pixels only at every so many positions of the output. Positions that are
input_dilations apart see pixels with the same taps: each such *phase* is a convolution of the input itself with a part
of the kernel. A 4 x 4 kernel over pixels two apart has four phases of 2 x 2 taps (Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016, chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from pefslc.geometry.shapes import Window

__all__ = ["Phase", "phases", "taps_together"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """The positions of the output that see pixels with the same taps.

    rows, columns              of the output
    tap_rows, tap_columns      of the kernel; where either is empty, so is the sum
    window                     over the input itself, for these positions; of one tap where an axis has none
    """

    rows: range
    columns: range
    tap_rows: range
    tap_columns: range
    window: Window

    @property
    def has_taps(self) -> bool:
        return bool(self.tap_rows and self.tap_columns)

    @property
    def taps(self) -> tuple[slice, slice]:
        """The phase's part of a kernel [..., KH, KW]."""
        return _slice(self.tap_rows), _slice(self.tap_columns)


def taps_together(window: Window) -> tuple[tuple[slice, slice], ...]:
    """The parts of a kernel [..., KH, KW] whose taps see pixels together: what a sum is made of, at most."""
    every = _every(window, 0), _every(window, 1)
    rows, columns = ([slice(k, None, e) for k in range(min(e, n))] for e, n in zip(every, window.kernel, strict=True))
    return tuple((row, column) for row in rows for column in columns)


def phases(window: Window, height: int, width: int) -> tuple[Phase, ...]:
    """The phases of a window over an input of this size: they part its output, and their taps its kernel.

    An ordinary window is its own only phase.
    """
    rows, columns = (_axis_phases(window, axis, (height, width)) for axis in (0, 1))
    if not window.dilates_input:
        (row,), (column,) = rows, columns
        return (Phase(rows=row.at, columns=column.at, tap_rows=row.taps, tap_columns=column.taps, window=window),)
    return tuple(
        Phase(
            rows=row.at,
            columns=column.at,
            tap_rows=row.taps,
            tap_columns=column.taps,
            window=Window(
                kernel=(max(len(row.taps), 1), max(len(column.taps), 1)),
                dilations=(row.dilation, column.dilation),
                pads=(row.before, column.before, row.after, column.after),
            ),
        )
        for row in rows
        for column in columns
    )


@dataclass(frozen=True, slots=True)
class _AxisPhase:
    """A phase along one axis: positions of the output, taps, and the dilation and pads with which these see pixels."""

    at: range
    taps: range
    dilation: int
    before: int
    after: int


def _axis_phases(window: Window, axis: int, size: tuple[int, int]) -> list[_AxisPhase]:
    count, kernel, dilation = window.output_size(*size)[axis], window.kernel[axis], window.dilations[axis]
    before, after, apart = window.pads[axis], window.pads[axis + 2], window.input_dilations[axis]
    if apart == 1:
        return [_AxisPhase(range(count), range(kernel), dilation, before, after)]
    every = _every(window, axis)
    found = []
    for first in range(min(apart, count)):
        at = range(first, count, apart)
        start = next((k for k in range(min(every, kernel)) if (first - before + k * dilation) % apart == 0), kernel)
        taps = range(start, kernel, every)
        between = dilation * every // apart
        pad = -((first - before + start * dilation) // apart) if taps else 0
        extent = (max(len(taps), 1) - 1) * between + 1
        found.append(_AxisPhase(at, taps, between, pad, len(at) - 1 + extent - pad - size[axis]))
    return found


def _every(window: Window, axis: int) -> int:
    """How far apart along the kernel are the taps that see pixels at the same positions."""
    return window.input_dilations[axis] // gcd(window.input_dilations[axis], window.dilations[axis])


def _slice(taps: range) -> slice:
    return slice(taps.start, taps.stop, taps.step)
