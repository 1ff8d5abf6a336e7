"""One HTML file: it asks for nothing else, opens from a disk, prints, and is read aloud."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import jinja2

from pefslc.model_report.comparison import PAGE_DATA, Change, Comparison
from pefslc.model_report.model import ModelReport
from pefslc.model_report.report_file import report_content
from pefslc.report_page.cost_charts import cost_bars, kinds_of, roofline
from pefslc.report_page.layer_charts import LayerSheet
from pefslc.report_page.layer_rows import LayerRow
from pefslc.report_page.memory_charts import memory_charts
from pefslc.report_page.network_picture import draw_network
from pefslc.report_page.number_text import decibels
from pefslc.report_page.range_charts import range_charts
from pefslc.report_page.theme import KINDS, role_colours
from pefslc.report_page.tiles import float_tiles, tiles
from pefslc.reports.saturation import percent

__all__ = ["report_page"]

# Of 16 by 16: a tick, a wave, an exclamation mark.
_ICONS = {
    "exact": "M6.3 12.6 1.9 8.2l1.6-1.6 2.8 2.8 6.2-6.2 1.6 1.6z",
    "bounded": "M1.6 9.6C2.8 5.4 6.2 5 8.4 6.9c1.7 1.5 3.3 1 4.2-1.3l1.9.8c-1.5 3.9-4.8 4.6-7.4 2.3-1.4-1.2-2.8-.9-3.5 1.5z",  # noqa: E501
    "overflow": "M7 2h2.2l-.3 7.2H7.3zM7 10.7h2.2v2.2H7z",
}


@dataclass(frozen=True, slots=True)
class _Badge:
    """What was proved, as a word, a picture and a colour."""

    kind: str
    word: str

    @property
    def icon(self) -> str:
        return _ICONS[self.kind]


@dataclass(frozen=True, slots=True)
class _KindShare:
    name: str
    role: str
    share: str


def report_page(report: ModelReport, against: Comparison | None = None) -> bytes:
    """The page, UTF-8. The same report gives the same bytes, with one version of matplotlib and of graphlay."""
    content = json.dumps(report_content(report, against), allow_nan=False, separators=(",", ":"))
    with role_colours():
        sheet = LayerSheet()
        layers = [LayerRow.of(report, n, sheet.charts(layer, n)) for n, layer in enumerate(report.layers, 1)]
        text = _template().render(
            r=report,
            where=report.target if report.arch is None else f"{report.target} ({report.arch})",
            badge=_badge(report),
            icons=_ICONS,
            tiles=tiles(report, against),
            against=against,
            graph=draw_network(report),
            costs=cost_bars(report),
            kinds=_kinds(report),
            roofline=roofline(report),
            memories=memory_charts(report),
            ranges=range_charts(report),
            float_tiles=float_tiles(report),
            layers=layers,
            css=_file("report.css"),
            js=_file("report.js"),
            data_tag=PAGE_DATA,
            data=content.replace("<", "\\u003c"),
        )
    return text.encode()


def _badge(report: ModelReport) -> _Badge:
    if report.overflowing_layers and not report.native_format:
        return _Badge("overflow", "may overflow")
    return _Badge("exact", "exact") if report.exact else _Badge("bounded", "bounded")


def _kinds(report: ModelReport) -> tuple[_KindShare, ...]:
    """The legend of the bars."""
    if report.costs is None or not report.costs.total.total_cycles:
        return ()
    cycles, total = report.costs.total.cycles, report.costs.total.total_cycles
    named = zip(kinds_of(report.costs), KINDS, strict=False)
    return tuple(_KindShare(kind, role, f"{cycles[kind] / total:.0%}") for kind, role in named)


def _number(value: float) -> str:
    """Whole numbers with their thousands; others with four digits."""
    return f"{value:,}" if isinstance(value, int) or float(value).is_integer() else f"{value:,.4g}"


def _delta(change: Change) -> str:
    if change.before == change.after:
        return "same"
    if change.unit == "dB" or change.ratio is None:
        return f"{change.after - change.before:+,.4g}"
    return f"{change.ratio - 1:+.1%}"


@cache
def _template() -> jinja2.Template:
    filters: Mapping[str, Callable[..., str]] = {
        "number": _number,
        "delta": _delta,
        "percent": percent,
        "decibels": decibels,
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters.update(filters)
    return environment.from_string(_file("report.html.j2"))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")
