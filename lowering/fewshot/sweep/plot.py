"""The figure: accuracy over bits, by method and shots, with intervals.

matplotlib draws it; the bytes of the SVG depend on its version alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from pefslc.fewshot.data.extra import require_package
from pefslc.fewshot.sweep.cells import Method
from pefslc.fewshot.sweep.rows import Row
from pefslc.fewshot.sweep.setting import Setting

__all__ = ["Series", "figure_files", "series_of"]

_PURPOSE = "the figure of a sweep"
_EXTRA = "sweep"
_INCHES = (6.4, 4.4)
_DPI = 200
# Okabe and Ito's colours, which the colour-blind tell apart; a line style and a marker say the same.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLES = ("--", "-", ":", "-.")  # by shots, in their order
_SETTINGS = {"svg.hashsalt": "pefslc", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}


@dataclass(frozen=True, slots=True)
class Series:
    """One line: (bits, accuracy, half width), ascending in bits, in percent. bits is None for a float network."""

    name: str
    shots: int
    points: tuple[tuple[int | None, float, float], ...]


def series_of(rows: Sequence[Row]) -> tuple[Series, ...]:
    """The lines: a method, a way of choosing formats and its options make one, a float network is a level."""
    found: dict[tuple[str, int], list[tuple[int | None, float, float]]] = {}
    for row in rows:
        for shots, of_shots in row.shots.items():
            point = (row.cell.bits, 100 * of_shots.accuracy.mean, 100 * of_shots.accuracy.half_width)
            found.setdefault((_name(row), shots), []).append(point)
    return tuple(
        Series(name, shots, tuple(sorted(points, key=lambda p: p[0] or 0))) for (name, shots), points in found.items()
    )


def _name(row: Row) -> str:
    cell = row.cell
    if cell.method is Method.FLOAT:
        return row.label
    how = "a format a tensor" if cell.fmt.startswith("auto") else f"one format, {cell.fmt.split('.')[0]}.n"
    options = [f"pruned {cell.prune}"] * (cell.prune is not None) + ["distilled"] * cell.distill
    return ", ".join([f"{cell.method.upper()}, {how}", *options])


def figure_files(rows: Sequence[Row], setting: Setting) -> dict[str, bytes]:
    """{"png": content, "svg": content}. Raises CompileError where matplotlib is missing."""
    matplotlib = require_package("matplotlib", "matplotlib", _PURPOSE, _EXTRA)
    figures = require_package("matplotlib.figure", "matplotlib", _PURPOSE, _EXTRA)
    files = {}
    with matplotlib.rc_context(_SETTINGS):
        figure = figures.Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, series_of(rows))
        m = setting.measurement
        axes.set_xlabel("bits of weights and activations")
        axes.set_ylabel(f"{m.ways}-way accuracy, {m.split} classes of {setting.data.source} [%]")
        axes.grid(True, alpha=0.3, linewidth=0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, framealpha=0.9, loc="best")
        for name, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            content = io.BytesIO()
            figure.savefig(content, format=name, dpi=_DPI, metadata=metadata)
            files[name] = content.getvalue()
    return files


def _draw(axes: object, lines: Sequence[Series]) -> None:
    """`axes` of matplotlib, which has no types here."""
    names = list(dict.fromkeys(line.name for line in lines))
    shots = sorted({line.shots for line in lines})
    widths = sorted({bits for line in lines for bits, _, _ in line.points if bits is not None})
    for line in lines:
        index = names.index(line.name)
        look = {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _STYLES[shots.index(line.shots) % len(_STYLES)],
            "label": f"{line.name}, {line.shots}-shot",
            "linewidth": 1.2,
        }
        if line.points[0][0] is None:
            (_, mean, half), *_ = line.points
            axes.axhline(mean, **look)  # type: ignore[attr-defined]
            axes.axhspan(mean - half, mean + half, color=look["color"], alpha=0.15, linewidth=0)  # type: ignore[attr-defined]
        else:
            bits, means, halves = zip(*line.points, strict=True)
            marker = _MARKERS[index % len(_MARKERS)]
            axes.errorbar(bits, means, yerr=halves, marker=marker, markersize=4, capsize=2, **look)  # type: ignore[attr-defined]
    if widths:
        axes.set_xticks(widths)  # type: ignore[attr-defined]
