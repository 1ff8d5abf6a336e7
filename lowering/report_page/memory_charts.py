"""Charts of the memories over a run: what the array holds, what moves to and from DRAM, where buffers of C code lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from pefslc.artifacts.costs import MemoryBlock, Timeline
from pefslc.model_report.model import ModelReport
from pefslc.report_page.cost_charts import short_number
from pefslc.report_page.theme import Chart, chart, colour_of, grounds, new_figure, steps

__all__ = ["arena_chart", "memory_charts"]

_WIDTH, _WIDE = 250, 330  # points


def memory_charts(report: ModelReport) -> tuple[Chart, ...]:
    """What is known of the memories over a run."""
    lines = [t for t in report.timelines if any(t.values)]
    charts = []
    if report.blocks:
        charts.append(arena_chart(report))
    else:
        charts += [_held(report, t, f"memory{i}") for i, t in enumerate(lines) if not t.moves]
    moving = [t for t in lines if t.moves]
    if moving:
        charts.append(_traffic(report, moving))
    return tuple(charts)


def _axes(figure: Any) -> Any:
    axes = figure.add_axes((0.13, 0.22, 0.84, 0.68))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _bands(axes: Any, report: ModelReport, end: int) -> None:
    """Every other row of the costs on a ground, with the number of its layer where there is room."""
    begins = sorted((b, i) for i, b in enumerate(report.begins) if b is not None)
    ends = [b for b, _ in begins[1:]] + [end]
    shaded: list[tuple[float, float]] = []
    for shade, ((begin, row), stop) in enumerate(zip(begins, ends, strict=True)):
        if shade % 2:
            shaded.append((begin, stop))
        if stop - begin > 0.035 * end:
            axes.text(
                (begin + stop) / 2, 1.01, report.layer_number(row), transform=axes.get_xaxis_transform(), ha="center",
                va="bottom", fontsize=6.5, color=colour_of("quiet"),
            )  # fmt: skip
    grounds(axes, shaded)


def _held(report: ModelReport, line: Timeline, name: str) -> Chart:
    size = next(m.available for m in report.costs.memories if m.name == line.memory) if report.costs else 0
    figure = new_figure(_WIDTH, 112)
    axes = _axes(figure)
    _bands(axes, report, line.end)
    edges = np.linspace(0, line.end, len(line.values) + 1)
    steps(axes, line.values, edges, "accent", alpha=0.75)
    most = max(line.values)
    top = size if most > size / 6 else 1.6 * most
    if top == size:
        axes.axhline(size, color=colour_of("quiet"), linewidth=0.9, linestyle=(0, (4, 2)))
    _finish(axes, line, 1.06 * top)
    text = f"{line.memory}: at most {most:,} of {size:,} {line.unit} hold what is needed later"
    return chart(figure, name, f"{line.memory.capitalize()}: {line.unit} in use, of {size:,}", text)


def _traffic(report: ModelReport, lines: list[Timeline]) -> Chart:
    figure = new_figure(_WIDTH, 112)
    axes = _axes(figure)
    end = lines[0].end
    _bands(axes, report, end)
    below = np.zeros(len(lines[0].values))
    each = end / len(below)
    for line, role in zip(lines, ("kind2", "accent"), strict=False):
        rate = np.array(line.values) / each
        edges = np.linspace(0, end, len(rate) + 1)
        steps(axes, below + rate, edges, role, baseline=below, alpha=0.8)
        below = below + rate
    if report.bytes_per_cycle:
        axes.axhline(report.bytes_per_cycle, color=colour_of("quiet"), linewidth=0.9, linestyle=(0, (4, 2)))
    _finish(axes, lines[0], 1.08 * max(report.bytes_per_cycle or 0, float(below.max())))
    moved = " and ".join(f"{line.memory} {sum(line.values):,} bytes" for line in lines)
    text = f"{moved}; the bus moves at most {report.bytes_per_cycle} bytes a cycle"
    return chart(figure, "traffic", f"{' and '.join(line.memory for line in lines)}: bytes a cycle", text)


def _finish(axes: Any, line: Timeline, top: float) -> None:
    axes.set_xlim(0, line.end)
    axes.set_ylim(0, top)
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_xlabel(line.time_unit, labelpad=1)


def arena_chart(report: ModelReport) -> Chart:
    """Buffers as rectangles, steps to the right, addresses upwards."""
    blocks = report.blocks
    steps = 1 + max(b.last for b in blocks)
    size = max(b.offset + b.size for b in blocks)
    figure = new_figure(_WIDE, 190)
    axes = figure.add_axes((0.13, 0.15, 0.84, 0.8))
    axes.spines[["top", "right"]].set_visible(False)
    for number, block in enumerate(blocks):
        _block(axes, block, ("kind0", "kind2", "kind4", "kind3")[number % 4], size, steps)
    axes.set_xlim(0, steps)
    axes.set_ylim(0, 1.04 * size)
    axes.locator_params(axis="x", nbins=8, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_xlabel("steps of the program", labelpad=1)
    axes.set_ylabel("bytes", labelpad=1)
    most = max((max(t.values) for t in report.timelines if t.memory == blocks[0].memory), default=0)
    text = f"{len(blocks)} buffers in {size:,} bytes; at most {most:,} hold something during one step"
    return chart(figure, "arena", "Working memory over one run", text)


def _block(axes: Any, block: MemoryBlock, role: str, size: int, steps: int) -> None:
    from matplotlib.patches import Rectangle

    width, height = block.last - block.first + 1, block.size
    place = (block.first, block.offset)
    axes.add_patch(
        Rectangle(
            place, width, height, facecolor=colour_of(role), alpha=0.55, edgecolor=colour_of("surface"), linewidth=0.8
        )
    )
    if height > 0.05 * size and width > 0.05 * steps:
        middle = (block.first + width / 2, block.offset + height / 2)
        axes.text(*middle, block.name, ha="center", va="center", fontsize=6.5, color=colour_of("text"))
