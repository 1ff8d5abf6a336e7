"""What the page says in words and numbers: the tiles on top, and of each layer its row and what the row opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite

from pefslc.model_report.comparison import Change, Comparison
from pefslc.model_report.distributions import Distribution
from pefslc.model_report.model import LayerDetail, ModelReport
from pefslc.report_page.theme import Chart
from pefslc.reports.saturation import percent

__all__ = ["Layer", "Tile", "decibels", "float_tiles", "tiles"]


@dataclass(frozen=True, slots=True)
class Delta:
    """Against another report."""

    text: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the summary: what it is, the number, its unit, and what else is to be said."""

    what: str
    number: str
    unit: str = ""
    more: str = ""
    delta: Delta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
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
    def of(cls, report: ModelReport, number: int, charts: tuple[Chart, ...]) -> Layer:
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


def times(shape: tuple[int, ...]) -> str:
    """16x32x32, with the sign."""
    return "\u00d7".join(map(str, shape)) or "1"


def tiles(report: ModelReport, against: Comparison | None) -> tuple[Tile, ...]:
    """The summary."""
    changes = {} if against is None else {change.name: change for change in against.totals}
    return tuple(_tiles(report, changes))


def _tiles(report: ModelReport, changes: dict[str, Change]) -> Iterator[Tile]:
    def delta(name: str) -> Delta | None:
        change = changes.get(name)
        if change is None or change.verdict == "same" or change.ratio is None:
            return None
        return Delta(f"{change.ratio - 1:+.1%}", change.verdict)

    ms = report.milliseconds
    if ms and report.clock is not None:
        more = f"{1e3 / ms:,.1f} frames a second at {report.clock.mhz:g} MHz, modelled"
        yield Tile("one run", f"{ms:,.3f}", "ms", more, delta("modelled time"))
    if report.cycles is not None:
        costs = report.costs
        share = None if costs is None else costs.peak_share(costs.total)
        more = "" if share is None else f"{share:.0%} of the array's peak"
        yield Tile("modelled cycles", f"{report.cycles:,}", "", more, delta("modelled cycles"))
    if report.costs is not None:
        yield from _memory_tiles(report, delta)
        yield from _footprint_tiles(report, delta)
    saturate = "; sums saturate" if report.native_format and report.overflowing_layers else ""
    bits = f"of {report.accumulator_bits} bits there{saturate}"
    yield Tile("widest sum", str(report.widest_accumulator), "bits", bits, delta("widest accumulator"))
    unit, number = ("MMAC", report.macs / 1e6) if report.macs >= 10_000 else ("MAC", report.macs)
    layers = f"in {len(report.layers)} layers"
    yield Tile(
        "work", f"{number:,.2f}" if unit == "MMAC" else str(report.macs), unit, layers, delta("multiply-accumulates")
    )


def _memory_tiles(report: ModelReport, delta: Callable[[str], Delta | None]) -> Iterator[Tile]:
    """What a run moves, and what it holds: of an accelerator shares of what is there, of C code bytes."""
    assert report.costs is not None
    total = report.costs.total
    moved = {name: number for name, number in total.bytes.items() if number}
    if report.cycles is None:
        for name, number in moved.items():
            yield Tile(name, f"{number:,}", "bytes", "in the program", delta(name))
    elif moved:
        more = ", ".join(f"{name} {number / 1000:,.1f}" for name, number in moved.items())
        only = delta(next(iter(moved))) if len(moved) == 1 else None
        yield Tile("moved, each run", f"{sum(moved.values()) / 1000:,.1f}", "kB", more, only)
    shares = []
    for memory in report.costs.memories:
        used = total.peaks.get(memory.name, 0)
        if memory.unit == "bytes":  # all of it is the program's
            yield Tile("working memory", f"{memory.available:,}", "bytes", "", delta("working memory"))
        elif memory.available:
            shares.append((memory.name, used / memory.available, f"{used:,} of {memory.available:,} {memory.unit}"))
    if shares:
        (name, share, text), *others = shares
        rest = "".join(f"; {other} {part:.0%}" for other, part, _ in others)
        yield Tile(f"{name} memory in use", f"{share:.0%}", "", f"{text} at most{rest}", delta(f"{name}, at most"))


def _footprint_tiles(report: ModelReport, delta: Callable[[str], Delta | None]) -> Iterator[Tile]:
    """What a program in C takes of a chip, as far as it is known here."""
    footprint = None if report.costs is None else report.costs.footprint
    if footprint is None:
        return
    parts = ", ".join(f"{name} {size:,}" for name, size in footprint.ram.items())
    yield Tile("RAM without stack", f"{footprint.ram_bytes:,}", "bytes", parts, delta("RAM without stack"))
    measured = footprint.compiled
    if measured is not None:
        stack = "" if measured.stack_bytes is None else f"{measured.stack_bytes:,} bytes of stack; "
        yield Tile("code", f"{measured.code_bytes:,}", "bytes", f"{stack}by {measured.command}", delta("code"))


def float_tiles(report: ModelReport) -> tuple[Tile, ...]:
    """Errors, signal to noise and accuracy against a float model."""
    measured = report.float_model
    if measured is None:
        return ()
    found = []
    for name, noise in measured.outputs.items():
        found.append(Tile(f"signal to noise of {name}", decibels(noise.snr_db), "dB", f"on {measured.rows:,} inputs"))
    for error in measured.distance.errors:
        found.append(
            Tile(f"largest error of {error.output}", f"{error.largest:.4g}", "", f"of values up to {error.reach:.4g}")
        )
        found.append(Tile(f"rms error of {error.output}", f"{error.rms:.4g}"))
    if measured.accuracy is not None:
        a = measured.accuracy
        right = a.quantized_right / max(a.count, 1)
        more = f"float {a.float_right / max(a.count, 1):.1%}; the same class for {a.same:,} of {a.count:,}"
        found.append(Tile("top-1 accuracy", f"{right:.1%}", "", more))
    return tuple(found)


def decibels(value: float) -> str:
    """One digit after the point; infinite where nothing differs."""
    return f"{value:.1f}" if isfinite(value) else "\u221e" if value > 0 else "\u2212\u221e"


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
