"""The rows of the page's layer table, and what each row opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import LayerDetail, ModelReport
from pefslc.report_page.number_text import decibels, times
from pefslc.report_page.theme import Chart
from pefslc.reports.saturation import percent

__all__ = ["LayerRow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """A row of the layer table. `facts` are pairs (name, text) of what it opens."""

    number: int
    name: str
    op: str
    shape: str
    formats: str
    needed: int | None
    available: int | None
    filled: int
    over: bool
    headroom: str
    exact: bool
    macs: int
    cycles: int | None
    share: float
    facts: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...]

    @classmethod
    def of(cls, report: ModelReport, number: int, charts: tuple[Chart, ...]) -> LayerRow:
        detail = report.layers[number - 1]
        row = detail.row
        most = max((other.row.cycles or 0 for other in report.layers), default=0)
        weight = f", {row.weight}" if row.weight else ""
        filled = 0
        if row.accumulator_bits is not None and row.available_bits is not None:
            filled = min(100, round(100 * row.accumulator_bits / row.available_bits))
        return cls(
            number=number,
            name=row.layer,
            op=row.op,
            shape=times(row.shape[1:]),
            formats=f"{row.input}{weight} \u2192 {row.output}",
            needed=row.accumulator_bits,
            available=row.available_bits,
            filled=filled,
            over=row.may_overflow,
            headroom=_headroom(report, detail),
            exact=row.exact,
            macs=row.macs,
            cycles=row.cycles,
            share=round(100 * (row.cycles or 0) / most, 1) if most else 0,
            facts=tuple(_facts(report, detail)),
            charts=charts,
        )


def _headroom(report: ModelReport, detail: LayerDetail) -> str:
    left = detail.headroom_bits
    if left is None:
        return ""
    if left < 0:
        ends = "saturate" if report.native_format else "overflow"
        return f"{-left} bit{'' if left == -1 else 's'} too few: sums may {ends}"
    return f"{left} bit{'' if left == 1 else 's'} of headroom, proved"


def _facts(report: ModelReport, detail: LayerDetail) -> Iterator[tuple[str, str]]:
    row = detail.row
    yield "operation", f"{row.op}, {times(row.shape)}"
    if row.implementation:
        yield "done as", row.implementation
    yield "formats", f"{row.input}{f', weights {row.weight}' if row.weight else ''} \u2192 {row.output}"
    if detail.merged:
        yield "merged in", ", ".join(f"{m.operator} {m.node}" for m in detail.merged)
    if detail.headroom_bits is not None:
        yield "accumulator", f"{row.accumulator_bits} of {row.available_bits} bits: {_headroom(report, detail)}"
    if detail.sums is not None:
        yield "sums, proved", f"{detail.sums.low:,} to {detail.sums.high:,}"
        if detail.sums.seen_low is not None:
            yield "sums, seen", f"{detail.sums.seen_low:,} to {detail.sums.seen_high:,}"
    for name, distribution in (("weights", detail.weights), ("values", detail.values)):
        if distribution is not None:
            yield from _distribution_facts(name, distribution)
    if detail.snr_db is not None:
        yield "signal to noise", f"{decibels(detail.snr_db)} dB against the float model"
    for deviations in row.deviations:
        yield "bounded", str(deviations)
    if row.macs:
        yield "MACs", f"{row.macs:,}"
    cost = report.cost_of(detail)
    if cost is None:
        return
    shared = [n for n, other in enumerate(report.layers, 1) if other.cost == detail.cost]
    if len(shared) > 1:
        yield "computed as one", f"layers {', '.join(map(str, shared))}: what follows is of all of them"
    if cost.total_cycles is not None:
        kinds = sorted(cost.cycles.items(), key=lambda kind: -kind[1])
        yield "modelled cycles", f"{cost.total_cycles:,}: {', '.join(f'{kind} {number:,}' for kind, number in kinds)}"
        share = report.costs.peak_share(cost) if report.costs is not None else None
        if share:
            yield "of the array's peak", f"{share:.1%}"
    for key, number in cost.bytes.items():
        if number:
            yield f"{key}", f"{number:,} bytes"
    for key, number in cost.peaks.items():
        yield f"{key}, at most", f"{number:,}"
    if cost.instructions:
        yield "instructions", f"{cost.instructions:,}"


def _distribution_facts(name: str, d: Distribution) -> Iterator[tuple[str, str]]:
    yield (
        name,
        f"{d.count:,} in {d.low:.4g} to {d.high:.4g}, deviation {d.deviation:.4g}; {percent(d.share(d.zeros))} are 0",
    )
    held = f"{d.format} holds {d.held[0]:.4g} to {d.held[1]:.4g} in steps of {d.step:.4g}"
    lost = []
    if d.clipped:
        lost.append(f"{percent(d.share(d.clipped))} saturate")
    if d.vanished:
        lost.append(f"{percent(d.share(d.vanished))} become 0")
    if d.idle_bits >= 1:
        lost.append(f"{d.idle_bits:.0f} bit{'' if d.idle_bits == 1 else 's'} of its range unused")
    yield f"{name}' format", "; ".join([held, *lost])
