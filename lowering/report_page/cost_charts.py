"""Charts of the costs: cycles by layer and kind, MACs by layer, the roofline of the array."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import numpy as np

from pefslc.artifacts.costs import CostReport, LayerCost
from pefslc.model_report.model import ModelReport
from pefslc.report_page.theme import KINDS, Chart, chart, colour_of, name_rows, new_figure

__all__ = ["cost_bars", "costing_rows", "draw_cost_bars", "draw_roofline", "kinds_of", "roofline"]

_WIDTH = 330  # points
_LABEL = 22  # characters
_SIDES = (-0.36, -0.36, 0.36, 0.36)  # of a bar, rows
_APART = (0.22, 0.12)  # powers of ten, to the side and upwards: so much room takes a label


def kinds_of(costs: CostReport) -> tuple[str, ...]:
    """What cycles go to, the largest part first: the order of their colours."""
    cycles = costs.total.cycles
    return tuple(sorted(cycles, key=lambda kind: -cycles[kind]))


def short(name: str, longest: int = _LABEL) -> str:
    """A layer's name; of a long one the end, which tells most."""
    return name if len(name) <= longest else f"\u2026{name[1 - longest :]}"


def _row_name(report: ModelReport, row: LayerCost) -> str:
    """The number and the name of its first layer, and how many others are computed with it."""
    assert report.costs is not None
    index = report.costs.layers.index(row)
    layers = [(number, layer.row.layer) for number, layer in enumerate(report.layers, 1) if layer.cost == index]
    if not layers:
        return short(row.layer)
    number, name = layers[0]
    more = f" +{len(layers) - 1}" if len(layers) > 1 else ""
    return f"{number}  {short(name, _LABEL - 3 - len(more))}{more}"


def cost_bars(report: ModelReport) -> Chart | None:
    """A bar for each row, its cycles by kind; of a target that models none, its multiply-accumulates. None without."""
    costs = report.costs
    rows = () if costs is None else costing_rows(costs)
    if costs is None or not rows:
        return None
    figure = new_figure(_WIDTH, 34 + 13.5 * len(rows))
    height = figure.get_figheight() * 72
    axes = figure.add_axes((0.34, 18 / height, 0.62, 1 - 22 / height))
    draw_cost_bars(axes, report)
    total = costs.total
    if total.total_cycles is None:
        most = max(rows, key=lambda row: row.macs)
        text = f"{total.macs:,} multiply-accumulates; the most, {most.macs:,}, in {most.layer}"
        return chart(figure, "costs", "Multiply-accumulates by layer", text)
    most = max(rows, key=lambda row: row.total_cycles or 0)
    share = (most.total_cycles or 0) / max(total.total_cycles, 1)
    kind = kinds_of(costs)[0]
    text = (
        f"{total.total_cycles:,} modelled cycles; the most, {share:.0%}, in {most.layer}; "
        f"{total.cycles[kind] / max(total.total_cycles, 1):.0%} of all go to {kind}"
    )
    return chart(figure, "costs", "Modelled cycles by layer", text)


def draw_cost_bars(axes: Any, report: ModelReport) -> None:
    """The bars on axes."""
    costs = report.costs
    assert costs is not None
    rows = costing_rows(costs)
    places = np.arange(len(rows))
    if costs.total.total_cycles is None:
        axes.barh(places, [row.macs for row in rows], height=0.72, color=colour_of("accent"), linewidth=0)
    else:
        from matplotlib.collections import PolyCollection

        left = np.zeros(len(rows))
        for kind, role in zip(kinds_of(costs), KINDS, strict=False):
            right = left + [row.cycles.get(kind, 0) for row in rows]
            corners = [
                np.stack([x, places + y], axis=1) for x, y in zip((left, right, right, left), _SIDES, strict=True)
            ]
            bars = np.stack(corners, axis=1)[right > left]  # one collection: as many bars would each take their time
            axes.add_collection(PolyCollection(bars.tolist(), facecolors=colour_of(role), linewidths=0))
            left = right
        axes.set_xlim(0, 1.03 * float(left.max()))
    name_rows(axes, [_row_name(report, row) for row in rows])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))


