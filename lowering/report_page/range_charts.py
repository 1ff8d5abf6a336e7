"""The ranges of all tensors beside those of their formats, on a scale of powers of two: what is too large, what too small.

hls4ml's profiling draws it so: a box for the quartiles of the magnitudes, a line to the least and the largest, and
behind it a bar from the format's step to the largest value that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Any

from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import ModelReport
from pefslc.report_page.cost_charts import short
from pefslc.report_page.theme import Chart, chart, colour_of, new_figure

__all__ = ["draw_ranges", "range_charts", "tensors_of"]

_WIDTH = 330  # points


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
        title = "Weights" if role == "weights" else "Values before they are rounded"
        found.append(chart(figure, role, f"{title}: magnitudes and what the format holds", text))
    return tuple(found)


def draw_ranges(axes: Any, tensors: Sequence[tuple[str, Distribution]], role: str) -> None:
    """A row for each tensor; a box that leaves the bar to the right in red."""
    lows, highs = [], []
    for place, (_, d) in enumerate(tensors):
        low, high = log2(d.step), log2(max(abs(bound) for bound in d.held) or d.step)
        lows.append(low)
        highs.append(high)
        axes.barh(place, high - low, left=low, height=0.78, color=colour_of("range"), linewidth=0)
        if d.magnitudes is None:
            continue
        least, first, middle, third, largest = (log2(m) for m in d.magnitudes)
        shown = max(least, low - 3)
        highs.append(largest)
        lows.append(min(shown, first))
        axes.plot([shown, largest], [place, place], color=colour_of(role), linewidth=0.9, solid_capstyle="butt")
        if shown > least:
            axes.plot([shown], [place], marker="<", markersize=2.6, color=colour_of(role), linestyle="")
        axes.barh(place, max(third - first, 0.04), left=first, height=0.46, color=colour_of(role), alpha=0.75, linewidth=0)
        axes.plot([middle, middle], [place - 0.23, place + 0.23], color=colour_of("surface"), linewidth=1.3)
        if d.clipped:
            axes.plot([max(high, middle), largest], [place, place], color=colour_of("warn"), linewidth=2.2)
    axes.set_yticks(range(len(tensors)), [short(name) for name, _ in tensors])
    axes.tick_params(axis="y", length=0, labelcolor=colour_of("text"))
    axes.set_ylim(len(tensors) - 0.4, -0.6)
    first, last = int(min(lows)) - 1, int(max(highs)) + 1
    axes.set_xlim(first, last)
    step = max(1, -(-(last - first) // 6))
    ticks = [tick for tick in range(first, last + 1) if tick % step == 0]
    axes.set_xticks(ticks, [_power(tick) for tick in ticks])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("magnitude, powers of two", labelpad=1)


def _power(exponent: int) -> str:
    """2 to it, in digits where these are few."""
    if 0 <= exponent <= 10:
        return str(2**exponent)
    return f"1/{2**-exponent}" if -10 <= exponent < 0 else f"2^{exponent}"
