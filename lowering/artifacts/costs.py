"""What a program costs, layer by layer: cycles, bytes, memory, instructions. What a target does not model is left out.

Cycles are modelled, never measured: every text and every key that shows them says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pefslc.artifacts.footprint import Footprint
from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.html_table import html_heading, html_table, html_text
from pefslc.geometry.dilation_phases import phases
from pefslc.geometry.shapes import element_count
from pefslc.ir.integer import Conv2d, Dense
from pefslc.ir.value import Op

__all__ = [
    "Clock",
    "CostReport",
    "Costs",
    "LayerCost",
    "MemoryBlock",
    "MemorySize",
    "PartCost",
    "Timeline",
    "is_cost_report",
    "macs",
    "useful_macs",
]


def macs(op: Op) -> int:
    """Multiply-accumulates of one operation, zeros between pixels left out; 0 for what has no weights."""
    match op:
        case Conv2d():
            parts = phases(op.window, *op.input.type.shape[2:])
            taps = sum(len(p.rows) * len(p.columns) * len(p.tap_rows) * len(p.tap_columns) for p in parts)
            return taps * _per_tap(op)
        case Dense():
            return element_count(op.result.type.shape) * element_count(op.weight.shape[1:])
        case _:
            return 0


def useful_macs(op: Op) -> int:
    """`macs` without those that multiply the padding."""
    match op:
        case Conv2d():
            return op.window.inside(*op.input.type.shape[2:]) * _per_tap(op)
        case _:
            return macs(op)


def _per_tap(op: Conv2d) -> int:
    """Multiply-accumulates of one tap at one position: of all images, inputs and outputs."""
    return op.result.type.shape[0] * element_count(op.weight.shape[:2])


@dataclass(frozen=True, slots=True)
class MemorySize:
    """A memory of the accelerator, or a C program's working memory, and how much of it there is."""

    name: str
    unit: str
    available: int


