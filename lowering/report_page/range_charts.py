"""The magnitudes of all tensors beside what their formats hold, in powers of two: what is too large, what too small.

hls4ml's profiling draws it so: a box for the quartiles of the magnitudes, a line to the least and the largest, and
behind it a bar from the format's step to the largest value that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import ModelReport
from pefslc.report_page.cost_charts import short
from pefslc.report_page.theme import Chart, chart, colour_of, name_rows, new_figure

__all__ = ["draw_ranges", "range_charts", "tensors_of"]

_WIDTH = 330  # points
_BELOW = 3  # halvings of a format's step that are shown


def tensors_of(report: ModelReport) -> dict[str, list[tuple[str, Distribution]]]:
    """Role -> (name, distribution) of each tensor that is known, in order."""
    weights = [(layer.row.layer, layer.weights) for layer in report.layers if layer.weights is not None]
    values = [(i.name, i.values) for i in report.inputs if i.values is not None]
    values += [(layer.row.layer, layer.values) for layer in report.layers if layer.values is not None]
    return {"weights": weights, "values": values}


def range_charts(report: ModelReport) -> tuple[Chart, ...]:
    """Of weights, and of values where inputs were given."""
    found = []
    for role, tensors in tensors_of(report).items():
        if not tensors:
            continue
        figure = new_figure(_WIDTH, 36 + 12.5 * len(tensors))
        height = figure.get_figheight() * 72
        axes = figure.add_axes((0.34, 26 / height, 0.63, 1 - 30 / height))
        draw_ranges(axes, tensors, role)
        clipped = sum(1 for _, d in tensors if d.clipped)
        saturate = f"{clipped} of {len(tensors)} saturate" if clipped else "none saturates"
        idle = sum(1 for _, d in tensors if d.idle_bits >= 1)
        text = f"Magnitudes of {role} beside the range of their format: {saturate}, {idle} leave a bit or more unused"
        title = "Weights" if role == "weights" else "Values before rounding"
        found.append(chart(figure, role, title, text))
    return tuple(found)


def draw_ranges(axes: Any, tensors: Sequence[tuple[str, Distribution]], role: str) -> None:
    """A row for each tensor; what leaves the format's bar to the right is red."""
    places = range(len(tensors))
    lows = [log2(d.step) for _, d in tensors]
    highs = [log2(max(abs(bound) for bound in d.held) or d.step) for _, d in tensors]
    axes.barh(places, [h - low for h, low in zip(highs, lows, strict=True)], left=lows, height=0.78,
              color=colour_of("range"), linewidth=0)  # fmt: skip
    boxes = [_Box.of(place, d) for place, (_, d) in enumerate(tensors) if d.magnitudes is not None]
    colour = colour_of(role)
    rows = [box.place for box in boxes]
    axes.hlines(rows, [box.shown for box in boxes], [box.largest for box in boxes], color=colour, linewidth=0.9)
    cut = [box for box in boxes if box.is_cut]
    if cut:
        axes.plot([b.shown for b in cut], [b.place for b in cut], "<", markersize=2.6, color=colour)
    axes.barh(rows, [max(box.third - box.first, 0.04) for box in boxes], left=[box.first for box in boxes],
              height=0.46, color=colour, alpha=0.75, linewidth=0)  # fmt: skip
    middles = [box.middle for box in boxes]
    axes.vlines(middles, [r - 0.23 for r in rows], [r + 0.23 for r in rows], color=colour_of("surface"), linewidth=1.3)
    over = [box for box in boxes if box.clips]
    if over:
        ends = [max(highs[box.place], box.middle) for box in over]
        axes.hlines([b.place for b in over], ends, [b.largest for b in over], color=colour_of("warn"), linewidth=2.2)
    highs += [box.largest for box in boxes]
    lows += [min(box.shown, box.first) for box in boxes]
    name_rows(axes, [short(name) for name, _ in tensors])
    first, last = int(min(lows)) - 1, int(max(highs)) + 1
    axes.set_xlim(first, last)
    step = max(1, -(-(last - first) // 6))
    ticks = [tick for tick in range(first, last + 1) if tick % step == 0]
    axes.set_xticks(ticks, [_power(tick) for tick in ticks])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("magnitude, powers of two", labelpad=1)


@dataclass(frozen=True, slots=True)
class _Box:
    """Of one tensor, in powers of two. The line begins at `shown`, not far below the format's step."""

    place: int
    shown: float
    is_cut: bool
    first: float
    middle: float
    third: float
    largest: float
    clips: bool

    @classmethod
    def of(cls, place: int, d: Distribution) -> _Box:
        assert d.magnitudes is not None
        least, first, middle, third, largest = (log2(m) for m in d.magnitudes)
        shown = max(least, min(log2(d.step) - _BELOW, first))
        return cls(place, shown, shown > least, first, middle, third, largest, bool(d.clipped))


def _power(exponent: int) -> str:
    """2 to it, in digits where these are few."""
    if 0 <= exponent <= 10:
        return str(2**exponent)
    return f"1/{2**-exponent}" if -10 <= exponent < 0 else f"2^{exponent}"
