"""The tiles on top of the page: the network in a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pefslc.model_report.comparison import Change, Comparison
from pefslc.model_report.model import ModelReport
from pefslc.report_page.number_text import decibels

__all__ = ["Tile", "float_tiles", "tiles"]


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
