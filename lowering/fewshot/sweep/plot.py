"""The figure: accuracy over bits, by method and shots, with intervals.

matplotlib draws it; the bytes of the SVG depend on its version alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pefslc.fewshot.data.extra import require_package
from pefslc.fewshot.sweep.cells import Method
from pefslc.fewshot.sweep.rows import Row
from pefslc.fewshot.sweep.setting import Setting

__all__ = ["Series", "figure_files", "require_plot", "series_of"]

_PURPOSE = "the figure of a sweep"
_EXTRA = "sweep"
_WIDTH, _HEIGHT, _LEGEND_LINE = 6.4, 4.2, 0.16  # inches
_DPI = 200
# Okabe and Ito's colours, which the colour-blind tell apart; a line style and a marker say the same.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREYS = ("0.0", "0.45", "0.7")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DODGE = 0.05  # bits between lines
_DEAD = {"marker": "x", "color": "0.3", "linestyle": "", "markersize": 6}
_MOST_NAMED = 3
_STYLES = ("--", "-", ":", "-.")  # by shots, in their order
_SETTINGS = {"svg.hashsalt": "pefslc", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}


@dataclass(frozen=True, slots=True)
class Series:
    """One line: (bits, accuracy, half width), ascending in bits, in percent. bits is None for a float network."""

    name: str
    shots: int
    points: tuple[tuple[int | None, float, float], ...]

    @property
    def is_level(self) -> bool:
        return self.points[0][0] is None


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
    kinds = {"auto": "a format a tensor", "mixed": "bits shared out"}
    how = kinds.get(cell.fmt.split(":")[0]) or f"one format, {cell.fmt.split('.')[0]}.n"
    options = [f"pruned {cell.prune}"] * (cell.prune is not None) + ["distilled"] * cell.distill
    return ", ".join([f"{cell.method.upper()}, {how}", *options])


def require_plot() -> None:
    """Demand matplotlib. Raises CompileError."""
    require_package("matplotlib.figure", "matplotlib", _PURPOSE, _EXTRA)


def figure_files(rows: Sequence[Row], setting: Setting) -> dict[str, bytes]:
    """{"png": content, "svg": content}. Raises CompileError where matplotlib is missing."""
    matplotlib = require_package("matplotlib", "matplotlib", _PURPOSE, _EXTRA)
    figures = require_package("matplotlib.figure", "matplotlib", _PURPOSE, _EXTRA)
    files = {}
    with matplotlib.rc_context(_SETTINGS):
        lines = series_of(rows)
        looks = _looks(lines)
        # The legend has a line for two names, below the axes.
        figure = figures.Figure(figsize=(_WIDTH, _HEIGHT + _LEGEND_LINE * len(looks) / 2), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, lines, looks)
        _mark_dead(axes, rows)
        axes.set_xticks(sorted({row.cell.bits for row in rows if row.cell.bits is not None}))
        m = setting.measurement
        axes.set_xlabel("bits of weights and activations")
        axes.set_ylabel(f"{m.ways}-way accuracy, {m.split} classes of {setting.data.source} [%]")
        axes.grid(True, alpha=0.3, linewidth=0.5)
        if lines:
            figure.legend(handles=_handles(lines, looks, rows), loc="outside lower center", ncols=2, fontsize=7)
        for name, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            content = io.BytesIO()
            figure.savefig(content, format=name, dpi=_DPI, metadata=metadata)
            files[name] = content.getvalue()
    return files


def _looks(lines: Sequence[Series]) -> dict[str, dict[str, str]]:
    """Colour and marker of each name; float networks are grey, from black on."""
    levels = list(dict.fromkeys(line.name for line in lines if line.is_level))
    others = list(dict.fromkeys(line.name for line in lines if not line.is_level))
    looks = {name: {"color": _GREYS[i % len(_GREYS)], "marker": ""} for i, name in enumerate(levels)}
    for i, name in enumerate(others):
        looks[name] = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
    return looks


def _draw(axes: Any, lines: Sequence[Series], looks: Mapping[str, Mapping[str, str]]) -> None:
    shots = sorted({line.shots for line in lines})
    dodged = [name for name, look in looks.items() if look["marker"]]
    for line in lines:
        style = {"linestyle": _STYLES[shots.index(line.shots) % len(_STYLES)], "linewidth": 1.2}
        look = looks[line.name]
        if line.is_level:
            ((_, mean, half),) = line.points
            axes.axhline(mean, color=look["color"], **style)
            axes.axhspan(mean - half, mean + half, color=look["color"], alpha=0.12, linewidth=0)
            continue
        # Points of one width beside each other, so that their intervals can be seen.
        shift = _DODGE * (dodged.index(line.name) - (len(dodged) - 1) / 2)
        x = [(bits or 0) + shift for bits, _, _ in line.points]
        means, halves = [mean for _, mean, _ in line.points], [half for _, _, half in line.points]
        axes.errorbar(x, means, yerr=halves, markersize=4, capsize=2, **look, **style)


def _mark_dead(axes: Any, rows: Sequence[Row]) -> None:
    """A cross at the foot: a dead network has no accuracy."""
    bits = sorted({row.cell.bits for row in rows if row.status == "dead" and row.cell.bits is not None})
    if bits:
        axes.plot(bits, [0.03] * len(bits), transform=axes.get_xaxis_transform(), **_DEAD)


def _handles(lines: Sequence[Series], looks: Mapping[str, Mapping[str, str]], rows: Sequence[Row]) -> list[Any]:
    line_2d = require_package("matplotlib.lines", "matplotlib", _PURPOSE, _EXTRA).Line2D
    shots = sorted({line.shots for line in lines})
    found = [line_2d([], [], label=name, markersize=4, linewidth=1.2, **look) for name, look in looks.items()]
    for i, n in enumerate(shots):
        found.append(line_2d([], [], color="0.4", linestyle=_STYLES[i % len(_STYLES)], label=f"{n}-shot"))
    dead = [row.label for row in rows if row.status == "dead"]
    if dead:
        shown = ", ".join(dead[:_MOST_NAMED]) + ", ..." * (len(dead) > _MOST_NAMED)
        found.append(line_2d([], [], label=f"dead: {shown}", **_DEAD))
    return found
