"""Colours by their role, and matplotlib figures as small SVGs that take them from the page: light, dark, or printed.

matplotlib knows no style sheets. It draws each role in a colour that stands for it alone, and the SVG's text then names
the page's variable in its place. The bytes depend on the data and on the version of matplotlib alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "LIGHT",
    "ROLES",
    "Chart",
    "chart",
    "colour_of",
    "name_rows",
    "new_figure",
    "role_colours",
    "with_colours",
]

# Of the roles in figures; the style sheet has a variable --NAME for each, in light and in dark.
ROLES = ("text", "quiet", "line", "surface", "range", "weights", "values", "accent", "warn", "band")
KINDS = tuple(f"kind{number}" for number in range(8))  # what cycles go to
_STANDS_FOR = {role: f"#0{i:x}a{i:x}0{i:x}" for i, role in enumerate(ROLES)} | {
    role: f"#0{i:x}b{i:x}0{i:x}" for i, role in enumerate(KINDS)
}
# The same as page/report.css has it, for a picture that stands alone.
LIGHT: Mapping[str, str] = {
    "text": "#16202c", "quiet": "#4a5867", "line": "#c3ccd6", "surface": "#ffffff", "range": "#d5dee8",
    "weights": "#0b5cad", "values": "#b35900", "accent": "#0b5cad", "warn": "#b3261e", "band": "#f3f5f8",
    "kind0": "#0b5cad", "kind1": "#7fb2e5", "kind2": "#e08a1e", "kind3": "#b05fa0", "kind4": "#2a8f6d",
    "kind5": "#8cc9a9", "kind6": "#7a8794", "kind7": "#c9b53c",
}  # fmt: skip

_SETTINGS = {
    "svg.hashsalt": "pefslc",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "path.simplify": False,
    "text.parse_math": False,  # names may hold a dollar
}
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_FONT = re.compile(r"font: ([\d.]+)px [^;\"]*")
_ID = re.compile(r' id="([^"]+)"')
_USED = re.compile(r'(?:url\(#|xlink:href="#)([^)"]+)')
_UNITS = re.compile(r'width="[\d.]+pt" height="[\d.]+pt" viewBox="0 0 ([\d.]+) ([\d.]+)"')


@dataclass(frozen=True, slots=True)
class Chart:
    """An SVG that is a part of a page.

    name   unique in its page: ids in the SVG begin with it
    title  what it shows: its caption
    text   what is to be seen in it, for who does not see it
    """

    name: str
    title: str
    text: str
    svg: str

    def again(self, name: str, title: str, text: str) -> Chart:
        """The same drawing with another name and other words."""
        svg = self.svg.replace(f'"{self.name}-', f'"{name}-').replace(f"#{self.name}-", f"#{name}-")
        return Chart(name, title, text, svg.replace(_label(self.text), _label(text), 1))


def colour_of(role: str) -> str:
    """What matplotlib draws a role in."""
    return _STANDS_FOR[role]


@contextmanager
def role_colours() -> Iterator[None]:
    """matplotlib's settings while figures are drawn."""
    import matplotlib

    colours = {
        "text.color": colour_of("text"),
        "axes.edgecolor": colour_of("line"),
        "axes.labelcolor": colour_of("quiet"),
        "xtick.color": colour_of("line"),
        "ytick.color": colour_of("line"),
        "xtick.labelcolor": colour_of("quiet"),
        "ytick.labelcolor": colour_of("quiet"),
        "axes.facecolor": "none",
        "figure.facecolor": "none",
    }
    with matplotlib.rc_context({**_SETTINGS, **colours}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's fonts draw it
        yield


def chart(figure: Figure, name: str, title: str, text: str) -> Chart:
    """The figure as a part of a page; within `role_colours`.

    name  letters and digits
    """
    svg = _svg_text(figure, name)
    for role, stand_in in _STANDS_FOR.items():
        svg = svg.replace(stand_in, f"var(--{role})")
    return Chart(name, title, text, svg.replace("<svg ", f"<svg {_label(text)} ", 1))


def _label(text: str) -> str:
    return f'role="img" aria-label="{escape(text)}"'


def with_colours(svg: str, colours: Mapping[str, str]) -> str:
    """An SVG for itself, in these colours."""
    for role, colour in colours.items():
        svg = svg.replace(f"var(--{role})", colour)
    return svg


def new_figure(width: float, height: float) -> Any:
    """A figure of that size in points. Not by pyplot, which would keep it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    return figure


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """The names of rows 0, 1, ... from the top, at the left. matplotlib's own ticks take several times as long."""
    axes.yaxis.set_visible(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for place, name in enumerate(names):
        axes.text(
            -0.015, place, name, ha="right", va="center_baseline", transform=axes.get_yaxis_transform(),
            color=colour_of("text"),
        )  # fmt: skip


def grounds(axes: Any, spans: Sequence[tuple[float, float]]) -> None:
    """The ground of what lies between each two places, over the whole height.

    Like `steps`, it leaves the limits of the axes alone: to follow them takes matplotlib longer than to draw.
    """
    from matplotlib.collections import PolyCollection

    boxes = [[(a, 0), (b, 0), (b, 1), (a, 1)] for a, b in spans]
    transform = axes.get_xaxis_transform()
    axes.add_artist(PolyCollection(boxes, facecolors=colour_of("range"), alpha=0.5, linewidths=0, transform=transform))


def steps(axes: Any, values: Any, edges: Any, role: str, *, baseline: Any = 0, alpha: float = 1.0) -> None:
    """Values that are constant between each two edges, the space under them filled."""
    from matplotlib.patches import StepPatch

    axes.add_artist(
        StepPatch(values, edges, baseline=baseline, fill=True, color=colour_of(role), alpha=alpha, linewidth=0)
    )


def _svg_text(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    used = set(_USED.findall(svg))
    svg = _ID.sub(lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = _USED.sub(lambda found: found[0].replace(found[1], f"{name}-{found[1]}"), svg)
    svg = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = _FONT.sub(r"font-size: \1px", svg)
    size = _UNITS.search(svg)
    assert size is not None, "matplotlib writes another SVG"
    svg = svg.replace(size[0], f'viewBox="0 0 {size[1]} {size[2]}"', 1)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    svg = re.sub(r' (?:xmlns(?::xlink)?="[^"]*"|version="1.1")', "", svg).replace("xlink:href", "href")
    return svg.strip()
