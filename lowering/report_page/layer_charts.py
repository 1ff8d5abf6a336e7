"""The charts of one layer: its weights and its values over the codes of their formats, and how sums become codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import LayerDetail
from pefslc.model_report.step_curves import StepCurve
from pefslc.report_page.theme import Chart, chart, colour_of, new_figure
from pefslc.reports.saturation import percent

__all__ = ["layer_charts"]

_WIDTH, _HEIGHT = 225, 120  # points
_AXES = (0.13, 0.2, 0.84, 0.72)


def layer_charts(layer: LayerDetail, number: int) -> tuple[Chart, ...]:
    """Of what is known of the layer; within `theme.role_colours`."""
    found = []
    if layer.weights is not None:
        found.append(_histogram(layer.weights, f"w{number}", "Weights", "weights"))
    if layer.values is not None:
        found.append(_histogram(layer.values, f"v{number}", "Values before they are rounded", "values"))
    if layer.curve is not None:
        found.append(_steps(layer, layer.curve, f"s{number}"))
    return tuple(found)


def _axes(figure: Any) -> Any:
    axes = figure.add_axes(_AXES)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _histogram(distribution: Distribution, name: str, what: str, role: str) -> Chart:
    """Counts over codes; the codes that the format has lie on a ground, what is outside of it saturates."""
    h, (low, high) = distribution.histogram, distribution.codes
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = _axes(figure)
    edges = h.first - 0.5 + h.width * np.arange(len(h.counts) + 1)
    axes.axvspan(low - 0.5, high + 0.5, color=colour_of("range"), alpha=0.55, linewidth=0)
    centres = (edges[:-1] + edges[1:]) / 2
    inside = (centres >= low - 0.5) & (centres <= high + 0.5)
    for part, colour in ((inside, role), (~inside, "warn")):
        counts = np.where(part, h.counts, 0)
        if counts.any():
            axes.stairs(counts, edges, fill=True, color=colour_of(colour), linewidth=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.05 * max(h.counts))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _code_ticks(axes, sorted({low, 0, high} | ({h.first} if h.first < low else set())), (edges[0], edges[-1]))
    axes.set_xlabel(f"codes of {distribution.format}", labelpad=1)
    clipped = distribution.share(distribution.clipped)
    lost = f"; {percent(clipped)} saturate" if clipped else "; none saturates"
    text = (
        f"{what}: {distribution.count:,} from {distribution.low:.4g} to {distribution.high:.4g}, in {distribution.format} "
        f"of {distribution.held[0]:.4g} to {distribution.held[1]:.4g}{lost}"
    )
    return chart(figure, name, what, text)


def _steps(layer: LayerDetail, curve: StepCurve, name: str) -> Chart:
    """The staircase of one channel, and how far those of the others lie to its sides."""
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = _axes(figure)
    start, at, codes = curve.start, np.array(curve.at), np.array(curve.codes)
    if layer.sums is not None and layer.sums.seen_low is not None:
        axes.axvspan(layer.sums.seen_low, layer.sums.seen_high, color=colour_of("range"), alpha=0.55, linewidth=0)
    if curve.least:
        axes.fill_betweenx(codes, curve.least, curve.most, step="pre", color=colour_of("accent"), alpha=0.22, linewidth=0)
    x = np.concatenate([[curve.low], at, [curve.high]])
    y = np.concatenate([[start], codes, [codes[-1] if len(codes) else start]])
    axes.step(x, y, where="post", color=colour_of("accent"), linewidth=1.1)
    for deviations in layer.row.deviations:
        differing = sorted({d.first for d in deviations.found})[:400]
        if differing:
            reached = [_code_at(curve, first) for first in differing]
            axes.plot(differing, reached, linestyle="", marker="o", markersize=2.2, color=colour_of("warn"))
    axes.set_xlim(curve.low, curve.high)
    low, high = int(y.min()), int(y.max())
    axes.set_ylim(low - 0.04 * (high - low + 1), high + 0.06 * (high - low + 1))
    _code_ticks(axes, [curve.low, 0, curve.high], (curve.low, curve.high))
    axes.set_yticks(sorted({low, high}))
    axes.set_xlabel("accumulator code", labelpad=1)
    merged = " \u2192 ".join([*curve.stages, "quantize"])
    which = f", channel {curve.channel} of {curve.channels}" if curve.channels > 1 else ""
    text = (
        f"Staircase {merged}{which}: accumulator codes {curve.low:,} to {curve.high:,} become codes {low} to {high} "
        f"in {len(at) + curve.left_out} steps"
    )
    return chart(figure, name, f"Staircase: {merged}{which}", text)


def _code_at(curve: StepCurve, code: int) -> int:
    before = int(np.searchsorted(np.array(curve.at), code, side="right"))
    return curve.codes[before - 1] if before else curve.start


def _code_ticks(axes: Any, codes: Sequence[int], ends: tuple[float, float]) -> None:
    """Ticks at these codes, without those whose labels would touch; the first and the last stay."""
    reach = ends[1] - ends[0]
    kept = [codes[0]]
    for code in codes[1:-1]:
        if min(code - kept[-1], codes[-1] - code) > 0.16 * reach:
            kept.append(code)
    axes.set_xticks([*kept, codes[-1]])
    axes.set_xticklabels([f"{code:,}" for code in (*kept, codes[-1])])