@dataclass(frozen=True, slots=True)
class Clock:
    """What makes times of cycles, and where it is from: "--clock-mhz", or a published design."""

    mhz: float
    source: str

    def milliseconds(self, cycles: int) -> float:
        return cycles / (self.mhz * 1e3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What a run does to one memory, over time: how much of it holds data that is needed later, or how much is moved.

    unit       of the values: "vectors", "bytes"; of what moves, in each of the equal intervals
    moves      whether the values are amounts moved, and not held
    time_unit  "modelled cycles", or "steps" of a program whose time is not modelled
    end        when the run ends; the values belong to as many equal parts of [0, end]
    """

    memory: str
    unit: str
    moves: bool
    time_unit: str
    end: int
    values: tuple[int, ...]

    def to_json(self) -> JsonObject:
        return {
            "memory": self.memory,
            "unit": self.unit,
            "kind": "moved" if self.moves else "held",
            "time_unit": self.time_unit,
            "end": self.end,
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBlock:
    """A buffer of a C program's working memory: bytes [offset, offset + size) of `memory`, in steps [first, last]."""

    memory: str
    name: str
    offset: int
    size: int
    first: int
    last: int

    def to_json(self) -> JsonObject:
        return {
            "memory": self.memory,
            "buffer": self.name,
            "offset": self.offset,
            "bytes": self.size,
            "first_step": self.first,
            "last_step": self.last,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCost:
    """What a target says about a part of its program.

    ops           the operations that it computes, by their results' names
    what          says what it is, where it computes none
    cycles        modelled, by what they go to; empty where the target models none
    bytes         moved to or from a memory that is not on the accelerator, or held as constants: the key says which
    peaks         by memory: the most that holds data needed later, at one moment, in the memory's unit
    instructions  of the accelerator; None where the target counts none
    begins        the modelled cycle at which its first instruction is issued; None where the target models none
    """

    ops: tuple[str, ...] = ()
    what: str = ""
    cycles: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    peaks: Mapping[str, int] = field(default_factory=dict)
    instructions: int | None = None
    begins: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a target says about its program.

    arch             the architecture, None where the target has none
    peak_macs        what its array can do in a cycle
    clock_mhz        what makes times of cycles, None where the user named none
    clock            the user's, else the usual one of the architecture; None where nobody knows it
    bytes_per_cycle  what the bus to DRAM moves at most in a cycle
    timelines        of the memories, over a run
    blocks           where the buffers of working memory lie
    footprint        of a program in C
    """

    parts: tuple[PartCost, ...]
    arch: str | None = None
    clock_mhz: float | None = None
    memories: tuple[MemorySize, ...] = ()
    peak_macs: int | None = None
    clock: Clock | None = None
    bytes_per_cycle: int | None = None
    timelines: tuple[Timeline, ...] = ()
    blocks: tuple[MemoryBlock, ...] = ()
    footprint: Footprint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One row of the report: layers that are computed as one, or the total.

    layer        the names of the layer table, joined by " + "
    nodes        the ONNX nodes
    macs         multiply-accumulates as ONNX counts them
    useful_macs  those of them that multiply an input and not padding
    others       as in PartCost
    """

    layer: str
    nodes: tuple[str, ...] = ()
    macs: int = 0
    useful_macs: int = 0
    cycles: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    peaks: Mapping[str, int] = field(default_factory=dict)
    instructions: int | None = None

    @property
    def total_cycles(self) -> int | None:
        """Modelled, of all kinds."""
        return sum(self.cycles.values()) if self.cycles else None

    @classmethod
    def total(cls, layers: Sequence[LayerCost]) -> LayerCost:
        """All layers: sums, and the largest of the peaks."""
        counted = [c.instructions for c in layers if c.instructions is not None]
        return cls(
            layer="total",
            macs=sum(c.macs for c in layers),
            useful_macs=sum(c.useful_macs for c in layers),
            cycles=_merged((c.cycles for c in layers), sum),
            bytes=_merged((c.bytes for c in layers), sum),
            peaks=_merged((c.peaks for c in layers), max),
            instructions=sum(counted) if counted else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Where a program's cycles, bytes and memory go. The layers' numbers add up to the total's exactly; peaks do not.

    arch       the architecture, None where the target has none
    peak_macs  multiply-accumulates that the array can do in a cycle, None where the target models no cycles
    clock_mhz  what the user gave: cycles become milliseconds
    footprint  of a program in C
    """

    model: str
    target: str
    arch: str | None
    layers: tuple[LayerCost, ...]
    memories: tuple[MemorySize, ...] = ()
    peak_macs: int | None = None
    clock_mhz: float | None = None
    footprint: Footprint | None = None

    @property
    def total(self) -> LayerCost:
        return LayerCost.total(self.layers)

    def peak_share(self, cost: LayerCost) -> float | None:
        """Useful MACs / (modelled cycles x what the array can do in a cycle), 0 to 1."""
        if self.peak_macs is None or not cost.total_cycles:
            return None
        return cost.useful_macs / (cost.total_cycles * self.peak_macs)

    def milliseconds(self, cost: LayerCost) -> float | None:
        """The modelled cycles at the clock that was given; None where none was."""
        if self.clock_mhz is None or cost.total_cycles is None:
            return None
        return cost.total_cycles / (self.clock_mhz * 1e3)

    def __repr__(self) -> str:
        where = self.target if self.arch is None else f"{self.target} ({self.arch})"
        total = self.total
        cycles = "" if total.total_cycles is None else f", {total.total_cycles:,} modelled cycles"
        return f"<CostReport {self.model!r} on {where}: {len(self.layers)} rows, {total.macs:,} MACs{cycles}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row for each layer and the total, a column for whatever the target models."""
        total, rows = self.total, [*self.layers, self.total]
        columns: list[tuple[str, list[str]]] = [("layer", [row.layer for row in rows])]
        columns.append(("MACs", [f"{row.macs:,}" for row in rows]))
        if total.total_cycles is not None:
            columns.append(("modelled cycles", [f"{row.total_cycles or 0:,}" for row in rows]))
            columns += [(kind, [f"{row.cycles.get(kind, 0):,}" for row in rows]) for kind in total.cycles]
            shares = [self.peak_share(row) for row in rows]
            columns.append(("of the array's peak", ["" if share is None else f"{share:.0%}" for share in shares]))
        if self.clock_mhz is not None:
            columns.append((f"ms at {self.clock_mhz:g} MHz", [f"{self.milliseconds(row) or 0:.3f}" for row in rows]))
        columns += [(f"{key}, bytes", [f"{row.bytes.get(key, 0):,}" for row in rows]) for key in total.bytes]
        for m in self.memories:
            columns.append((f"{m.name}, {m.unit} of {m.available:,}", [f"{r.peaks.get(m.name, 0):,}" for r in rows]))
        if total.instructions is not None:
            columns.append(("instructions", [f"{row.instructions or 0:,}" for row in rows]))
        header, cells = [name for name, _ in columns], list(zip(*(found for _, found in columns), strict=True))
        table = html_table(header, cells, right=frozenset(range(1, len(header))))
        lines = () if self.footprint is None else self.footprint.lines()
        return f"{html_heading(repr(self)[1:-1])}{table}{''.join(map(html_text, lines))}"

    def to_json(self) -> JsonObject:
        """The report as JSON. Keys of cycles say that they are modelled; of times, too."""
        return {
            "model": self.model,
            "target": self.target,
            "arch": self.arch,
            "clock_mhz": self.clock_mhz,
            "peak_macs_per_cycle": self.peak_macs,
            "memories": [{"name": m.name, "unit": m.unit, "available": m.available} for m in self.memories],
            "footprint": None if self.footprint is None else self.footprint.to_json(),
            "layers": [self._row(cost) for cost in self.layers],
            "total": self._row(self.total),
        }

    def _row(self, cost: LayerCost) -> JsonObject:
        return {
            "layer": cost.layer,
            "nodes": list(cost.nodes),
            "macs": cost.macs,
            "useful_macs": cost.useful_macs,
            "modelled_cycles": cost.total_cycles,
            "modelled_cycles_by_kind": dict(cost.cycles),
            "modelled_milliseconds": _digits(self.milliseconds(cost)),
            "share_of_array_peak": _digits(self.peak_share(cost)),
            "bytes": dict(cost.bytes),
            "peaks": dict(cost.peaks),
            "instructions": cost.instructions,
        }


def _digits(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def _merged(found: Iterable[Mapping[str, int]], how: Callable[[list[int]], int]) -> dict[str, int]:
    """Key by key, in the order of their first appearance."""
    values: dict[str, list[int]] = {}
    for mapping in found:
        for key, value in mapping.items():
            values.setdefault(key, []).append(value)
    return {key: how(numbers) for key, numbers in values.items()}


def is_cost_report(content: bytes) -> bool:
    """Whether a file's content is a report, of this or an earlier version: no other file may be replaced by one."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.keys() >= {"model", "target", "peak_macs_per_cycle", "layers", "total"}