def costing_rows(costs: CostReport) -> Sequence[LayerCost]:
    """Those that cost anything."""
    modelled = costs.total.total_cycles is not None
    return [row for row in costs.layers if (row.total_cycles if modelled else row.macs)]


def short_number(value: float) -> str:
    """1.2k, 30k, 4M."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def roofline(report: ModelReport) -> Chart | None:
    """The roofline; None where the target models no array."""
    points = report.roofline
    if report.costs is None or not points:
        return None
    figure = new_figure(_WIDTH, 190)
    axes = figure.add_axes((0.12, 0.17, 0.84, 0.78))
    draw_roofline(axes, report)
    share = report.costs.peak_share(report.costs.total)
    text = (
        f"The array reaches {0 if share is None else share:.0%} of its peak of {report.costs.peak_macs} MACs a cycle; "
        f"DRAM moves {report.bytes_per_cycle} bytes a cycle at most"
    )
    return chart(figure, "roofline", "Roofline of the array", text)


def draw_roofline(axes: Any, report: ModelReport) -> None:
    """The roof, and a numbered dot for each row that multiplies; at the right edge those that move no byte."""
    costs, bus = report.costs, report.bytes_per_cycle
    assert costs is not None
    assert bus is not None
    assert costs.peak_macs is not None
    points = report.roofline
    known = [p.macs_per_byte for p in points if p.macs_per_byte is not None]
    ridge = costs.peak_macs / bus
    low = min([*known, ridge]) / 2
    high = max([*known, ridge]) * 3
    bottom = min([p.macs_per_cycle for p in points] + [costs.peak_macs / 8]) / 1.6
    axes.set_xscale("log")
    axes.set_yscale("log")
    x = np.array([low, ridge, high])
    axes.plot(x, np.minimum(x * bus, costs.peak_macs), color=colour_of("quiet"), linewidth=1.2)
    axes.fill_between(x, np.minimum(x * bus, costs.peak_macs), bottom, color=colour_of("range"), alpha=0.4, linewidth=0)
    places, areas = [], []
    for point in points:
        where = min(point.macs_per_byte or high / 1.25, high / 1.25)
        area = 14 + 260 * (costs.layers[point.cost].total_cycles or 0) / max(costs.total.total_cycles or 1, 1)
        places.append((where, point.macs_per_cycle))
        areas.append(area)
    axes.scatter(*zip(*places, strict=True), s=areas, color=colour_of("accent"), alpha=0.5, linewidths=0)
    for number in _apart(places, areas):
        axes.annotate(
            report.layer_number(points[number].cost), places[number], xytext=(0.5 * areas[number] ** 0.5 + 1, -2.5),
            textcoords="offset points", fontsize=7, color=colour_of("text"),
        )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, costs.peak_macs * 1.5)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.annotate(
        f"peak: {costs.peak_macs} MACs a cycle", (high, costs.peak_macs), xytext=(-2, 3), textcoords="offset points",
        ha="right", fontsize=7, color=colour_of("quiet"),
    )  # fmt: skip
    axes.set_xlabel("useful MACs for each byte of DRAM", labelpad=1)
    axes.set_ylabel("useful MACs a cycle", labelpad=1)


def _apart(places: Sequence[tuple[float, float]], areas: Sequence[float]) -> list[int]:
    """The dots that get a label: from the largest on, those whose label touches none that is there already."""
    kept: list[int] = []
    logs = [(log10(x), log10(y)) for x, y in places]
    for number in sorted(range(len(places)), key=lambda n: -areas[n]):
        x, y = logs[number]
        if all(abs(x - logs[k][0]) > _APART[0] or abs(y - logs[k][1]) > _APART[1] for k in kept):
            kept.append(number)
    return kept
