"""The data of a report: every number that its page, its text and its JSON show, once.

Numbers that others report are theirs: the layer table (`reports.layer_report`), the costs (`artifacts.costs`), the
comparison with a float model (`reports.post_training`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pefslc.artifacts.costs import Clock, CostReport, LayerCost, MemoryBlock, Timeline
from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.model_report.distributions import Distribution
from pefslc.model_report.network import Network
from pefslc.model_report.step_curves import StepCurve
from pefslc.reports.clipped_inputs import ClippedInput
from pefslc.reports.layer_report import LayerRow
from pefslc.reports.post_training import PostTrainingReport
from pefslc.reports.saturation import rounded

__all__ = [
    "REPORT_FORMAT",
    "InputTensor",
    "LayerDetail",
    "MergedNode",
    "ModelReport",
    "OutputTensor",
    "RooflinePoint",
    "SumRange",
]

REPORT_FORMAT = 1  # of the JSON: counts up where a key changes its meaning


@dataclass(frozen=True, slots=True)
class SumRange:
    """What the sums of a layer can be, proved, and what they were on the given inputs; None without inputs."""

    low: int
    high: int
    seen_low: int | None = None
    seen_high: int | None = None

    def to_json(self) -> JsonObject:
        seen: Json = None if self.seen_low is None else [self.seen_low, self.seen_high]
        return {"proved": [self.low, self.high], "seen": seen}


@dataclass(frozen=True, slots=True)
class MergedNode:
    """A node of the file that became a part of a layer."""

    operator: str
    node: str

    def to_json(self) -> JsonObject:
        return {"operator": self.operator, "node": self.node}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDetail:
    """One layer.

    row      of the layer table
    merged   the nodes of the file between its sums and its codes, in order
    sums     of what adds up; None for other layers
    curve    how codes are made of sums; None where nothing is rounded, or nobody lists the steps
    weights  against their format; None without weights
    values   what its quantizer rounded on the given inputs, against its format; None without inputs, or a quantizer
    snr_db   signal to noise against the float model, of its codes; None where that is not measured, or nothing differs
    cost     index of its row of the costs; None where the target has none for it
    """

    row: LayerRow
    merged: tuple[MergedNode, ...] = ()
    sums: SumRange | None = None
    curve: StepCurve | None = None
    weights: Distribution | None = None
    values: Distribution | None = None
    snr_db: float | None = None
    cost: int | None = None

    @property
    def headroom_bits(self) -> int | None:
        """Of the accumulator: what is there beyond what every partial sum needs. Negative: it may overflow."""
        if self.row.accumulator_bits is None or self.row.available_bits is None:
            return None
        return self.row.available_bits - self.row.accumulator_bits

    def to_json(self) -> JsonObject:
        return {
            **self.row.to_json(),
            "headroom_bits": self.headroom_bits,
            "merged": [m.to_json() for m in self.merged],
            "sums": None if self.sums is None else self.sums.to_json(),
            "step_curve": None if self.curve is None else self.curve.to_json(),
            "weights": None if self.weights is None else self.weights.to_json(),
            "values": None if self.values is None else self.values.to_json(),
            "snr_db": None if self.snr_db is None else rounded(self.snr_db),
            "cost_row": self.cost,
        }


@dataclass(frozen=True, slots=True)
class InputTensor:
    """An input of the network: what the host hands over. `values` are those given, None without any."""

    name: str
    shape: tuple[int, ...]
    format: str
    values: Distribution | None = None

    def to_json(self) -> JsonObject:
        values = None if self.values is None else self.values.to_json()
        return {"name": self.name, "shape": list(self.shape), "format": self.format, "values": values}


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output of the network; the codes that can occur."""

    name: str
    shape: tuple[int, ...]
    low: int
    high: int

    def to_json(self) -> JsonObject:
        return {"name": self.name, "shape": list(self.shape), "codes": [self.low, self.high]}


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """A row of the costs in the roofline of the array.

    macs_per_byte   useful multiply-accumulates for each byte to or from DRAM; None where none moves
    macs_per_cycle  useful ones in each modelled cycle
    """

    cost: int
    macs_per_byte: float | None
    macs_per_cycle: float

    def to_json(self) -> JsonObject:
        per_byte = None if self.macs_per_byte is None else rounded(self.macs_per_byte)
        return {"cost_row": self.cost, "macs_per_byte": per_byte, "macs_per_cycle": rounded(self.macs_per_cycle)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What became of a model.

    version        of pefslc
    verdict        what was proved, in words
    quantized_to   what --fmt made another model of it by; "" where the file's own formats hold
    native_format  of the target's own rounding arithmetic, where the program computes in it; ""
    accumulator    what holds the sums, in words, and how many bits it has
    cycles         modelled, of the whole program; None where the target models none
    clock          what makes milliseconds of them; None where nobody knows
    given_rows     of the inputs that were given, and `seen_rows` of them were run; 0 without inputs
    float_model    against the float model, on inputs; None where there is none
    files          name -> bytes, of what a compile writes
    """

    version: str
    model: str
    target: str
    arch: str | None
    exact: bool
    exact_to: str
    verdict: str
    quantized_to: str
    native_format: str
    accumulator: str
    accumulator_bits: int
    macs: int
    cycles: int | None
    clock: Clock | None
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    layers: tuple[LayerDetail, ...]
    network: Network
    costs: CostReport | None
    bytes_per_cycle: int | None = None
    timelines: tuple[Timeline, ...] = ()
    begins: tuple[int | None, ...] = ()
    blocks: tuple[MemoryBlock, ...] = ()
    given_rows: int = 0
    seen_rows: int = 0
    clipped_inputs: tuple[ClippedInput, ...] = ()
    float_model: PostTrainingReport | None = None
    notes: tuple[str, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def milliseconds(self) -> float | None:
        """Of one run, modelled."""
        return None if self.clock is None or self.cycles is None else self.clock.milliseconds(self.cycles)

    @property
    def widest_accumulator(self) -> int:
        """The most bits that a partial sum needs; 0 where nothing is summed."""
        return max((layer.row.accumulator_bits or 0 for layer in self.layers), default=0)

    @property
    def overflowing_layers(self) -> int:
        """Layers whose sums are not proven to fit."""
        return sum(layer.row.may_overflow for layer in self.layers)

    def cost_of(self, layer: LayerDetail) -> LayerCost | None:
        """The row of the costs that it belongs to; several layers may be computed as one."""
        return None if layer.cost is None or self.costs is None else self.costs.layers[layer.cost]

    def layer_number(self, cost: int) -> str:
        """How charts call a row of the costs: the number, from 1, of its first layer; "" where it computes none."""
        return next((str(number) for number, layer in enumerate(self.layers, 1) if layer.cost == cost), "")

    @property
    def roofline(self) -> tuple[RooflinePoint, ...]:
        """The rows of the costs that multiply; none where the target models neither cycles nor DRAM."""
        if self.costs is None or self.bytes_per_cycle is None or self.costs.peak_macs is None:
            return ()
        found = []
        for number, cost in enumerate(self.costs.layers):
            if cost.useful_macs and cost.total_cycles:
                moved = sum(cost.bytes.values())
                per_byte = cost.useful_macs / moved if moved else None
                found.append(RooflinePoint(number, per_byte, cost.useful_macs / cost.total_cycles))
        return tuple(found)

    def to_json(self) -> JsonObject:
        """Every number, with the same keys whatever the target; null is what it does not model."""
        ms = self.milliseconds
        return {
            "report_format": REPORT_FORMAT,
            "pefslc": self.version,
            "model": self.model,
            "target": self.target,
            "arch": self.arch,
            "exact": self.exact,
            "exact_to": self.exact_to,
            "verdict": self.verdict,
            "quantized_to": self.quantized_to or None,
            "native_format": self.native_format or None,
            "accumulator": {"name": self.accumulator, "bits": self.accumulator_bits, "needed": self.widest_accumulator},
            "macs": self.macs,
            "modelled_cycles": self.cycles,
            "clock": None if self.clock is None else {"mhz": self.clock.mhz, "source": self.clock.source},
            "modelled_milliseconds": None if ms is None else rounded(ms),
            "modelled_frames_per_second": None if not ms else rounded(1e3 / ms),
            "inputs": [i.to_json() for i in self.inputs],
            "outputs": [o.to_json() for o in self.outputs],
            "layers": [layer.to_json() for layer in self.layers],
            "network": self.network.to_json(),
            "costs": None if self.costs is None else self.costs.to_json(),
            "cost_rows_begin": list(self.begins),
            "bytes_per_cycle": self.bytes_per_cycle,
            "roofline": [p.to_json() for p in self.roofline],
            "timelines": [t.to_json() for t in self.timelines],
            "buffers": [b.to_json() for b in self.blocks],
            "rows_given": self.given_rows,
            "rows_run": self.seen_rows,
            "clipped_inputs": [c.to_json() for c in self.clipped_inputs],
            "float_model": None if self.float_model is None else self.float_model.to_json(),
            "notes": list(self.notes),
            "files": dict(self.files),
        }
