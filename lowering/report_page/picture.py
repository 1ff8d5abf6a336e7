"""The charts of a report as one picture, for a README, a slide or a paper: an SVG that stands alone, on white."""

from __future__ import annotations

from functools import partial
from typing import Any

from pefslc.model_report.model import ModelReport
from pefslc.report_page.cost_charts import costing_rows, draw_cost_bars, draw_roofline, kinds_of
from pefslc.report_page.range_charts import draw_ranges, tensors_of
from pefslc.report_page.theme import KINDS, LIGHT, chart, colour_of, new_figure, role_colours, with_colours

__all__ = ["report_picture"]

_WIDTH, _LEFT = 700, 340  # points: of all, of the costs
_TOP, _BETWEEN, _BOTTOM, _LEGEND, _ROOFLINE = 62, 42, 30, 10, 130
_ROW = 12.5
_NAMESPACE = '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" '


def report_picture(report: ModelReport) -> bytes:
    """What it is and what was proved; to the left the costs by layer, to the right the formats and the roofline."""
    panels: list[tuple[str, float, Any]] = []
    named = {"weights": "weights in their formats", "values": "values before rounding, in their formats"}
    for role, found in tensors_of(report).items():
        if found:
            panels.append((named[role], _ROW * len(found) + 14, partial(draw_ranges, tensors=found, role=role)))
    rows = () if report.costs is None else costing_rows(report.costs)
    bars = _ROW * 1.1 * len(rows) + 10 if rows else 0.0
    left = bars + (_BETWEEN + _LEGEND + _ROOFLINE if report.roofline else 0)
    height = _TOP + max(left, sum(h + _BETWEEN for _, h, _ in panels) - _BETWEEN, 60) + _BOTTOM
    with role_colours():
        figure = new_figure(_WIDTH, height)
        _heading(figure, report, height)
        if rows:
            what = "multiply-accumulates" if report.cycles is None else "modelled cycles"
            axes = _axes(figure, (102, _TOP, _LEFT - 112, bars), height, f"{what} by layer")
            draw_cost_bars(axes, report)
            _legend(figure, report, _TOP + bars + 24, height)
        if report.roofline:
            box = (44, height - _BOTTOM - _ROOFLINE, _LEFT - 54, _ROOFLINE)
            draw_roofline(_axes(figure, box, height, "roofline of the array"), report)
        top = float(_TOP)
        for title, tall, draw in panels:
            draw(_axes(figure, (_LEFT + 106, top, _WIDTH - _LEFT - 118, tall), height, title))
            top += tall + _BETWEEN
        svg = chart(figure, "report", "", _words(report)).svg
    svg = with_colours(svg, LIGHT).replace("<svg ", _NAMESPACE, 1)
    opening = svg.index(">") + 1
    ground = f'<rect width="100%" height="100%" rx="10" fill="{LIGHT["surface"]}"/>'
    return f"{svg[:opening]}{ground}{svg[opening:]}\n".encode()


def _axes(figure: Any, box: tuple[float, float, float, float], height: float, title: str) -> Any:
    """Axes in a box of points from the left upper corner."""
    left, top, width, tall = box
    axes = figure.add_axes((left / _WIDTH, 1 - (top + tall) / height, width / _WIDTH, tall / height))
    axes.set_title(title, fontsize=9, color=colour_of("text"), loc="left", pad=4)
    return axes


def _words(report: ModelReport) -> str:
    where = report.target if report.arch is None else f"{report.target} ({report.arch})"
    words = [f"{report.model} on {where}"]
    ms = report.milliseconds
    if report.cycles is not None:
        words.append(f"{report.cycles:,} modelled cycles" + (f", {ms:,.2f} ms" if ms else ""))
    return ": ".join([", ".join(words), report.verdict])


def _heading(figure: Any, report: ModelReport, height: float) -> None:
    where, _, proved = _words(report).partition(": ")
    figure.text(14 / _WIDTH, 1 - 20 / height, where, fontsize=12, fontweight="bold", color=colour_of("text"))
    colour = colour_of("kind4" if report.exact else "values")
    figure.text(14 / _WIDTH, 1 - 35 / height, proved, fontsize=9.5, color=colour)


def _legend(figure: Any, report: ModelReport, top: float, height: float) -> None:
    """The kinds of cycles, at so many points from the top."""
    if report.costs is None or not report.costs.total.total_cycles:
        return
    x = 14.0
    for kind, role in zip(kinds_of(report.costs), KINDS, strict=False):
        figure.text(x / _WIDTH, 1 - top / height, "\u25a0", fontsize=9, color=colour_of(role))
        figure.text((x + 9) / _WIDTH, 1 - (top - 0.5) / height, kind, fontsize=7.5, color=colour_of("quiet"))
        x += 16 + 4.9 * len(kind)
