"""The charts of one layer: its weights and its values over the codes of their formats, and how sums become codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import LayerDetail
from pefslc.model_report.step_curves import StepCurve
from pefslc.report_page.theme import Chart, chart, colour_of, grounds, new_figure, steps
from pefslc.reports.saturation import percent

__all__ = ["LayerSheet"]

_WIDTH, _HEIGHT = 225, 120  # points
_AXES = (0.12, 0.2, 0.85, 0.72)
_TOWERS = 3  # times the second highest bar: such a bar is cut, and says how high it is
_MOST_DIFFERING = 400  # codes that are marked
_MARGIN = 0.25  # of the steps' extent, to both sides


@dataclass(frozen=True, slots=True)
class _Steps:
    """All that is drawn of a step curve: equal ones are one drawing."""

    left: int
    right: int
    start: int
    at: tuple[int, ...]
    codes: tuple[int, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]
    seen: tuple[int, int] | None
    marked: tuple[int, ...]


class LayerSheet:
    """Axes on which the charts of all layers are drawn, one after the other: new ones would take twice the time.

    Within `theme.role_colours`.
    """

    def __init__(self) -> None:
        self._figure = new_figure(_WIDTH, _HEIGHT)
        self._axes = self._figure.add_axes(_AXES, autoscale_on=False)
        self._axes.spines[["top", "right", "left"]].set_visible(False)
        self._axes.xaxis.set_visible(False)  # labels are texts: matplotlib's ticks take several times as long
        self._axes.yaxis.set_visible(False)
        self._known: dict[_Steps, Chart] = {}

    def charts(self, layer: LayerDetail, number: int) -> tuple[Chart, ...]:
        """Of what is known of the layer."""
        found = []
        if layer.weights is not None:
            found.append(self._histogram(layer.weights, f"w{number}", "Weights", "weights"))
        if layer.values is not None:
            found.append(self._histogram(layer.values, f"v{number}", "Values before rounding", "values"))
        if layer.curve is not None:
            found.append(self._steps(layer, layer.curve, f"s{number}"))
        return tuple(found)

    def _clear(self) -> None:
        axes = self._axes
        for artist in (*axes.patches, *axes.lines, *axes.collections, *axes.texts):
            artist.remove()

    def _histogram(self, distribution: Distribution, name: str, what: str, role: str) -> Chart:
        """Counts over codes; the codes that the format has lie on a ground, what is outside of it saturates."""
        self._clear()
        axes, h, (low, high) = self._axes, distribution.histogram, distribution.codes
        edges = h.first - 0.5 + h.width * np.arange(len(h.counts) + 1)
        grounds(axes, [(low - 0.5, high + 0.5)])
        counts = np.array(h.counts)
        second, most = np.sort(np.append(counts, 0))[-2:].tolist()
        top = 1.45 * second if most > _TOWERS * second > 0 else 1.08 * most
        first, last = int((low - h.first) // h.width), int((high - h.first) // h.width) + 1
        inside = np.arange(len(counts))
        for part, colour in (
            ((first <= inside) & (inside < last), role),
            ((inside < first) | (inside >= last), "warn"),
        ):
            shown = np.where(part, counts, 0)
            if shown.any():
                steps(axes, shown, edges, colour)
        if top < most:
            tower = int(counts.argmax())
            right = tower < len(counts) / 2
            axes.text(
                edges[tower + 1 if right else tower], 0.97 * top, f" {percent(most / distribution.count)} ",
                ha="left" if right else "right", va="top", color=colour_of("quiet"),
            )  # fmt: skip
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, top)
        shown_codes = sorted({low, 0, high} | ({h.first} if h.first < low else set()))
        self._below(shown_codes, (edges[0], edges[-1]), f"codes of {distribution.format}")
        clipped = distribution.share(distribution.clipped)
        lost = f"{percent(clipped)} saturate" if clipped else "none saturates"
        text = (
            f"{what}: {distribution.count:,} from {distribution.low:.4g} to {distribution.high:.4g}, in "
            f"{distribution.format} of {distribution.held[0]:.4g} to {distribution.held[1]:.4g}; {lost}"
        )
        return chart(self._figure, name, f"{what}, {lost}", text)

    def _steps(self, layer: LayerDetail, curve: StepCurve, name: str) -> Chart:
        """The staircase of one channel where it climbs, and how far those of the others lie to its sides."""
        left, right = _climb(curve)
        seen = None
        if layer.sums is not None and layer.sums.seen_low is not None and layer.sums.seen_high is not None:
            seen = max(layer.sums.seen_low, left), min(layer.sums.seen_high, right)
        differing = sorted({d.first for deviations in layer.row.deviations for d in deviations.found})
        marked = tuple([d for d in differing if left <= d <= right][:_MOST_DIFFERING])
        merged = " \u2192 ".join([*curve.stages, "quantize"])
        which = f", channel {curve.channel} of {curve.channels}" if curve.channels > 1 else ""
        ends = (curve.start, *curve.codes)
        text = (
            f"Staircase {merged}{which}: accumulator codes {curve.low:,} to {curve.high:,} become codes {min(ends)} to "
            f"{max(ends)} in {len(curve.at) + curve.left_out} steps, drawn from {left:,} to {right:,}"
        )
        title = f"Staircase: {merged}{which}{'; red: sums of which a code differs' if marked else ''}"
        drawn = _Steps(left, right, curve.start, curve.at, curve.codes, curve.least, curve.most, seen, marked)
        known = self._known.get(drawn)  # many layers of a network have the same
        if known is not None:
            return known.again(name, title, text)
        self._draw_steps(drawn)
        self._known[drawn] = found = chart(self._figure, name, title, text)
        return found

    def _draw_steps(self, s: _Steps) -> None:
        self._clear()
        axes = self._axes
        codes = np.array(s.codes, dtype=np.int64)
        if s.seen is not None and s.seen[0] <= s.seen[1]:
            grounds(axes, [s.seen])
        if s.least:
            axes.fill_betweenx(codes, s.least, s.most, step="pre", color=colour_of("accent"), alpha=0.25, linewidth=0)
        x = np.array([s.left, *(min(max(at, s.left), s.right) for at in s.at), s.right])
        y = np.array([s.start, *s.codes, s.codes[-1] if s.codes else s.start])
        axes.step(x, y, where="post", color=colour_of("accent"), linewidth=1.1)
        low, high = int(y.min()), int(y.max())
        axes.set_xlim(s.left, s.right)
        axes.set_ylim(low - 0.06 * (high - low + 1), high + 0.08 * (high - low + 1))
        if s.marked:  # below the steps: of any channel, and the steps are of one
            axes.vlines(s.marked, 0, 0.1, transform=axes.get_xaxis_transform(), color=colour_of("warn"), linewidth=0.7)
        self._below(
            [s.left, 0, s.right] if s.left < 0 < s.right else [s.left, s.right], (s.left, s.right), "accumulator code"
        )
        for code in sorted({low, high}):
            axes.text(
                -0.015, code, f"{code:,}", transform=axes.get_yaxis_transform(), ha="right", va="center_baseline",
                color=colour_of("quiet"),
            )  # fmt: skip

    def _below(self, codes: Sequence[int], ends: tuple[float, float], what: str) -> None:
        """Codes under the axis, and under them what they are. The first and the last stay, and within; of the others
        those that touch none.
        """
        axes, reach = self._axes, ends[1] - ends[0]
        kept = [codes[0]]
        for code in codes[1:-1]:
            if min(code - kept[-1], codes[-1] - code) > 0.2 * reach:
                kept.append(code)
        transform, colour = axes.get_xaxis_transform(), colour_of("quiet")
        for code in (*kept, codes[-1]):
            place = (code - ends[0]) / reach
            side = "left" if place < 0.06 else "right" if place > 0.94 else "center"
            axes.text(code, -0.03, f"{code:,}", transform=transform, ha=side, va="top", color=colour)
        axes.text(0.5, -0.15, what, transform=axes.transAxes, ha="center", va="top", color=colour)


def _climb(curve: StepCurve) -> tuple[int, int]:
    """The accumulator codes between which it climbs in all channels, and some to both sides."""
    if not curve.at:
        return curve.low, max(curve.high, curve.low + 1)
    first = min(curve.at[0], *curve.least) if curve.least else curve.at[0]
    last = max(curve.at[-1], *curve.most) if curve.most else curve.at[-1]
    margin = max(2, round(_MARGIN * (last - first)))
    left, right = max(curve.low, first - margin), min(curve.high, last + margin)
    return left, max(right, left + 1)
